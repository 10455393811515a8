//! The interface of language models: anything that can stream an answer.

pub mod attempt;

use std::{sync::Arc, time::Duration};

use duologue_protocol::{TextPieces, Usage};
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::{BoxError, tool::OfferedTool};

/// Streams a model's answers.
///
/// One implementation per protocol, chosen by configuration and shared as `Arc<dyn Provider>`.
/// Limits of time and retries are not its business: [`attempt::generate`] applies them to all alike.
pub trait Provider: Send + Sync + 'static {
    /// The model's name, as it is stored with each answer.
    fn model(&self) -> &str;

    /// Whether the model decides by itself which tools to call. If not, the agent does.
    fn calls_tools(&self) -> bool;

    /// Asks for an answer. The request starts with the first poll; dropping the stream closes the
    /// upstream connection.
    ///
    /// A stream that ends well ends with [`Chunk::Finished`], and nothing follows an error.
    fn generate(&self, request: Request) -> BoxStream<'static, Result<Chunk, ProviderError>>;
}

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the answer is for. The mock needs to know; a real model reads it from the prompt.
    pub purpose: Purpose,
    /// The instructions, outside of the conversation.
    pub system: Arc<str>,
    /// The conversation so far, oldest first; the last is a user's or a tool's.
    pub messages: Vec<Message>,
    /// The tools that the model may call. Empty means none.
    pub tools: Vec<Arc<OfferedTool>>,
    /// The longest answer, in tokens.
    pub output_tokens_max: u32,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It answers the user.
    Turn,
    /// It sums a session up.
    Summary,
}

/// One entry of the conversation, as models know it.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A message of the user.
    User(Arc<str>),
    /// The assistant answered, or called tools, or both.
    Assistant {
        /// Its text; empty if it only called tools.
        text: Arc<str>,
        /// The tools it called. Each is answered by a [`Message::Tool`] that follows.
        calls: Vec<ModelCall>,
    },
    /// A tool's answer to one call.
    Tool {
        /// The id of the call.
        call_id: String,
        /// The tool's name.
        name: String,
        /// The answer, as JSON text.
        content: Arc<str>,
    },
}

/// A tool call that a model asks for, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCall {
    /// The model's own id for the call. May be empty or repeat an earlier one.
    pub id: String,
    /// The tool's name, as the model wrote it.
    pub name: String,
    /// The arguments; [`Value::Null`] where the model's text was not JSON.
    pub arguments: Value,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    /// Pieces of text, at least one. What came together stays together.
    Text(TextPieces),
    /// The model works on what is not shown yet, its reasoning or the arguments of a call. It only
    /// says that the answer has not stalled; [`attempt::generate`] keeps it to itself.
    Progress,
    /// A tool call, complete.
    Call(ModelCall),
    /// The end of the answer; nothing follows.
    Finished {
        /// Why it ended.
        reason: StopReason,
        /// What the endpoint counted, if it did.
        usage: Option<Usage>,
    },
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was done, or wants its tools called.
    Stop,
    /// It reached the output limit.
    Length,
}

/// Why there is no answer, or no more of it. The variants answer "may the caller try again?".
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The endpoint limits our rate (429). Try again after the given time, if it gave one.
    #[error("the model's endpoint limits our rate")]
    RateLimited {
        /// The value of `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The endpoint could not be reached, answered 5xx, or broke off. Try again, unless part of the
    /// answer has been shown already.
    #[error("the model's endpoint is unavailable")]
    Unavailable(#[source] BoxError),
    /// The endpoint took longer than a limit allows.
    #[error("the model's endpoint took too long")]
    TimedOut,
    /// The endpoint refused the request: a wrong key, an unknown model. Do not try again.
    #[error("the model's endpoint refused the request")]
    Refused(#[source] BoxError),
}
