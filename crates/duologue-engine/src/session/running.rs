//! The running turn, as its session sees it: what it puts out becomes events and deltas.

use std::{sync::Arc, time::Duration};

use duologue_protocol::{
    AssistantMessage, ErrorCode, ErrorFrame, EventBody, FinishReason, ServerFrame, ToolCall,
    ToolOutcome, ToolResult, TurnId, UserInput, UserMessage,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    log::Entry,
    session::{
        Session, Step,
        drafts::{DraftNews, Drafts},
    },
    store::Draft,
    turn::{Outcome, Output, Turn},
};

/// Outputs taken from a turn at a time, so that one commit and one flush serve many.
const OUTPUTS_BATCH: usize = 64;

/// A turn under way. Dropping it stops the turn's task.
pub(super) struct RunningTurn {
    id: TurnId,
    outputs: mpsc::Receiver<Output>,
    cancel: CancellationToken,
    _cancel_on_drop: DropGuard,
    pub(super) stop_reason: Option<FinishReason>,
    /// The user's message, until it is stored together with the turn's first output.
    pub(super) unrecorded: Option<UserInput>,
    started: Instant,
    ttft: Option<Duration>,
    text: String,
    next_index: u64,
    pub(super) drafts: Drafts,
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

    fn extend(&mut self, text: String, draft_interval: Duration) -> ServerFrame {
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

    fn answer(&mut self, outcome: Outcome) -> AssistantMessage {
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

/// What is told to readers, in order: events once they are stored, and frames between them.
enum Item {
    Event,
    Frame(ServerFrame),
}

/// Outputs of one moment, sorted into what is stored and what is told.
#[derive(Default)]
struct Moment {
    entries: Vec<Entry>,
    items: Vec<Item>,
    barriers: Vec<oneshot::Sender<()>>,
    is_last: bool,
}

impl Moment {
    fn event(&mut self, turn_id: TurnId, body: EventBody) {
        self.entries.push((Some(turn_id), body));
        self.items.push(Item::Event);
    }

    fn frame(&mut self, frame: ServerFrame) {
        self.items.push(Item::Frame(frame));
    }
}

impl Session {
    /// Starts the turn of a user's message. None may be running.
    pub(super) fn start_turn(&mut self, input: UserInput) {
        let id = TurnId(self.transcript.turns + 1);
        let cancel = CancellationToken::new();
        let hold = self.log.hold();
        let (turn, outputs) = Turn::new(
            Arc::clone(&self.context),
            hold,
            id,
            &input,
            &self.transcript,
        );
        self.context.tasks.spawn(turn.run(cancel.clone()));
        self.turn = Some(RunningTurn {
            id,
            outputs,
            _cancel_on_drop: cancel.clone().drop_guard(),
            cancel,
            stop_reason: None,
            unrecorded: Some(input),
            started: Instant::now(),
            ttft: None,
            text: String::new(),
            next_index: 0,
            drafts: Drafts::default(),
        });
    }

    /// Takes up what happens to the running turn.
    pub(super) async fn follow(&mut self, news: TurnNews) -> Step {
        match news {
            TurnNews::Outputs(outputs) => self.record(outputs).await,
            TurnNews::Draft(news) => self.mind_draft(news),
        }
    }

    /// Stores what the turn put out, all in one commit, and then tells it.
    async fn record(&mut self, outputs: Vec<Output>) -> Step {
        let Moment {
            entries,
            items,
            barriers,
            is_last,
        } = self.sort(outputs);
        let events = if entries.is_empty() {
            Vec::new()
        } else {
            self.log.append(&mut self.transcript, entries).await?
        };
        let mut events = events.into_iter();
        for item in items {
            let frame = match item {
                Item::Frame(frame) => frame,
                Item::Event => {
                    ServerFrame::Event(events.next().expect("each entry has become an event"))
                }
            };
            self.broadcast(frame);
        }
        for barrier in barriers {
            if barrier.send(()).is_err() {
                tracing::debug!("a cancelled turn does not wait for its barrier any more");
            }
        }
        if is_last {
            self.turn_is_over().await
        } else {
            Ok(())
        }
    }

    fn sort(&mut self, outputs: Vec<Output>) -> Moment {
        let draft_interval = self.context.limits.session.draft_interval;
        let turn = self
            .turn
            .as_mut()
            .expect("only a running turn puts something out");
        let mut moment = Moment::default();
        if let Some(UserInput { text, id }) = turn.unrecorded.take() {
            moment.event(turn.id, EventBody::UserMessage(UserMessage { text, id }));
            moment.frame(ServerFrame::Start { turn_id: turn.id });
        }
        let mut open_calls = self.transcript.open_calls.clone();
        for output in outputs {
            match output {
                Output::Event(body) => {
                    match &body {
                        EventBody::ToolCall(call) => open_calls.push(call.clone()),
                        EventBody::ToolResult(result) => {
                            open_calls.retain(|call| call.call_id != result.call_id);
                        }
                        _ => {}
                    }
                    moment.event(turn.id, body);
                }
                Output::Text(text) => moment.frame(turn.extend(text, draft_interval)),
                Output::Barrier(barrier) => moment.barriers.push(barrier),
                Output::Done(outcome) => {
                    let calls = std::mem::take(&mut open_calls);
                    for body in abandoned(calls, "the turn was stopped before the tool answered") {
                        moment.event(turn.id, body);
                    }
                    if let Some(code) = outcome.error {
                        moment.frame(ServerFrame::Error(ErrorFrame {
                            code,
                            message: explain(code).to_owned(),
                            id: None,
                            turn_id: Some(turn.id),
                        }));
                    }
                    let answer = turn.answer(outcome);
                    moment.event(turn.id, EventBody::AssistantMessage(answer));
                    moment.is_last = true;
                }
            }
        }
        moment
    }

    async fn turn_is_over(&mut self) -> Step {
        self.turn = None;
        self.idle_until = Instant::now() + self.context.limits.session.idle_timeout;
        if let Some(reason) = self.ending {
            return self.end(reason).await;
        }
        if self.draining {
            return self.start_draining();
        }
        if let Some(input) = self.waiting.pop_front() {
            self.start_turn(input);
        }
        Ok(())
    }
}

/// Results for calls that will never have one of their own: models need every call answered.
pub(super) fn abandoned(calls: Vec<ToolCall>, why: &str) -> impl Iterator<Item = EventBody> {
    calls.into_iter().map(move |call| {
        EventBody::ToolResult(ToolResult {
            call_id: call.call_id,
            name: call.name,
            outcome: ToolOutcome::Error(why.to_owned()),
            duration_ms: 0,
        })
    })
}

/// What a client is told of a failed turn.
fn explain(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::RateLimited => "the model is busy; try again in a moment",
        ErrorCode::UpstreamUnavailable => "the model could not be reached, or broke off; try again",
        ErrorCode::UpstreamTimeout => "the model took too long; try again",
        ErrorCode::UpstreamRefused => {
            "the model's endpoint refused the request; see the server's log"
        }
        ErrorCode::ToolFailed => "a tool broke; try again",
        ErrorCode::TurnTooLong => "this took more steps than a turn may; ask for less at once",
        _ => "something went wrong on the server, which has logged it",
    }
}

fn milliseconds(duration: Duration) -> u64 {
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
