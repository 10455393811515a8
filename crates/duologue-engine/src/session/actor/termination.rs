//! Ends a session, or releases it without an end, and closes its connections.

use duologue_protocol::{
    AssistantMessage, ClientFrame, CloseCode, EndReason, ErrorCode, EventBody, FinishReason,
    GoAwayReason, ServerFrame, SessionEnded, TurnId,
};
use tokio::time::Instant;

use crate::{
    clock::milliseconds,
    context::Context,
    error_frames::{refusal, storage_given_up},
    free_workers::ReservedWorker,
    log::NewEvent,
    session::{
        actor::Session,
        exit::SessionExit,
        inbox::{AttachError, Command},
        journal::Written,
    },
    store::{JobClaim, StoreError},
    transcript::Transcript,
};

impl Session {
    /// Ends the session now, or as soon as the running turn has been stopped.
    pub(super) async fn request_end(&mut self, reason: EndReason) -> Result<(), SessionExit> {
        if self.turn.stop(FinishReason::Cancelled) {
            self.lifecycle.end_after_turn(reason);
            Ok(())
        } else {
            self.end(Vec::new(), reason).await
        }
    }

    /// Ends the session together with the events that caused it, in one transaction. No turn may be
    /// running.
    pub(super) async fn end(
        &mut self,
        causes: Vec<NewEvent>,
        reason: EndReason,
    ) -> Result<(), SessionExit> {
        debug_assert!(
            !self.turn.is_running(),
            "a turn must have its end before the session has"
        );
        let mut entries: Vec<_> = self.journal.start(&self.facts.agent).into_iter().collect();
        entries.extend(causes);
        entries.extend(close_queued_messages(self.journal.transcript(), reason));
        entries.push((None, EventBody::SessionEnded(SessionEnded { reason })));
        let worker = self.reserve_worker();
        let claim = worker.as_ref().map(|worker| JobClaim {
            worker: worker.worker().clone(),
            lease_duration: self.context.limits.jobs.lease,
        });
        let Written { events, job } = self.write(entries, claim).await?;
        self.readers.broadcast_events(events);
        tracing::info!(reason = reason.as_str(), "session.ended");
        match (worker, job) {
            (Some(worker), Some(job)) => worker.assign(job),
            _ => self.context.free_workers.job_waits(),
        }
        Err(SessionExit::Ended)
    }

    /// A worker for the session's job, if the job may start at once.
    fn reserve_worker(&self) -> Option<ReservedWorker> {
        let Context {
            free_workers,
            budgets,
            clock,
            drain,
            ..
        } = &*self.context;
        // A claim counts an attempt, so no job is claimed that could only fail.
        let may_start = !drain.is_cancelled() && budgets.may_spend(clock.now());
        let user_id = &self.journal.lease().user_id;
        may_start.then(|| free_workers.reserve(user_id)).flatten()
    }

    /// The server is stopping: the session is released between turns, at its own time within the drain
    /// schedule. One without readers is released at once, and one with a turn right after it.
    pub(super) fn start_draining(&mut self) -> Result<(), SessionExit> {
        let release_at = if self.turn.is_running() {
            None
        } else if self.readers.is_empty() {
            return Err(SessionExit::Released);
        } else {
            let session_id = &self.journal.lease().session_id;
            Some(Instant::now() + self.context.drain_schedule().release_delay(session_id))
        };
        self.lifecycle.start_draining(release_at);
        Ok(())
    }

    /// Closes the readers' connections, and whatever else the reason for the end requires.
    pub(super) async fn close(mut self: Box<Self>, exit: SessionExit) {
        match exit {
            SessionExit::Ended => {
                self.lease_guard.settle();
                self.refuse_remaining_messages();
                self.readers.close(CloseCode::Ended);
            }
            SessionExit::Released => {
                self.send_goaway();
                if self.journal.release().await {
                    self.lease_guard.settle();
                }
            }
            SessionExit::Failed(StoreError::Conflict) => {
                // Not an error: another server has taken over the session.
                self.lease_guard.settle();
                tracing::info!("session.taken_over");
                self.charge_lost_turn().await;
                self.readers.close(CloseCode::TakenOver);
            }
            SessionExit::Failed(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "session.given_up");
                self.charge_lost_turn().await;
                let code = if let StoreError::Unavailable(_) = error {
                    let open_turn = self.journal.transcript().open_turn;
                    let error = storage_given_up(open_turn);
                    self.readers.broadcast(ServerFrame::Error(error));
                    CloseCode::TryAgainLater
                } else {
                    CloseCode::Internal
                };
                self.readers.close(code);
            }
        }
        let last_seq = self.journal.transcript().last_seq.0;
        tracing::info!(last_seq, "session.closed");
        self.inbox.refuse_all(&AttachError::Gone);
    }

    /// Charges the running turn if the log will not: its message was not stored, so its client repeats it, and
    /// the model is asked once more. A turn whose message is stored is charged when it gets its end. The task ends at
    /// once: it calls no tool before its message is stored.
    async fn charge_lost_turn(&mut self) {
        if self.journal.transcript().open_turn.is_some() {
            return;
        }
        if let Some((turn_id, usage)) = self.turn.stop_and_wait().await {
            self.turn.settle(Some(usage), self.context.clock.now());
            tracing::warn!(
                turn.id = %turn_id,
                tokens = usage.total(),
                "turn.lost"
            );
        }
    }

    /// Refuses the messages that came after the end, so that no client waits for their receipts.
    fn refuse_remaining_messages(&mut self) {
        while let Some(command) = self.inbox.drain() {
            match command {
                Command::Attach(attach) => attach.refuse(AttachError::Gone),
                Command::Submit(request) => {
                    if let ClientFrame::Message(input) = request.frame {
                        let message = "the session has ended; connect again to continue it";
                        let error = refusal(ErrorCode::Busy, message, input.id);
                        self.readers.refuse(request.connection, error);
                    }
                }
                Command::Detach { .. } => {}
            }
        }
    }

    /// Notifies readers that the server stops, and when to reconnect.
    fn send_goaway(&mut self) {
        let session_id = &self.journal.lease().session_id;
        let reconnect_after = self.context.drain_schedule().reconnect_after(session_id);
        self.readers.broadcast(ServerFrame::GoAway {
            reason: GoAwayReason::Restart,
            reconnect_after_ms: milliseconds(reconnect_after),
        });
        self.readers.close(CloseCode::Restart);
    }
}

/// The turns of the messages that are queued when their session ends: each gets its end, so that no
/// client waits for it.
fn close_queued_messages(
    transcript: &Transcript,
    reason: EndReason,
) -> impl Iterator<Item = NewEvent> {
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
