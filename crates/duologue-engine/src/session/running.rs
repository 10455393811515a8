//! The running turn, as its session sees it.

use std::{sync::Arc, time::Duration};

use duologue_protocol::{
    AssistantMessage, ErrorCode, FinishReason, ServerFrame, TurnId, UserMessage,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    budgets::{BudgetQuery, Reservation},
    session::{
        Session, SessionExit, Step,
        drafts::{DraftNews, Drafts},
    },
    store::Draft,
    turn::{Outcome, Output, Turn},
};

/// Outputs taken from a turn at a time, so that one commit and one flush serve many.
const OUTPUTS_BATCH: usize = 64;

/// A turn under way. Dropping it stops the turn's task.
pub(super) struct RunningTurn {
    pub(super) id: TurnId,
    outputs: mpsc::Receiver<Output>,
    cancel: CancellationToken,
    _cancel_on_drop: DropGuard,
    pub(super) stop_reason: Option<FinishReason>,
    /// The user's message, until it is stored together with the turn's first output.
    pub(super) unrecorded: Option<UserMessage>,
    started: Instant,
    ttft: Option<Duration>,
    text: String,
    next_index: u64,
    pub(super) drafts: Drafts,
    /// Its place among its user's turns; none where nothing can be spent.
    pub(super) reservation: Option<Reservation>,
}

/// What happens to a running turn.
pub(super) enum TurnNews {
    /// It puts something out.
    Outputs(Vec<Output>),
    /// The text of its answer is to be kept, or was.
    Draft(DraftNews),
}

impl RunningTurn {
    /// Waits for what happens next. Safe to cancel.
    pub(super) async fn next(&mut self) -> TurnNews {
        let mut outputs = Vec::new();
        tokio::select! {
            biased;
            news = self.drafts.next() => return TurnNews::Draft(news),
            count = self.outputs.recv_many(&mut outputs, OUTPUTS_BATCH) => if count == 0 {
                // A turn says `Done` last, whatever happens; one that did not was aborted from
                // outside.
                outputs.push(Output::Done(Outcome::failed(ErrorCode::Internal)));
            },
        }
        TurnNews::Outputs(outputs)
    }

    /// Tells the turn to stop. The first reason holds, but the server's own overrides a cancel.
    pub(super) fn stop(&mut self, reason: FinishReason) {
        if reason == FinishReason::Interrupted {
            self.stop_reason = Some(reason);
        }
        self.stop_reason.get_or_insert(reason);
        self.cancel.cancel();
    }

    /// The answer so far, for a reader that comes in the middle. None before the user's message is
    /// on record: all of the turn is still to be told.
    pub(super) fn draft_frame(&self) -> Option<ServerFrame> {
        self.unrecorded.is_none().then(|| ServerFrame::Draft {
            turn_id: self.id,
            text: self.text.as_str().into(),
            next_index: self.next_index,
        })
    }

    /// The same, to be kept.
    pub(super) fn draft(&self) -> Draft {
        Draft {
            turn_id: self.id,
            text: self.text.clone(),
        }
    }

    /// Adds a piece to the answer.
    pub(super) fn extend(&mut self, text: String, draft_interval: Duration) -> ServerFrame {
        self.ttft.get_or_insert_with(|| self.started.elapsed());
        self.drafts.changed(draft_interval);
        self.text.push_str(&text);
        let index = self.next_index;
        self.next_index += 1;
        ServerFrame::Token {
            turn_id: self.id,
            text,
            index,
        }
    }

    /// The whole answer. The text is taken out.
    pub(super) fn answer(&mut self, outcome: Outcome) -> AssistantMessage {
        let finish_reason = match outcome.finish_reason {
            FinishReason::Cancelled => self.stop_reason.unwrap_or(FinishReason::Cancelled),
            other => other,
        };
        AssistantMessage {
            text: std::mem::take(&mut self.text).into(),
            finish_reason,
            error: outcome.error,
            usage: outcome.usage,
            ttft_ms: self.ttft.map(milliseconds),
            duration_ms: milliseconds(self.started.elapsed()),
            model: outcome.model.unwrap_or_else(|| "none".to_owned()),
        }
    }
}

impl Session {
    /// What a turn of this session would like to spend.
    pub(super) fn budget_query(&self) -> BudgetQuery {
        BudgetQuery {
            session_tokens: self.transcript.tokens,
            reserve: self.context.limits.turn.output_tokens_max.into(),
            now: self.context.clock.now(),
        }
    }

    /// Asks the store anew what the user has used elsewhere, if that was long ago. Nobody waits for it.
    pub(super) fn refresh_account(&self) {
        if !self.user_budget.is_outdated() {
            return;
        }
        let (context, user_budget) = (Arc::clone(&self.context), Arc::clone(&self.user_budget));
        self.context.tasks.spawn(async move {
            let refreshing = user_budget.refresh(&*context.store, context.clock.now());
            if let Err(error) = refreshing.await {
                // What is known holds until the next attempt, and this server's part of it is right.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "account.not_refreshed"
                );
            }
        });
    }

    /// Starts the turn of a user's message. None may be running. Without `spending` the turn fails at
    /// once, since the tokens are used up.
    pub(super) fn start_turn(&mut self, message: UserMessage, reservation: Option<Reservation>) {
        let id = TurnId(self.transcript.turns + 1);
        let whose = (self.log.lease(), &self.user_budget);
        let turn = Turn::new(
            Arc::clone(&self.context),
            whose,
            id,
            &message.text,
            &self.transcript,
        );
        let (turn, outputs) = turn;
        let turn = match reservation {
            Some(_) => turn,
            None => turn.unaffordable(),
        };
        self.run_turn(id, (turn, outputs), Some(message), reservation);
    }

    /// Goes on with the turn that the last holder left open. False: its beginning is not there.
    pub(super) fn resume_turn(&mut self, id: TurnId) -> bool {
        let (context, whose) = (
            Arc::clone(&self.context),
            (self.log.lease(), &self.user_budget),
        );
        let Some(turn) = Turn::resumed(context, whose, id, &self.transcript) else {
            return false;
        };
        let reservation = self
            .context
            .budgets
            .begin_unchecked(&self.user_budget, self.budget_query());
        self.run_turn(id, turn, None, Some(reservation));
        true
    }

    fn run_turn(
        &mut self,
        id: TurnId,
        (turn, outputs): (Turn, mpsc::Receiver<Output>),
        unrecorded: Option<UserMessage>,
        reservation: Option<Reservation>,
    ) {
        let cancel = CancellationToken::new();
        self.context.tasks.spawn(turn.run(cancel.clone()));
        self.turn = Some(RunningTurn {
            id,
            outputs,
            _cancel_on_drop: cancel.clone().drop_guard(),
            cancel,
            stop_reason: None,
            unrecorded,
            started: Instant::now(),
            ttft: None,
            text: String::new(),
            next_index: 0,
            drafts: Drafts::default(),
            reservation,
        });
    }

    /// Takes up what happens to the running turn.
    pub(super) async fn follow(&mut self, news: TurnNews) -> Step {
        match news {
            TurnNews::Outputs(outputs) => self.record(outputs).await,
            TurnNews::Draft(news) => self.mind_draft(news),
        }
    }

    pub(super) async fn turn_is_over(&mut self) -> Step {
        // Its place is kept until the next message has one, so that none comes in between.
        let _place = self.turn.take().and_then(|turn| turn.reservation);
        self.idle_until = Instant::now() + self.context.limits.session.idle_timeout;
        if let Some(reason) = self.ending {
            return self.end(reason).await;
        }
        if self.draining {
            return Err(SessionExit::Released);
        }
        self.start_waiting();
        Ok(())
    }

    /// Starts the turn of the message that waits first, if one does and no turn is running.
    ///
    /// It leaves the queue when its `user_message` is stored, so that it is not lost in between.
    pub(super) fn start_waiting(&mut self) {
        if self.turn.is_none()
            && let Some(message) = self.transcript.queue.first()
        {
            let budgets = &self.context.budgets;
            let reservation = budgets.begin_accepted(&self.user_budget, self.budget_query());
            self.start_turn(message, reservation.ok());
        }
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A running turn, and what lets it say a word.
    pub(in crate::session) fn running() -> (RunningTurn, impl FnMut()) {
        let (sender, outputs) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let turn = RunningTurn {
            id: TurnId(1),
            outputs,
            _cancel_on_drop: cancel.clone().drop_guard(),
            cancel,
            stop_reason: None,
            unrecorded: None,
            started: Instant::now(),
            ttft: None,
            text: String::new(),
            next_index: 0,
            drafts: Drafts::default(),
            reservation: None,
        };
        let talk = move || {
            let word = Output::Text("word ".to_owned());
            sender.try_send(word).expect("the turn has room");
        };
        (turn, talk)
    }

    /// The user's cancel came first, but it is the server that ends the turn.
    #[tokio::test]
    async fn the_servers_reason_to_stop_overrides_the_users() {
        let (mut turn, _) = running();
        turn.stop(FinishReason::Cancelled);
        turn.stop(FinishReason::Interrupted);
        turn.stop(FinishReason::Cancelled);
        assert_eq!(turn.stop_reason, Some(FinishReason::Interrupted));
    }
}
