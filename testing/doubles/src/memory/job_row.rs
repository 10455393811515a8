//! A row of the table of jobs.

use std::time::Duration;

use duologue_engine::store::{Job, JobEnd, ServerId};
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

    pub(super) fn claim(&mut self, worker: &ServerId, lease_duration: Duration) {
        self.attempt += 1;
        self.worker = Some(worker.clone());
        self.due_at = Instant::now() + lease_duration;
    }

    /// The job as its worker has it, if it has one.
    pub(super) fn job(&self, id: i64) -> Option<Job> {
        Some(Job {
            id,
            session_id: self.session_id.clone(),
            user_id: self.user_id.clone(),
            last_seq: self.last_seq,
            worker: self.worker.clone()?,
            attempt: self.attempt,
            uncounted: self.uncounted,
        })
    }
}
