//! A row of the table of jobs.

use duologue_engine::store::{JobEnd, ServerId};
use duologue_protocol::{Seq, SessionId, UserId};
use tokio::time::Instant;

use super::session::Session;

pub(super) struct JobRow {
    pub(super) session_id: SessionId,
    pub(super) user_id: UserId,
    pub(super) last_seq: Seq,
    pub(super) attempt: u32,
    pub(super) uncounted: u32,
    pub(super) worker: Option<ServerId>,
    /// When it may be claimed next: at once, after a delay, or when its worker's lease lapses.
    pub(super) due_at: Instant,
    pub(super) outcome: Option<JobEnd>,
    pub(super) last_error: Option<String>,
}

impl JobRow {
    pub(super) fn new(session: &Session) -> Self {
        Self {
            session_id: session.record.session_id.clone(),
            user_id: session.record.user_id.clone(),
            last_seq: session.record.last_seq,
            attempt: 0,
            uncounted: 0,
            worker: None,
            due_at: Instant::now(),
            outcome: None,
            last_error: None,
        }
    }
}
