//! How a session ends, and how one is let go of without ending.

use duologue_protocol::{
    AssistantMessage, CloseCode, EndReason, EventBody, FinishReason, GoAwayReason, ServerFrame,
    SessionEnded, TurnId,
};
use tokio::time::Instant;

use crate::{
    log::Entry,
    session::{Session, SessionExit, Step, drain_schedule::DrainSchedule, running::milliseconds},
    transcript::Transcript,
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
        let mut entries = self.beginning();
        entries.extend(what);
        entries.extend(unspoken(&self.transcript, reason));
        entries.push((None, EventBody::SessionEnded(SessionEnded { reason })));
        let events = self.append(entries).await?;
        for event in events {
            self.broadcast(ServerFrame::Event(event));
        }
        tracing::info!(reason = reason.as_str(), "session.ended");
        self.context.jobs_due.notify_one();
        Err(SessionExit::Ended)
    }

    /// The server is to stop: let go between turns, each session at its own moment. Who has no reader
    /// need not wait for it, and who has just answered has waited.
    pub(super) fn start_draining(&mut self) -> Step {
        self.draining = true;
        if self.turn.is_some() {
            return Ok(());
        }
        if self.readers.is_empty() {
            return Err(SessionExit::Released);
        }
        let wait = self
            .drain_schedule()
            .release_delay(&self.log.lease().session_id);
        self.leave_at = Some(Instant::now() + wait);
        Ok(())
    }

    /// Tells readers that the server goes away, and when to come back.
    pub(super) fn say_goodbye(&mut self) {
        let session_id = &self.log.lease().session_id;
        let reconnect_after = self.drain_schedule().reconnect_after(session_id);
        self.broadcast(ServerFrame::GoAway {
            reason: GoAwayReason::Restart,
            reconnect_after_ms: milliseconds(reconnect_after),
        });
        self.close_readers(CloseCode::Restart);
    }

    /// An engine that is dropped without a word sends all off at once.
    fn drain_schedule(&self) -> DrainSchedule {
        self.context
            .drain_schedule
            .get()
            .copied()
            .unwrap_or_default()
    }

    /// The server stops now: the running turn is cut short.
    pub(super) fn interrupt(&mut self) -> Step {
        self.draining = true;
        match &mut self.turn {
            None => Err(SessionExit::Released),
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

/// The turns of the messages that still wait when their session ends: each gets its end, so that
/// nobody waits for it any more.
fn unspoken(transcript: &Transcript, reason: EndReason) -> impl Iterator<Item = Entry> {
    let finish_reason = match reason {
        EndReason::Closed | EndReason::Requested => FinishReason::Cancelled,
        EndReason::Abandoned | EndReason::Idle => FinishReason::Interrupted,
    };
    let answer = AssistantMessage {
        text: "".into(),
        finish_reason,
        error: None,
        usage: None,
        ttft_ms: None,
        duration_ms: 0,
        model: "none".to_owned(),
    };
    let numbers = transcript.turns + 1..;
    numbers
        .zip(transcript.queue.all())
        .flat_map(move |(number, message)| {
            let turn_id = Some(TurnId(number));
            [
                (turn_id, EventBody::UserMessage(message)),
                (turn_id, EventBody::AssistantMessage(answer.clone())),
            ]
        })
}
