//! How a session ends, and how one is let go of without ending.

use duologue_protocol::{
    EndReason, ErrorCode, ErrorFrame, EventBody, FinishReason, ServerFrame, SessionEnded,
};
use tokio::time::Instant;

use crate::{
    log::Entry,
    session::{Exit, Session, Step},
};

impl Session {
    /// Ends the session now, or as soon as the running turn has been stopped.
    pub(super) async fn request_end(&mut self, reason: EndReason) -> Step {
        match &mut self.turn {
            None => self.end(reason).await,
            Some(turn) => {
                self.ending.get_or_insert(reason);
                turn.stop(FinishReason::Cancelled);
                Ok(())
            }
        }
    }

    /// Ends the session. No turn may be running.
    pub(super) async fn end(&mut self, reason: EndReason) -> Step {
        self.end_with(Vec::new(), reason).await
    }

    /// The grace is over. It counts only while a reader could have come back: where the database was
    /// away meanwhile, the wait begins anew when it is back.
    pub(super) async fn end_unless_cut_off(&mut self) -> Step {
        let now = Instant::now();
        let since = self.context.health.since().unwrap_or(now);
        let grace_until = since + self.context.limits.session.resume_grace;
        if grace_until > now {
            self.grace_until = Some(grace_until);
            return Ok(());
        }
        self.end(EndReason::Abandoned).await
    }

    /// Ends the session with what led to it, in one transaction.
    pub(super) async fn end_with(&mut self, what: Vec<Entry>, reason: EndReason) -> Step {
        debug_assert!(
            self.turn.is_none(),
            "a turn must have its end before the session has"
        );
        for input in std::mem::take(&mut self.waiting) {
            let message = "the session ended before this message's turn came".to_owned();
            let error = ErrorFrame {
                code: ErrorCode::Busy,
                message,
                id: input.id,
                turn_id: None,
            };
            self.broadcast(ServerFrame::Error(error));
        }
        let mut entries = self.beginning();
        entries.extend(what);
        entries.push((None, EventBody::SessionEnded(SessionEnded { reason })));
        let events = self.log.append(&mut self.transcript, entries).await?;
        for event in events {
            self.broadcast(ServerFrame::Event(event));
        }
        tracing::info!(reason = reason.as_str(), "session.ended");
        self.context.jobs_due.notify_one();
        Err(Exit::Ended)
    }

    /// The server is to stop: let go between turns.
    pub(super) fn start_draining(&mut self) -> Step {
        self.draining = true;
        if self.turn.is_none() {
            Err(Exit::Released)
        } else {
            Ok(())
        }
    }

    /// The server stops now: the running turn is cut short.
    pub(super) fn interrupt(&mut self) -> Step {
        self.draining = true;
        match &mut self.turn {
            None => Err(Exit::Released),
            Some(turn) => {
                turn.stop(FinishReason::Interrupted);
                Ok(())
            }
        }
    }

    /// Whether the running turn has been told to stop for the server's sake.
    pub(super) fn is_interrupted(&self) -> bool {
        self.turn
            .as_ref()
            .is_some_and(|turn| turn.stop_reason == Some(FinishReason::Interrupted))
    }
}
