//! The model: it does what its seed says, echoes whom it talks to, and keeps an account.
//!
//! Every answer and every summary bears the canary of the conversation that it was asked about, so
//! that text which strays into another session shows.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use duologue_engine::provider::{
    Chunk, Message, ModelCall, Provider, ProviderError, Purpose, Request, StopReason,
};
use duologue_observer::canary;
use fastrand::Rng;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use serde_json::json;
use tokio::time::sleep;

use crate::{database::Counts, tools::TOOL, trace::Trace};

/// The model of all servers. Clones are the same model.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    trace: Trace,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    is_calm: bool,
    /// Requests for a turn, by the last message of its user.
    turns: Counts<String>,
    /// Requests for a summary, by the canary of the session.
    summaries: Counts<String>,
}

/// How an answer goes.
enum Step {
    Wait(Duration),
    Say(String),
    Call,
    Fail(ProviderError),
    Stall,
    BreakOff,
}

impl Model {
    pub(crate) fn new(trace: Trace, seed: u64) -> Self {
        Self {
            trace,
            state: Arc::new(Mutex::new(State {
                rng: Rng::with_seed(seed),
                is_calm: false,
                turns: Counts::new(),
                summaries: Counts::new(),
            })),
        }
    }

    /// From now on it does not fail.
    pub(crate) fn calm_down(&self) {
        self.lock().is_calm = true;
    }

    /// Requests for turns, by the user's message.
    pub(crate) fn turns(&self) -> Counts<String> {
        self.lock().turns.clone()
    }

    /// Requests for summaries, by canary.
    pub(crate) fn summaries(&self) -> Counts<String> {
        self.lock().summaries.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn script(&self, request: &Request) -> Vec<Step> {
        let said = request.messages.iter().map(said);
        let canaries = canary::all(&said.collect::<Vec<_>>().join("\n"));
        if canaries.len() > 1 {
            let what = format!("a model was shown the text of several sessions: {canaries:?}");
            self.trace.violation("model", &what);
        }
        let canary = canaries.first().cloned().unwrap_or_default();
        let mut state = self.lock();
        match request.purpose {
            Purpose::Summary => {
                *state.summaries.entry(canary.clone()).or_default() += 1;
                state.summary(&canary)
            }
            Purpose::Turn => {
                let asked = request
                    .messages
                    .iter()
                    .rev()
                    .find_map(|message| match message {
                        Message::User(text) => Some(text.to_string()),
                        _ => None,
                    });
                *state.turns.entry(asked.unwrap_or_default()).or_default() += 1;
                let has_called = matches!(request.messages.last(), Some(Message::Tool { .. }));
                state.turn(&canary, has_called)
            }
        }
    }
}

fn said(message: &Message) -> &str {
    match message {
        Message::User(text) | Message::Assistant { text, .. } => text,
        Message::Tool { content, .. } => content,
    }
}

impl State {
    /// The beginning of an answer may fail in all the ways that endpoints have.
    fn trouble(&mut self) -> Option<Step> {
        if self.is_calm {
            return None;
        }
        match self.rng.u32(0..40) {
            0 => Some(Step::Fail(ProviderError::Unavailable(
                "the simulated endpoint is away".into(),
            ))),
            1 => Some(Step::Fail(ProviderError::RateLimited {
                retry_after: Some(Duration::from_millis(self.rng.u64(100..4000))),
            })),
            2 => Some(Step::Fail(ProviderError::Refused(
                "the simulated endpoint does not want to".into(),
            ))),
            3 => Some(Step::Stall),
            4 => Some(Step::BreakOff),
            _ => None,
        }
    }

    fn turn(&mut self, canary: &str, has_called: bool) -> Vec<Step> {
        let mut steps = vec![Step::Wait(self.millis(5..400))];
        if let Some(trouble) = self.trouble() {
            steps.push(trouble);
            return steps;
        }
        let (pieces, pause) = match self.rng.u32(0..10) {
            // A flood, for readers that do not keep up.
            0 => (400, 0..2),
            1..=3 => (40, 10..120),
            _ => (10, 0..60),
        };
        steps.push(Step::Say(format!("{canary}: ")));
        for piece in 0..self.rng.usize(1..=pieces) {
            steps.push(Step::Wait(self.millis(pause.clone())));
            steps.push(Step::Say(format!("piece {piece}, ")));
        }
        // The end comes after the last piece, which is shown at once, and not together with it.
        steps.push(Step::Wait(self.millis(20..200)));
        if !has_called && self.rng.u32(0..4) == 0 {
            steps.push(Step::Call);
        } else {
            steps.extend(self.trouble());
        }
        steps
    }

    fn summary(&mut self, canary: &str) -> Vec<Step> {
        let wait = match self.rng.u32(0..2) {
            // Longer than a job's lease, so that it must be kept, or is lost.
            0 if !self.is_calm => self.millis(2000..2900),
            _ => self.millis(10..300),
        };
        let mut steps = vec![Step::Wait(wait)];
        if let Some(trouble) = self.trouble() {
            steps.push(trouble);
            return steps;
        }
        let stamp = self.rng.u32(..);
        for piece in 0..self.rng.u32(1..4) {
            steps.push(Step::Say(format!("{canary} summary {stamp:x}, {piece}. ")));
            steps.push(Step::Wait(wait));
        }
        steps
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }
}

impl Provider for Model {
    fn model(&self) -> &'static str {
        "simulated"
    }

    fn calls_tools(&self) -> bool {
        true
    }

    fn generate(&self, request: Request) -> BoxStream<'static, Result<Chunk, ProviderError>> {
        let may_call = !request.tools.is_empty();
        let steps = self.script(&request).into_iter();
        stream::unfold(Some(steps), move |steps| async move {
            let mut steps = steps?;
            loop {
                let chunk = match steps.next() {
                    Some(Step::Wait(time)) => {
                        sleep(time).await;
                        continue;
                    }
                    Some(Step::Call) if !may_call => continue,
                    // Several pieces at once, as from one read of a connection.
                    Some(Step::Say(text)) => Chunk::Text(text.split_inclusive(' ').collect()),
                    Some(Step::Call) => Chunk::Call(ModelCall {
                        id: "call".to_owned(),
                        name: TOOL.to_owned(),
                        arguments: json!({ "what": "a look" }),
                    }),
                    Some(Step::Fail(error)) => return Some((Err(error), None)),
                    Some(Step::Stall) => std::future::pending().await,
                    Some(Step::BreakOff) => return None,
                    None => {
                        let finished = Chunk::Finished {
                            reason: StopReason::Stop,
                            usage: None,
                        };
                        return Some((Ok(finished), None));
                    }
                };
                return Some((Ok(chunk), Some(steps)));
            }
        })
        .boxed()
    }
}
