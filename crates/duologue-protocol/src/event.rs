//! Events: the facts of a session, numbered, stored, and sent only after they are stored.
//!
//! An [`Event`] is kept as a row `(seq, event_type, payload, occurred_at)`. [`Event::payload`] and
//! [`EventBody::read`] are the two directions of that; [`crate::ServerFrame`] spells the same fields
//! for clients.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{
    CallId, ConnectionId, ErrorCode, FrameDescription, FrameKind, MessageId, OnBusy, Seq,
    SessionId, Timestamp, TurnId, UserId, description::fields,
};

/// What an `assistant_message` is called on the wire.
pub(crate) const DONE: &str = "done";

/// One entry of a session's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its position: 1, 2, 3, … without gaps.
    pub seq: Seq,
    /// When it happened, by the server's clock; never earlier than the event before it.
    pub occurred_at: Timestamp,
    /// The turn it belongs to, if it belongs to one.
    pub turn_id: Option<TurnId>,
    /// What happened.
    pub body: EventBody,
}

/// Defines [`EventBody`] and everything that follows from the list of events: one line per event with
/// the struct of its fields, the name that the log stores it under, and the name that clients see if
/// that is another one.
macro_rules! events {
    ($($(#[$doc:meta])* $body:ident = $event_type:literal $(as $wire_type:ident)?;)*) => {
        /// What happened.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum EventBody {
            $($(#[$doc])* $body($body),)*
        }

        impl EventBody {
            /// All names that the log stores events under.
            pub const TYPES: &'static [&'static str] = &[$($event_type),*];

            /// The name that the log stores it under.
            pub fn event_type(&self) -> &'static str {
                match self {
                    $(Self::$body(_) => $event_type,)*
                }
            }

            /// The name that clients see.
            pub fn wire_type(&self) -> &'static str {
                match self {
                    $(Self::$body(_) => events!(@wire $event_type $($wire_type)?),)*
                }
            }

            /// The name that the log stores an event under which clients see as `wire_type`.
            pub(crate) fn event_type_of(wire_type: &str) -> Option<&'static str> {
                let names = [$((events!(@wire $event_type $($wire_type)?), $event_type)),*];
                let found = names.into_iter().find(|(name, _)| *name == wire_type);
                found.map(|(_, event_type)| event_type)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                event_type: &str,
                payload: D,
            ) -> Result<Self, D::Error> {
                match event_type {
                    $($event_type => Deserialize::deserialize(payload).map(Self::$body),)*
                    _ => Err(serde::de::Error::custom("this type is unknown here")),
                }
            }

            /// All events.
            pub(crate) fn descriptions() -> Vec<FrameDescription> {
                vec![$(FrameDescription {
                    name: events!(@wire $event_type $($wire_type)?),
                    kind: FrameKind::Event,
                    fields: fields::<$body>().expect("the fields of an event have names"),
                }),*]
            }
        }
    };
    (@wire $event_type:literal) => { $event_type };
    (@wire $event_type:literal $wire_type:ident) => { $wire_type };
}

events! {
    /// The session was created. Always the first event.
    SessionStarted = "session_started";
    /// A reader attached.
    ClientConnected = "client_connected";
    /// A reader left, or was lost.
    ClientDisconnected = "client_disconnected";
    /// The user said something while a turn was running: it has to wait for its own.
    MessageQueued = "message_queued";
    /// The user said something: a turn begins.
    UserMessage = "user_message";
    /// The router chose what the turn does.
    Routed = "routed";
    /// A tool is about to be called.
    ToolCall = "tool_call";
    /// A tool has answered.
    ToolResult = "tool_result";
    /// A question was asked, since a tool lacks a parameter.
    FollowUp = "follow_up";
    /// The answer is complete, or as complete as it will be: the turn is over.
    AssistantMessage = "assistant_message" as DONE;
    /// The session ended. It may be reopened by a `client_connected` that says so.
    SessionEnded = "session_ended";
    /// The summary was made, or has finally failed.
    SessionSummarized = "session_summarized";
    /// An entry of the log that this server's predecessor kept, which nothing here corresponds to.
    Imported = "imported";
}

/// See [`EventBody::SessionStarted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionStarted {
    /// The session's id.
    pub session_id: SessionId,
    /// Whose session it is.
    pub user_id: UserId,
    /// The name of the agent that answers in it.
    pub agent: String,
}

/// See [`EventBody::ClientConnected`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientConnected {
    /// Tells the readers of one session apart: 1, 2, 3, … in the order of their coming.
    pub connection: ConnectionId,
    /// Whether this connection reopened a session that had ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reopened: bool,
}

/// See [`EventBody::ClientDisconnected`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientDisconnected {
    /// Which reader it was, as in its `client_connected`.
    pub connection: ConnectionId,
    /// Why it is gone.
    pub reason: DisconnectReason,
}

/// Why a reader is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectReason {
    /// It closed with 1000: it is done with the session.
    Closed,
    /// It went away without saying that it is done: no close frame, or another code.
    Lost,
    /// It answered no ping in time.
    Unresponsive,
    /// It did not keep up and was cut off.
    Slow,
    /// It broke the protocol's rules in a way that closes the connection.
    Protocol,
}

/// See [`EventBody::MessageQueued`]. The event belongs to no turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageQueued {
    /// What the user wrote.
    pub text: Arc<str>,
    /// The client's own name for the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// Which place it takes among those that wait. Never `reject`.
    pub on_busy: OnBusy,
}

/// See [`EventBody::UserMessage`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserMessage {
    /// What the user wrote.
    pub text: Arc<str>,
    /// The client's own name for the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// The `message_queued` that this was, where it had to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_seq: Option<Seq>,
}

/// See [`EventBody::Routed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routed {
    /// The route's name in the agent's configuration.
    pub route: String,
    /// The tool that the route leads to, if it leads to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
}

/// See [`EventBody::ToolCall`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Links the call with its result.
    pub call_id: CallId,
    /// The tool's name.
    pub name: String,
    /// A JSON object that the tool's schema has accepted.
    pub arguments: Value,
}

/// See [`EventBody::ToolResult`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ToolResultFields")]
pub struct ToolResult {
    /// The call that this answers.
    pub call_id: CallId,
    /// The tool's name.
    pub name: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: ToolOutcome,
    /// How long the tool took, in milliseconds.
    pub duration_ms: u64,
}

/// What came of a tool call: `{"result": …}` or `{"error": "…"}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// The tool's answer, any JSON.
    Result(Value),
    /// Why there is no answer, in words that the model and the user may see.
    Error(String),
}

/// A [`ToolResult`] as it is read: with all fields by name, so that [`fields`] finds them.
#[derive(Deserialize)]
struct ToolResultFields {
    call_id: CallId,
    name: String,
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    error: Option<String>,
    duration_ms: u64,
}

/// Reads a field that is there, even if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl TryFrom<ToolResultFields> for ToolResult {
    type Error = &'static str;

    fn try_from(fields: ToolResultFields) -> Result<Self, Self::Error> {
        let outcome = match (fields.result, fields.error) {
            (Some(result), _) => ToolOutcome::Result(result),
            (None, Some(error)) => ToolOutcome::Error(error),
            (None, None) => return Err("neither `result` nor `error`"),
        };
        Ok(Self {
            call_id: fields.call_id,
            name: fields.name,
            outcome,
            duration_ms: fields.duration_ms,
        })
    }
}

/// See [`EventBody::FollowUp`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FollowUp {
    /// The tool that waits.
    pub tool: String,
    /// The names of the parameters that are still missing.
    pub missing: Vec<String>,
    /// The question, as the user sees it.
    pub question: String,
    /// A JSON Schema of the missing parameters, so that a client can show a form.
    pub schema: Value,
    /// The arguments that are known already.
    pub arguments: Value,
}

/// See [`EventBody::AssistantMessage`]. On the wire it is called `done`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssistantMessage {
    /// The whole answer, or what there was of it.
    pub text: Arc<str>,
    /// Why it ends here.
    pub finish_reason: FinishReason,
    /// What failed, where `finish_reason` is `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorCode>,
    /// What the turn used, all its requests together; absent where no model was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// From the user's message to the first piece of text, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<u64>,
    /// From the user's message to the end of the answer, in milliseconds.
    pub duration_ms: u64,
    /// The model that answered, or `none` where no model was asked.
    pub model: String,
}

/// Why an answer ends where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It is complete.
    Stop,
    /// It is a question; a tool waits for the answer.
    FollowUp,
    /// The model reached its output limit.
    Length,
    /// A reader cancelled it, said something that took its place, or ended the session.
    Cancelled,
    /// Something failed; `error` says what.
    Error,
    /// The server went away in the middle of it, or the session was abandoned before it began.
    Interrupted,
}

/// Tokens, as the model's endpoint counts them, or as they were estimated from the size of the texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Whether some of it is an estimate, since the endpoint did not count, or was not heard to the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl Usage {
    /// Tokens read and written.
    pub fn total(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.estimated = self.estimated || other.estimated;
    }
}

/// See [`EventBody::SessionEnded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionEnded {
    /// Why it ended.
    pub reason: EndReason,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// A reader closed with 1000.
    Closed,
    /// A reader sent `end`.
    Requested,
    /// The last reader was lost and none came back within the grace.
    Abandoned,
    /// Nobody said anything for too long.
    Idle,
}

impl EndReason {
    /// The stable string, as rows and frames hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Requested => "requested",
            Self::Abandoned => "abandoned",
            Self::Idle => "idle",
        }
    }
}

/// See [`EventBody::SessionSummarized`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionSummarized {
    /// Whether there is a summary.
    pub status: SummaryStatus,
    /// The summary; absent where it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

/// See [`EventBody::Imported`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// What the entry was called there.
    pub former_type: String,
    /// The entry as it was.
    #[serde(default)]
    pub former: Value,
}

/// How a session's summary stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SummaryStatus {
    /// A job will make it.
    Pending,
    /// It is there.
    Done,
    /// It could not be made; no further attempt follows.
    Failed,
}

impl SummaryStatus {
    /// The stable string, as rows and frames hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}
