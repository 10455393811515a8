//! How a session ends, and how one is let go of without ending.

use duologue_protocol::{
    AssistantMessage, EndReason, EventBody, FinishReason, ServerFrame, SessionEnded, TurnId,
};

use crate::{
    log::Entry,
    session::{Exit, Session, Step},
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
