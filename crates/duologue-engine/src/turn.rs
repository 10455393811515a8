//! A turn: from one user's message to the end of its answer, as a walk through a small graph.
//!
//! ```text
//! Route ─▶ CallTools ─▶ Prepare ─▶ Generate ─▶ Done
//!   │          ▲                       │
//!   │          └───────────────────────┤
//!   └────────▶ Ask ◀───────────────────┘
//! ```
//!
//! A turn that a lost server left during its tool calls starts with `CallAgain` instead of `Route`.
//!
//! A turn owns only its walk. Its outputs go to its session, which stores events before it sends them; the
//! pieces of its answer go to the readers at once, unless such an event is before them. The walk does not
//! wait for that, so the model is asked while the user's message is being stored;
//! only a tool waits until its call is stored, since it may have side effects.

mod generate;
mod recovery;
mod sanitize;
mod tools;
pub(crate) mod usage_meter;

use std::{panic::AssertUnwindSafe, sync::Arc};

use duologue_protocol::{
    CallId, ErrorCode, EventBody, FinishReason, FollowUp, Routed, TextPieces, ToolCall, TurnId,
    Usage,
};
use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{ModelTools, Plan, Situation, Step},
    broadcast::{Broadcast, Route},
    budgets::UserBudget,
    context::Context,
    provider::{Message, ProviderError},
    store::Lease,
    tool::OfferedTool,
    transcript::{Transcript, recent},
    turn::usage_meter::UsageMeter,
};

/// Outputs that wait for the session. A model that is faster than the store has to wait.
const OUTPUTS_QUEUED_MAX: usize = 256;

/// Pieces that a model may produce before the readers run, whose queues are bounded.
const PIECES_WITHOUT_YIELD_MAX: usize = 256;

/// The outputs of a turn that go through its session, in order.
#[derive(Debug)]
pub(crate) enum Output {
    /// An event for the log.
    Event(EventBody),
    /// Pieces of the answer, at least one, that follow other outputs.
    Text(TextPieces),
    /// Opened once everything before it is stored.
    Barrier(oneshot::Sender<()>),
    /// The end; nothing follows.
    Done(TurnOutcome),
}

/// How a turn ended.
#[derive(Debug, PartialEq)]
pub(crate) struct TurnOutcome {
    pub(crate) finish_reason: FinishReason,
    pub(crate) error: Option<ErrorCode>,
    pub(crate) usage: Option<Usage>,
    /// The model that was asked, if one was.
    pub(crate) model: Option<String>,
}

impl TurnOutcome {
    pub(crate) fn failed(code: ErrorCode) -> Self {
        Self {
            finish_reason: FinishReason::Error,
            error: Some(code),
            usage: None,
            model: None,
        }
    }
}

/// A node of the graph, with what it needs to run.
enum Node {
    Route,
    CallTools(Vec<ToolCall>),
    /// Continues a turn that a lost server left: these calls are stored without a result.
    CallAgain(Vec<ToolCall>),
    Ask(FollowUp),
    Prepare,
    Generate(crate::provider::Request),
    Done(FinishReason),
    /// The turn ends before it starts: the tokens are used up.
    Unaffordable,
}

/// Why a walk stopped before its end.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error("the turn took more steps than it may")]
    TooLong,
    #[error("the tokens are used up")]
    OverBudget,
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error("the tool `{0}` failed")]
    Tool(String),
    /// The session's task is gone.
    #[error("the session is gone")]
    Abandoned,
}

impl TurnError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::TooLong => ErrorCode::TurnTooLong,
            Self::OverBudget => ErrorCode::OverBudget,
            Self::Provider(ProviderError::RateLimited { .. }) => ErrorCode::RateLimited,
            Self::Provider(ProviderError::Unavailable(_)) => ErrorCode::UpstreamUnavailable,
            Self::Provider(ProviderError::TimedOut) => ErrorCode::UpstreamTimeout,
            Self::Provider(ProviderError::Refused(_)) => ErrorCode::UpstreamRefused,
            Self::Tool(_) => ErrorCode::ToolFailed,
            Self::Abandoned => ErrorCode::Internal,
        }
    }
}

/// A turn about to run, or running.
pub(crate) struct Turn {
    context: Arc<Context>,
    lease: Lease,
    id: TurnId,
    text: Arc<str>,
    pending: Option<FollowUp>,
    last_call: Option<ToolCall>,
    /// The conversation up to now, growing with the turn's own tool calls.
    messages: Vec<Message>,
    /// What the model may call. Decided by the route.
    tools: Vec<Arc<OfferedTool>>,
    calls_made: u16,
    answer_bytes: usize,
    spent: UsageMeter,
    /// Who pays, and what the session had used before.
    user_budget: Arc<UserBudget>,
    session_tokens: u64,
    model: Option<String>,
    outputs: mpsc::Sender<Output>,
    broadcast: Arc<Broadcast>,
    /// Pieces sent to readers since other tasks could last run.
    pieces_sent: usize,
    /// Where the walk begins.
    start: Node,
}

impl Turn {
    /// A turn on the user's `text`, and where its outputs will appear.
    pub(crate) fn new(
        context: Arc<Context>,
        broadcast: Arc<Broadcast>,
        (lease, user_budget): (&Lease, &Arc<UserBudget>),
        id: TurnId,
        text: &Arc<str>,
        transcript: &Transcript,
    ) -> (Self, mpsc::Receiver<Output>) {
        let (outputs, receiver) = mpsc::channel(OUTPUTS_QUEUED_MAX);
        let mut messages =
            recent(&transcript.messages, context.limits.turn.prompt_bytes_max).to_vec();
        messages.push(Message::User(Arc::clone(text)));
        let turn = Self {
            context,
            lease: lease.clone(),
            id,
            text: Arc::clone(text),
            pending: transcript.pending.clone(),
            last_call: transcript.last_call.clone(),
            messages,
            tools: Vec::new(),
            calls_made: 0,
            answer_bytes: 0,
            spent: UsageMeter::default(),
            user_budget: Arc::clone(user_budget),
            session_tokens: transcript.tokens,
            model: None,
            outputs,
            broadcast,
            pieces_sent: 0,
            start: Node::Route,
        };
        (turn, receiver)
    }

    /// The same turn, but without a model: it fails at once.
    pub(crate) fn unaffordable(mut self) -> Self {
        self.start = Node::Unaffordable;
        self
    }

    /// Runs to the end, and always sends `Done` last, also after a failure, a cancel or a panic.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let walk = AssertUnwindSafe(self.walk()).catch_unwind();
        let (finish_reason, error) = match cancel.run_until_cancelled(walk).await {
            None => (FinishReason::Cancelled, None),
            Some(Ok(Ok(finish_reason))) => (finish_reason, None),
            Some(Ok(Err(error))) => {
                tracing::warn!(
                    turn.id = %self.id, error = &error as &dyn std::error::Error, "turn.failed"
                );
                (FinishReason::Error, Some(error.code()))
            }
            Some(Err(_panic)) => {
                // The panic hook has logged it with its place.
                tracing::error!(turn.id = %self.id, "turn.panicked");
                (FinishReason::Error, Some(ErrorCode::Internal))
            }
        };
        let outcome = TurnOutcome {
            finish_reason,
            error,
            usage: self.spent.total(),
            model: self.model,
        };
        // A session whose task is gone needs no end.
        drop(self.outputs.send(Output::Done(outcome)).await);
    }

    /// Walks the graph. Its edges are the arms of this match, and it has no others.
    async fn walk(&mut self) -> Result<FinishReason, TurnError> {
        let mut node = std::mem::replace(&mut self.start, Node::Route);
        for _ in 0..self.context.limits.turn.steps_max {
            node = match node {
                Node::Route => self.route().await?, // -> CallTools | Ask | Prepare
                Node::CallTools(calls) => self.call_tools(calls).await?, // -> Prepare
                Node::CallAgain(calls) => self.call_again(calls).await?, // -> Prepare
                Node::Ask(question) => self.ask(question).await?, // -> Done
                Node::Prepare => self.prepare()?,   // -> Generate
                Node::Generate(request) => self.generate(request).await?, // -> CallTools | Ask | Prepare | Done
                Node::Done(finish_reason) => return Ok(finish_reason),
                Node::Unaffordable => return Err(TurnError::OverBudget),
            };
        }
        Err(TurnError::TooLong)
    }

    /// Chooses what the turn does.
    async fn route(&mut self) -> Result<Node, TurnError> {
        let plan = self.plan();
        self.emit(EventBody::Routed(Routed {
            route: plan.route,
            tool: plan.tool,
        }))
        .await?;
        Ok(match plan.step {
            Step::Call { tool, arguments } => Node::CallTools(vec![self.call(tool, arguments)]),
            Step::Ask(question) => Node::Ask(question),
            Step::Generate { tools } => {
                self.tools = tools;
                Node::Prepare
            }
        })
    }

    fn plan(&self) -> Plan {
        let model_tools = if self.context.provider.calls_tools() {
            ModelTools::Supported
        } else {
            ModelTools::Unsupported
        };
        self.context.agent.route(&self.situation(), model_tools)
    }

    /// Asks the user for what a tool lacks. The question is the turn's answer.
    async fn ask(&mut self, question: FollowUp) -> Result<Node, TurnError> {
        let text = question.question.clone();
        self.emit(EventBody::FollowUp(question)).await?;
        self.say(text.into()).await?;
        Ok(Node::Done(FinishReason::FollowUp))
    }

    fn situation(&self) -> Situation<'_> {
        Situation {
            text: &self.text,
            user_id: &self.lease.user_id,
            pending: self.pending.as_ref(),
            last_call: self
                .last_call
                .as_ref()
                .map(|call| (call.name.as_str(), &call.arguments)),
        }
    }

    /// Names a call.
    fn call(&mut self, name: String, arguments: Value) -> ToolCall {
        self.calls_made += 1;
        ToolCall {
            call_id: CallId::new(self.id, self.calls_made.into()),
            name,
            arguments,
        }
    }

    async fn emit(&self, body: EventBody) -> Result<(), TurnError> {
        self.put(Output::Event(body)).await
    }

    /// Puts out pieces of the answer.
    async fn say(&mut self, pieces: TextPieces) -> Result<(), TurnError> {
        self.pieces_sent += pieces.count();
        match self.broadcast.send_pieces(pieces) {
            Route::Sent if self.pieces_sent < PIECES_WITHOUT_YIELD_MAX => Ok(()),
            Route::Sent => {
                self.pieces_sent = 0;
                tokio::task::yield_now().await;
                Ok(())
            }
            Route::ThroughSession(pieces) => self.send(Output::Text(pieces)).await,
        }
    }

    async fn put(&self, output: Output) -> Result<(), TurnError> {
        self.broadcast.output_pending();
        self.send(output).await
    }

    async fn send(&self, output: Output) -> Result<(), TurnError> {
        self.outputs
            .send(output)
            .await
            .map_err(|_| TurnError::Abandoned)
    }
}
