//! The running turn of a session, of which there is at most one.

use duologue_protocol::{
    AssistantMessage, ErrorCode, FinishReason, Timestamp, TurnId, Usage, UserMessage,
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    broadcast::{Broadcast, FinishedAnswer},
    budgets::Reservation,
    clock::milliseconds,
    drafts::DraftGuard,
    session::batch::Batch,
    turn::{Output, TurnOutcome},
};

/// Outputs received from a turn at a time, so that one commit and one flush serve many.
const OUTPUTS_BATCH: usize = 64;

/// A turn whose task was started.
pub(super) struct StartedTurn {
    pub(super) id: TurnId,
    pub(super) outputs: mpsc::Receiver<Output>,
    /// Stops the turn's task.
    pub(super) cancel: CancellationToken,
    /// The user's message, unless it is stored already.
    pub(super) message: Option<UserMessage>,
    /// The turn's share of its user's budget; `None` if nothing can be spent.
    pub(super) reservation: Option<Reservation>,
    /// Has the text of its answer saved.
    pub(super) draft: DraftGuard,
}

/// What happens to the running turn.
pub(super) enum TurnEvent {
    /// It produced outputs.
    Outputs(Vec<Output>),
    /// Saves of its text have started to fail, or succeed again.
    DraftsFailing(bool),
}

/// The place of the running turn. Dropping it stops the turn's task.
#[derive(Default)]
pub(super) struct TurnSlot(Option<RunningTurn>);

struct RunningTurn {
    id: TurnId,
    outputs: mpsc::Receiver<Output>,
    cancel: CancellationToken,
    _cancel_on_drop: DropGuard,
    stop_reason: Option<FinishReason>,
    /// The user's message, until it is stored together with the turn's first output.
    unrecorded: Option<UserMessage>,
    draft: DraftGuard,
    reservation: Option<Reservation>,
}

impl TurnSlot {
    /// Fills the slot, which must be empty.
    pub(super) fn fill(&mut self, turn: StartedTurn) {
        debug_assert!(self.0.is_none(), "one turn runs at a time");
        self.0 = Some(RunningTurn {
            id: turn.id,
            outputs: turn.outputs,
            _cancel_on_drop: turn.cancel.clone().drop_guard(),
            cancel: turn.cancel,
            stop_reason: None,
            unrecorded: turn.message,
            draft: turn.draft,
            reservation: turn.reservation,
        });
    }

    /// Empties the slot. The turn's place among its user's turns stays taken until the reservation is
    /// dropped.
    pub(super) fn clear(&mut self) -> Option<Reservation> {
        self.0.take().and_then(|turn| turn.reservation)
    }

    /// Whether a turn is running.
    pub(super) fn is_running(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the running turn is being stopped because the server stops.
    pub(super) fn is_interrupted(&self) -> bool {
        let turn = self.0.as_ref();
        turn.is_some_and(|turn| turn.stop_reason == Some(FinishReason::Interrupted))
    }

    /// Stops the running turn; `false` if none runs. The first reason counts, but
    /// `interrupted` replaces a cancel.
    pub(super) fn stop(&mut self, reason: FinishReason) -> bool {
        let Some(turn) = &mut self.0 else {
            return false;
        };
        if reason == FinishReason::Interrupted {
            turn.stop_reason = Some(reason);
        }
        turn.stop_reason.get_or_insert(reason);
        turn.cancel.cancel();
        true
    }

    /// Waits for what happens next to the running turn; forever if none runs. Safe to cancel.
    pub(super) async fn next(&mut self) -> TurnEvent {
        let Some(turn) = &mut self.0 else {
            return std::future::pending().await;
        };
        let mut outputs = Vec::new();
        tokio::select! {
            biased;
            are_failing = turn.draft.failing() => return TurnEvent::DraftsFailing(are_failing),
            count = turn.outputs.recv_many(&mut outputs, OUTPUTS_BATCH) => if count == 0 {
                // A turn always sends `Done` last; one that did not was aborted from outside.
                outputs.push(Output::Done(TurnOutcome::failed(ErrorCode::Internal)));
            },
        }
        TurnEvent::Outputs(outputs)
    }

    /// The user's message of the running turn, until it is stored.
    pub(super) fn unrecorded(&self) -> Option<&UserMessage> {
        self.0.as_ref()?.unrecorded.as_ref()
    }

    /// Adds the running turn's message to `batch`, unless it was added before.
    pub(super) fn record_start(&mut self, batch: &mut Batch) {
        if let Some(turn) = &mut self.0
            && let Some(message) = turn.unrecorded.take()
        {
            batch.turn_start(turn.id, message);
        }
    }

    /// Adds outputs of the running turn to `batch`. Returns the turn's outcome once it is over.
    pub(super) fn collect(
        &mut self,
        outputs: Vec<Output>,
        broadcast: &Broadcast,
        batch: &mut Batch,
    ) -> Option<(TurnId, TurnOutcome)> {
        self.record_start(batch);
        batch.count_outputs(outputs.len());
        let turn = self.0.as_mut().expect("outputs come from the running turn");
        for output in outputs {
            match output {
                Output::Event(body) => batch.event(Some(turn.id), body),
                Output::Text(pieces) => {
                    if let Some(frames) = broadcast.extend_answer(pieces) {
                        batch.tokens(frames);
                    }
                }
                Output::Barrier(barrier) => batch.barrier(barrier),
                Output::Done(outcome) => return Some((turn.id, outcome)),
            }
        }
        None
    }

    /// Charges what the running turn has used in place of its reservation.
    pub(super) fn settle(&mut self, usage: Option<Usage>, now: Timestamp) {
        let reservation = self.0.as_mut().and_then(|turn| turn.reservation.as_mut());
        if let Some(reservation) = reservation {
            reservation.settle(usage.map_or(0, Usage::total), now);
        }
    }

    /// Stops the running turn and waits until its task has ended. Returns what it has used, unless that was
    /// received before.
    pub(super) async fn stop_and_wait(&mut self) -> Option<(TurnId, Usage)> {
        let turn = self.0.as_mut()?;
        turn.cancel.cancel();
        while let Some(output) = turn.outputs.recv().await {
            if let Output::Done(outcome) = output {
                return Some((turn.id, outcome.usage?));
            }
        }
        None
    }

    /// The whole answer of a turn that is over.
    pub(super) fn answer(&self, outcome: TurnOutcome, answer: FinishedAnswer) -> AssistantMessage {
        let turn = self.0.as_ref().expect("a turn that is over has run");
        let finish_reason = match outcome.finish_reason {
            FinishReason::Cancelled => turn.stop_reason.unwrap_or(FinishReason::Cancelled),
            other => other,
        };
        AssistantMessage {
            text: answer.text.into(),
            finish_reason,
            error: outcome.error,
            usage: outcome.usage,
            ttft_ms: answer.time_to_first_token.map(milliseconds),
            duration_ms: milliseconds(answer.duration),
            model: outcome.model.unwrap_or_else(|| "none".to_owned()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use duologue_protocol::{SessionId, UserId};

    use super::*;
    use crate::{
        broadcast::AnswerText,
        drafts::DraftBoard,
        store::{Lease, ServerId},
    };

    /// A running turn, and a function that lets it produce a word.
    pub(in crate::session) fn running() -> (TurnSlot, impl FnMut()) {
        let (sender, outputs) = mpsc::channel(64);
        let mut slot = TurnSlot::default();
        let lease = Lease {
            session_id: SessionId::new("session").unwrap(),
            user_id: UserId::anonymous(),
            server: ServerId("server".to_owned()),
            epoch: 1,
        };
        let text = AnswerText::new(Arc::default(), TurnId(1));
        slot.fill(StartedTurn {
            id: TurnId(1),
            outputs,
            cancel: CancellationToken::new(),
            message: None,
            reservation: None,
            draft: Arc::<DraftBoard>::default().add(lease, text),
        });
        let speak = move || {
            let word = Output::Text("word ".into());
            sender.try_send(word).expect("the turn has room");
        };
        (slot, speak)
    }

    /// The user's cancel came first, but it is the server that ends the turn.
    #[tokio::test]
    async fn the_servers_reason_to_stop_overrides_the_users() {
        let (mut slot, _) = running();
        assert!(slot.stop(FinishReason::Cancelled));
        assert!(!slot.is_interrupted());
        slot.stop(FinishReason::Interrupted);
        slot.stop(FinishReason::Cancelled);
        assert!(slot.is_interrupted());
        let outcome = TurnOutcome {
            finish_reason: FinishReason::Cancelled,
            error: None,
            usage: None,
            model: None,
        };
        let answer = slot.answer(outcome, FinishedAnswer::default());
        assert_eq!(answer.finish_reason, FinishReason::Interrupted);
    }
}
