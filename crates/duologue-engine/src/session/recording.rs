//! What a turn puts out becomes events and deltas: stored in one commit, and then told.

use duologue_protocol::{
    ErrorCode, ErrorFrame, EventBody, Role, ServerFrame, ToolCall, ToolOutcome, ToolResult, TurnId,
    Usage,
};
use tokio::sync::oneshot;

use crate::{
    log::Entry,
    session::{Session, Step, milliseconds, running::RunningTurn},
    turn::Output,
};

/// What is told to readers, in order: events once they are stored, and frames between them.
enum Item {
    Event,
    Frame(ServerFrame),
}

/// What happens in one moment, sorted into what is stored and what is told.
#[derive(Default)]
pub(super) struct Moment {
    entries: Vec<Entry>,
    items: Vec<Item>,
    barriers: Vec<oneshot::Sender<()>>,
    is_last: bool,
}

impl Moment {
    /// A turn begins, unless it has: its message is stored before anything else is.
    pub(super) fn begin(&mut self, turn: &mut RunningTurn) {
        if let Some(message) = turn.unrecorded.take() {
            self.event(Some(turn.id), EventBody::UserMessage(message));
            self.frame(ServerFrame::Start {
                role: Role::Assistant,
                turn_id: turn.id,
            });
        }
    }

    pub(super) fn event(&mut self, turn_id: Option<TurnId>, body: EventBody) {
        self.entries.push((turn_id, body));
        self.items.push(Item::Event);
    }

    fn frame(&mut self, frame: ServerFrame) {
        self.items.push(Item::Frame(frame));
    }
}

impl Session {
    /// Stores what the turn put out, all in one commit, and then tells it.
    pub(super) async fn record(&mut self, outputs: Vec<Output>) -> Step {
        let moment = self.sort(outputs);
        let is_last = moment.is_last;
        self.commit(moment).await?;
        if is_last {
            self.turn_is_over().await
        } else {
            Ok(())
        }
    }

    /// Stores what happened in one moment, all in one commit, and then tells it.
    pub(super) async fn commit(&mut self, moment: Moment) -> Step {
        let Moment {
            entries,
            items,
            barriers,
            ..
        } = moment;
        let events = if entries.is_empty() {
            Vec::new()
        } else {
            self.append(entries).await?
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
        Ok(())
    }

    fn sort(&mut self, outputs: Vec<Output>) -> Moment {
        let budget_query = self.budget_query();
        let draft_interval = self.context.limits.session.draft_interval;
        let turn = self
            .turn
            .as_mut()
            .expect("only a running turn puts something out");
        let mut moment = Moment::default();
        moment.begin(turn);
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
                    moment.event(Some(turn.id), body);
                }
                Output::Text(text) => moment.frame(turn.extend(text, draft_interval)),
                Output::Barrier(barrier) => moment.barriers.push(barrier),
                Output::Done(outcome) => {
                    let calls = std::mem::take(&mut open_calls);
                    for body in abandoned(calls, "the turn was stopped before the tool answered") {
                        moment.event(Some(turn.id), body);
                    }
                    if let Some(reservation) = &mut turn.reservation {
                        let tokens = outcome.usage.map_or(0, Usage::total);
                        reservation.settle(tokens, self.context.clock.now());
                    }
                    if let Some(code) = outcome.error {
                        let retry_after = (code == ErrorCode::OverBudget)
                            .then(|| self.context.budgets.check(&self.user_budget, budget_query))
                            .and_then(Result::err)
                            .and_then(|refusal| refusal.retry_after);
                        let error = ErrorFrame::new(code, explain(code))
                            .with_turn(Some(turn.id))
                            .with_retry_after_ms(retry_after.map(milliseconds));
                        moment.frame(ServerFrame::Error(error));
                    }
                    let answer = turn.answer(outcome);
                    moment.event(Some(turn.id), EventBody::AssistantMessage(answer));
                    moment.is_last = true;
                }
            }
        }
        moment
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
        ErrorCode::OverBudget => {
            "the tokens of this session or of the day are used up; without a time to wait, begin \
             another session"
        }
        ErrorCode::ToolFailed => "a tool broke; try again",
        ErrorCode::TurnTooLong => "this took more steps than a turn may; ask for less at once",
        _ => "something went wrong on the server, which has logged it",
    }
}
