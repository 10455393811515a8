//! A provider that does what a test tells it, and checks what it is sent.
//!
//! Each answer follows a script of [`Step`]s. What the provider has seen so far (requests, streams
//! that are open, streams that were dropped) can be looked at, or waited for.

mod conversation;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    future::pending,
    sync::Arc,
    time::Duration,
};

use duologue_protocol::Usage;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{sync::watch, time::timeout};

use duologue_engine::provider::{
    Chunk, ModelCall, Provider, ProviderError, Purpose, Request, StopReason,
};

/// The summary that is given where no script was made for one.
pub const SUMMARY: &str = "A scripted summary.";

/// How long a `wait_…` method waits before it panics.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// One step of a scripted answer.
///
/// A script that does not say how it ends, ends with [`StopReason::Stop`] and no usage.
#[derive(Debug)]
pub enum Step {
    /// Says a piece of text.
    Say(String),
    /// Works without showing anything, as on the arguments of a call.
    Work,
    /// Asks for a tool.
    Call(ModelCall),
    /// Goes on when [`ScriptedProvider::release`] is called with the same name, or was before.
    Hold(&'static str),
    /// Never sends anything.
    Stall,
    /// Fails.
    Fail(ProviderError),
    /// Ends without a [`Chunk::Finished`], as no provider may.
    BreakOff,
    /// Finishes.
    Finish(StopReason, Option<Usage>),
}

/// A provider that follows scripts. Clones are the same provider.
#[derive(Clone, Debug)]
pub struct ScriptedProvider {
    calls_tools: bool,
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Vec<Step>>,
    summaries: VecDeque<Vec<Step>>,
    released: HashSet<&'static str>,
    requests: Vec<Request>,
    streams_open: usize,
    streams_dropped: usize,
}

impl ScriptedProvider {
    /// A provider whose model decides by itself which tools to call.
    pub fn calling_tools() -> Self {
        Self {
            calls_tools: true,
            state: Arc::new(watch::Sender::new(State::default())),
        }
    }

    /// A provider whose model cannot call tools, so that the agent's rules decide.
    pub fn following_rules() -> Self {
        Self {
            calls_tools: false,
            ..Self::calling_tools()
        }
    }

    /// Scripts the next answer to a user that has no script yet.
    pub fn will(&self, script: impl IntoIterator<Item = Step>) {
        let script = script.into_iter().collect();
        self.state
            .send_modify(|state| state.answers.push_back(script));
    }

    /// Scripts the next answer to be `text`, in one piece.
    pub fn will_say(&self, text: &str) {
        self.will([Step::Say(text.to_owned())]);
    }

    /// Scripts the next summary that has no script yet. Without a script, it is [`SUMMARY`].
    pub fn will_summarize(&self, script: impl IntoIterator<Item = Step>) {
        let script = script.into_iter().collect();
        self.state
            .send_modify(|state| state.summaries.push_back(script));
    }

    /// Lets all answers go on that hold at `name`, now or later.
    pub fn release(&self, name: &'static str) {
        self.state.send_modify(|state| {
            state.released.insert(name);
        });
    }

    /// All requests so far, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.state.borrow().requests.clone()
    }

    /// Answers that have begun, and are neither over nor dropped.
    pub fn streams_open(&self) -> usize {
        self.state.borrow().streams_open
    }

    /// Answers that were dropped before they were over.
    pub fn streams_dropped(&self) -> usize {
        self.state.borrow().streams_dropped
    }

    /// Waits until there have been `count` requests.
    pub async fn wait_for_requests(&self, count: usize) {
        self.wait_for("requests", count, |state| state.requests.len())
            .await;
    }

    /// Waits until `count` answers were dropped before they were over.
    pub async fn wait_for_dropped(&self, count: usize) {
        self.wait_for("dropped streams", count, |state| state.streams_dropped)
            .await;
    }

    async fn wait_for(&self, what: &str, count: usize, current: fn(&State) -> usize) {
        let mut changes = self.state.subscribe();
        let reached = changes.wait_for(|state| current(state) >= count);
        if timeout(WAIT_MAX, reached).await.is_err() {
            let current = current(&self.state.borrow());
            panic!("expected {count} {what} within {WAIT_MAX:?}; there are {current}");
        }
    }

    /// Records the request and takes the script of its answer.
    fn begin(&self, request: Request) -> Playing {
        conversation::check(&request);
        let mut script = None;
        self.state.send_modify(|state| {
            script = match request.purpose {
                Purpose::Turn => state.answers.pop_front(),
                Purpose::Summary => {
                    let summary = state.summaries.pop_front();
                    Some(summary.unwrap_or_else(|| vec![Step::Say(SUMMARY.to_owned())]))
                }
            };
            state.requests.push(request);
            state.streams_open += usize::from(script.is_some());
        });
        let script = script.expect("the scripted provider is asked for an answer without a script");
        Playing {
            steps: script.into(),
            state: Arc::clone(&self.state),
            is_over: false,
        }
    }
}

impl Provider for ScriptedProvider {
    fn model(&self) -> &'static str {
        "scripted"
    }

    fn calls_tools(&self) -> bool {
        self.calls_tools
    }

    fn generate(&self, request: Request) -> BoxStream<'static, Result<Chunk, ProviderError>> {
        let provider = self.clone();
        // The request starts with the first poll, as the contract has it.
        stream::once(async move { provider.begin(request) })
            .flat_map(|playing| {
                stream::unfold(playing, |mut playing| async {
                    let item = playing.next().await?;
                    Some((item, playing))
                })
            })
            .boxed()
    }
}

/// One answer on its way.
struct Playing {
    steps: VecDeque<Step>,
    state: Arc<watch::Sender<State>>,
    is_over: bool,
}

impl Playing {
    async fn next(&mut self) -> Option<Result<Chunk, ProviderError>> {
        if self.is_over {
            return None;
        }
        loop {
            match self.steps.pop_front() {
                Some(Step::Say(text)) => return Some(Ok(Chunk::Text(text.into()))),
                Some(Step::Work) => return Some(Ok(Chunk::Progress)),
                Some(Step::Call(call)) => return Some(Ok(Chunk::Call(call))),
                Some(Step::Hold(name)) => self.hold(name).await,
                Some(Step::Stall) => pending().await,
                Some(Step::Fail(error)) => return self.end(Some(Err(error))),
                Some(Step::BreakOff) => return self.end(None),
                Some(Step::Finish(reason, usage)) => {
                    return self.end(Some(Ok(Chunk::Finished { reason, usage })));
                }
                None => {
                    let reason = StopReason::Stop;
                    return self.end(Some(Ok(Chunk::Finished {
                        reason,
                        usage: None,
                    })));
                }
            }
        }
    }

    async fn hold(&self, name: &'static str) {
        let mut changes = self.state.subscribe();
        changes
            .wait_for(|state| state.released.contains(name))
            .await
            .expect("this answer keeps the sender");
    }

    fn end<T>(&mut self, last: T) -> T {
        self.is_over = true;
        last
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.state.send_modify(|state| {
            state.streams_open -= 1;
            state.streams_dropped += usize::from(!self.is_over);
        });
    }
}
