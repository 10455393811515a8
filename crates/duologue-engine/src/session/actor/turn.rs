//! Starts turns, stores what they produce, and recovers the one that a lost server left open.

use std::sync::Arc;

use duologue_protocol::{ErrorCode, EventBody, FinishReason, ServerFrame, TurnId, UserMessage};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    broadcast::AnswerText,
    budgets::Reservation,
    drafts::DraftGuard,
    error_frames::turn_failure,
    session::{
        actor::Session,
        batch::Batch,
        exit::SessionExit,
        lifecycle::AfterTurn,
        recovery::{OpenTurn, closing_events, open_turn, resumed_mark},
        turn_slot::StartedTurn,
    },
    session_id_hash::SessionIdHash,
    store::StoreError,
    turn::{Output, Turn, TurnOutcome},
};

impl Session {
    /// Starts the turn of a user's message. No turn may be running. Without a reservation the turn
    /// fails at once, since the tokens are used up.
    pub(super) fn start_turn(
        &mut self,
        message: UserMessage,
        reservation: Option<Reservation>,
        origin: &tracing::Span,
    ) {
        let transcript = self.journal.transcript();
        let id = TurnId(transcript.turns + 1);
        let owner = (self.journal.lease(), self.budget.user());
        let context = Arc::clone(&self.context);
        let (turn, outputs) = Turn::new(
            context,
            self.readers.share(),
            owner,
            id,
            &message.text,
            transcript,
        );
        let turn = match reservation {
            Some(_) => turn,
            None => turn.unaffordable(),
        };
        self.readers.start_answer(id, false);
        let cancel = self.spawn_turn(id, turn, origin);
        self.turn.fill(StartedTurn {
            id,
            outputs,
            cancel,
            message: Some(message),
            reservation,
            draft: self.save_drafts_of(id),
        });
    }

    /// Starts the turn of the first queued message, if there is one and no turn is running.
    ///
    /// It leaves the queue when its `user_message` is stored, so that it is not lost in between.
    pub(super) fn start_queued_turn(&mut self) {
        if self.turn.is_running() {
            return;
        }
        if let Some(message) = self.journal.transcript().queue.first()
            && self.may_start_turn()
        {
            let tokens = self.journal.transcript().tokens;
            let reservation = self.budget.begin_accepted(tokens);
            self.start_turn(message, reservation, &tracing::Span::none());
        }
    }

    /// Whether a turn may start. It may not while the server's lease may have lapsed, since another server may
    /// be about to take the session over. Then the session looks again soon.
    pub(super) fn may_start_turn(&mut self) -> bool {
        let has_lapsed = self.context.health.has_lapsed();
        let look_again_at = Instant::now() + self.context.limits.cluster.heartbeat_interval;
        self.lifecycle
            .hold_back(has_lapsed.then_some(look_again_at));
        !has_lapsed
    }

    /// Sees to it that the turn that a lost server left open gets its end.
    pub(super) async fn recover_turn(&mut self) -> Result<(), SessionExit> {
        let draft = self.left_draft.take();
        let transcript = self.journal.transcript();
        let (turn_id, draft) = match open_turn(transcript, &*self.context.agent, draft) {
            None => return Ok(()),
            Some(OpenTurn::Close(turn_id, draft)) => (turn_id, draft),
            Some(OpenTurn::Resume(turn_id)) if !self.may_start_turn() => (turn_id, None),
            Some(OpenTurn::Resume(turn_id)) => {
                let (store, lease) = (self.journal.store(), self.journal.lease());
                let mark = (lease.clone(), resumed_mark(turn_id));
                if !store.save_drafts(&[mark]).await?.is_empty() {
                    return Err(StoreError::Conflict.into());
                }
                let is_resumed = self.resume_turn(turn_id);
                tracing::info!(turn.id = %turn_id, is_resumed, "turn.taken_up");
                if is_resumed {
                    return Ok(());
                }
                (turn_id, None)
            }
        };
        let now = self.journal.next_time();
        let entries = closing_events(self.journal.transcript(), turn_id, draft, now);
        self.append(entries).await?;
        Ok(())
    }

    /// Continues the turn that the last holder left open. `false` if its start is not in the log.
    fn resume_turn(&mut self, id: TurnId) -> bool {
        let transcript = self.journal.transcript();
        let owner = (self.journal.lease(), self.budget.user());
        let resumed = Turn::resumed(
            Arc::clone(&self.context),
            self.readers.share(),
            owner,
            id,
            transcript,
        );
        let Some((turn, outputs)): Option<(Turn, mpsc::Receiver<Output>)> = resumed else {
            return false;
        };
        let reservation = self.budget.begin_unchecked(transcript.tokens);
        self.readers.start_answer(id, true);
        let cancel = self.spawn_turn(id, turn, &tracing::Span::none());
        self.turn.fill(StartedTurn {
            id,
            outputs,
            cancel,
            message: None,
            reservation: Some(reservation),
            draft: self.save_drafts_of(id),
        });
        true
    }

    /// Lets the text of a turn be saved while it grows.
    fn save_drafts_of(&self, id: TurnId) -> DraftGuard {
        let text = AnswerText::new(self.readers.share(), id);
        let lease = self.journal.lease().clone();
        self.context.drafts.add(lease, text)
    }

    /// Starts a turn's task, with the ids of its session, its turn and the request that caused it in
    /// its logs. A queued message may outlive its connection, so its turn has no request.
    fn spawn_turn(&self, id: TurnId, turn: Turn, origin: &tracing::Span) -> CancellationToken {
        let session_id = SessionIdHash::from(&self.journal.lease().session_id);
        let current = tracing::Span::current();
        let parent = if origin.is_disabled() {
            &current
        } else {
            origin
        };
        let span = tracing::info_span!(
            parent: parent, "turn", session.id = %session_id, turn.id = %id
        );
        let cancel = CancellationToken::new();
        let task = turn.run(cancel.clone());
        self.context.tasks.spawn(task.instrument(span));
        cancel
    }

    /// Stores what the turn produced, all in one commit, and then sends it.
    pub(super) async fn handle_turn_outputs(
        &mut self,
        outputs: Vec<Output>,
    ) -> Result<(), SessionExit> {
        let mut batch = Batch::default();
        let outcome = self.turn.collect(outputs, &self.readers, &mut batch);
        let is_over = outcome.is_some();
        if let Some((turn_id, outcome)) = outcome {
            self.finish_turn(turn_id, outcome, &mut batch);
        }
        self.commit(batch).await?;
        if is_over {
            self.turn_ended().await
        } else {
            Ok(())
        }
    }

    /// Adds the end of the running turn to `batch`.
    fn finish_turn(&mut self, turn_id: TurnId, outcome: TurnOutcome, batch: &mut Batch) {
        let open_calls = self.journal.transcript().open_calls.clone();
        let why = "the turn was stopped before the tool answered";
        batch.close_calls(turn_id, open_calls, why);
        self.turn.settle(outcome.usage, self.context.clock.now());
        if let Some(code) = outcome.error {
            let retry_after = if code == ErrorCode::OverBudget {
                let refusal = self.budget.check(self.journal.transcript().tokens).err();
                refusal.and_then(|refusal| refusal.retry_after)
            } else {
                None
            };
            let error = turn_failure(code, turn_id, retry_after);
            batch.frame(ServerFrame::Error(error));
        }
        let answer = self.turn.answer(outcome, self.readers.finish_answer());
        batch.event(Some(turn_id), EventBody::AssistantMessage(answer));
    }

    /// Continues after the end of a turn.
    async fn turn_ended(&mut self) -> Result<(), SessionExit> {
        // Held until the next turn has its own, so that no other turn of the user starts in between.
        let _reservation = self.turn.clear();
        match self.lifecycle.turn_ended(Instant::now()) {
            AfterTurn::Continue => {
                self.start_queued_turn();
                Ok(())
            }
            AfterTurn::End(reason) => self.end(Vec::new(), reason).await,
            AfterTurn::Release => Err(SessionExit::Released),
        }
    }

    /// The server stops now: interrupts the running turn.
    pub(super) fn interrupt(&mut self) -> Result<(), SessionExit> {
        self.lifecycle.start_draining(None);
        if self.turn.stop(FinishReason::Interrupted) {
            Ok(())
        } else {
            Err(SessionExit::Released)
        }
    }
}
