//! What the first frame of every connection states about the session.

use duologue_protocol::{
    ErrorCode, ErrorFrame, Event, EventBody, LogId, Seq, ServerFrame, SessionOpened,
};

use crate::{error_frames::refusal, session::position::Position, store::Lease};

/// Facts of the session that do not change while it is open.
pub(super) struct SessionFacts {
    /// The name of the agent that answers.
    pub(super) agent: String,
    /// Names the history that the log is.
    pub(super) log_id: LogId,
}

impl SessionFacts {
    /// The first frame of a connection to a session that existed before.
    pub(super) fn resumed_frame(&self, lease: &Lease, last_seq: Seq) -> ServerFrame {
        ServerFrame::Opened(SessionOpened {
            seq: None,
            occurred_at: None,
            session_id: lease.session_id.clone(),
            user_id: lease.user_id.clone(),
            agent: self.agent.clone(),
            log_id: self.log_id.clone(),
            resumed: true,
            last_seq,
            message_bytes_max: None,
        })
    }

    /// The frame that a new reader receives for an event of its arrival.
    pub(super) fn arrival_frame(&self, event: Event) -> ServerFrame {
        match event.body {
            EventBody::SessionStarted(started) => ServerFrame::Opened(SessionOpened::new_session(
                event.seq,
                event.occurred_at,
                started,
                self.log_id.clone(),
            )),
            _ => ServerFrame::Event(event),
        }
    }

    /// What a client receives whose position is not in this log.
    pub(super) fn unknown_position(
        &self,
        position: &Position,
        last_seq: Seq,
    ) -> Option<ErrorFrame> {
        let message = position.mismatch(&self.log_id, last_seq)?;
        Some(refusal(ErrorCode::UnknownPosition, message, None))
    }
}
