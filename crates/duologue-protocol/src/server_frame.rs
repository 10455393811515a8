//! What the server says, and how the two dialects spell it.
//!
//! JSON is the default: one object per frame. Text is for clients that know only bare tokens: see
//! [`TextFrames`].

use std::sync::Arc;

use serde::Serialize;

use crate::{ErrorCode, Event, EventBody, MessageId, Seq, SessionId, Timestamp, TurnId, UserId};

/// Ends every turn in the text dialect.
pub const END_OF_RESPONSE: &str = "[END_OF_RESPONSE]";

/// One frame for a reader.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerFrame {
    /// A fact, already stored.
    Event(Event),
    /// The first frame on a session that existed before: what `session_started` said, and how far
    /// the log has come. It is no event and has no `seq`.
    Resumed {
        /// The session's id.
        session_id: SessionId,
        /// Whose session it is.
        user_id: UserId,
        /// The agent that answers in it.
        agent: String,
        /// The last event of the log at this moment.
        last_seq: Seq,
    },
    /// An answer begins.
    Start {
        /// Its turn.
        turn_id: TurnId,
    },
    /// A piece of the forming answer.
    Token {
        /// Its turn.
        turn_id: TurnId,
        /// The piece; never empty.
        text: String,
        /// 0, 1, 2, … within the turn.
        index: u64,
    },
    /// The answer so far; replaces what is shown.
    Draft {
        /// Its turn.
        turn_id: TurnId,
        /// All the text so far.
        text: Arc<str>,
        /// The index of the next `token`.
        next_index: u64,
    },
    /// All events up to `seq` have been sent; live from here.
    Replayed {
        /// The last replayed event.
        seq: Seq,
    },
    /// A refused request, or why a turn failed.
    Error(ErrorFrame),
    /// The server is about to close the connection.
    GoAway {
        /// In one word: `restart`, or `age` for a connection that has lived long enough.
        reason: &'static str,
        /// How long to wait before reconnecting, in milliseconds.
        reconnect_after_ms: u64,
    },
    /// Something that the session needs does not answer, and is waited for. Sent once.
    Degraded {
        /// What: `storage`.
        reason: &'static str,
    },
    /// What was told by `degraded` is over.
    Recovered {
        /// As in `degraded`.
        reason: &'static str,
    },
    /// The client brought no token with its handshake, and is to send one now, by `auth`.
    AuthRequired {
        /// How long it may take, in milliseconds.
        timeout_ms: u64,
    },
    /// The token of an `auth` was accepted.
    AuthOk {
        /// Whose token it is.
        user_id: UserId,
        /// When it expires.
        expires_at: Timestamp,
    },
    /// The connection's token expires soon; a fresh one keeps the connection.
    AuthExpiring {
        /// When it expires.
        expires_at: Timestamp,
    },
    /// The answer to `ping`.
    Pong,
}

/// The fields of an `error` frame.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorFrame {
    /// A stable string.
    pub code: ErrorCode,
    /// A sentence for people. Never a cause from inside the server.
    pub message: String,
    /// The refused message's own id.
    pub id: Option<MessageId>,
    /// The turn that failed; absent where a request was refused.
    pub turn_id: Option<TurnId>,
    /// How long to wait before trying again, in milliseconds; absent where that is not known, or where
    /// waiting does not help.
    pub retry_after_ms: Option<u64>,
}

#[derive(Serialize)]
struct EventJson<'a> {
    r#type: &'static str,
    seq: Seq,
    occurred_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_id: Option<TurnId>,
    #[serde(flatten)]
    started: Option<StartedJson>,
    #[serde(flatten)]
    body: &'a EventBody,
}

/// What `session_started` says besides its event: it is the first frame of a new session.
#[derive(Serialize)]
struct StartedJson {
    resumed: bool,
    last_seq: Seq,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum PlainJson<'a> {
    SessionStarted {
        session_id: &'a SessionId,
        user_id: &'a UserId,
        agent: &'a str,
        resumed: bool,
        last_seq: Seq,
    },
    Start {
        role: &'static str,
        turn_id: TurnId,
    },
    Token {
        turn_id: TurnId,
        index: u64,
        token: &'a str,
    },
    Draft {
        turn_id: TurnId,
        text: &'a str,
        next_index: u64,
    },
    Replayed {
        seq: Seq,
    },
    Error {
        code: ErrorCode,
        message: &'a str,
        retryable: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a MessageId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        turn_id: Option<TurnId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    Goaway {
        reason: &'a str,
        reconnect_after_ms: u64,
    },
    Degraded {
        reason: &'a str,
    },
    Recovered {
        reason: &'a str,
    },
    AuthRequired {
        timeout_ms: u64,
    },
    AuthOk {
        user_id: &'a UserId,
        expires_at: Timestamp,
    },
    AuthExpiring {
        expires_at: Timestamp,
    },
    Pong,
}

impl ServerFrame {
    /// The frame in the JSON dialect.
    pub fn to_json(&self) -> String {
        let json = match self {
            Self::Event(event) => serde_json::to_string(&event_json(event)),
            other => serde_json::to_string(&other.plain_json()),
        };
        json.expect("frames hold nothing that JSON cannot say")
    }

    fn plain_json(&self) -> PlainJson<'_> {
        match self {
            Self::Event(_) => unreachable!("events are spelled by `event_json`"),
            Self::Resumed {
                session_id,
                user_id,
                agent,
                last_seq,
            } => PlainJson::SessionStarted {
                session_id,
                user_id,
                agent,
                resumed: true,
                last_seq: *last_seq,
            },
            Self::Start { turn_id } => PlainJson::Start {
                role: "assistant",
                turn_id: *turn_id,
            },
            Self::Token {
                turn_id,
                text,
                index,
            } => PlainJson::Token {
                turn_id: *turn_id,
                index: *index,
                token: text,
            },
            Self::Draft {
                turn_id,
                text,
                next_index,
            } => PlainJson::Draft {
                turn_id: *turn_id,
                text,
                next_index: *next_index,
            },
            Self::Replayed { seq } => PlainJson::Replayed { seq: *seq },
            Self::Error(error) => PlainJson::Error {
                code: error.code,
                message: &error.message,
                retryable: error.code.retryable(),
                id: error.id.as_ref(),
                turn_id: error.turn_id,
                retry_after_ms: error.retry_after_ms,
            },
            Self::GoAway {
                reason,
                reconnect_after_ms,
            } => PlainJson::Goaway {
                reason,
                reconnect_after_ms: *reconnect_after_ms,
            },
            Self::Degraded { reason } => PlainJson::Degraded { reason },
            Self::Recovered { reason } => PlainJson::Recovered { reason },
            Self::AuthRequired { timeout_ms } => PlainJson::AuthRequired {
                timeout_ms: *timeout_ms,
            },
            Self::AuthOk {
                user_id,
                expires_at,
            } => PlainJson::AuthOk {
                user_id,
                expires_at: *expires_at,
            },
            Self::AuthExpiring { expires_at } => PlainJson::AuthExpiring {
                expires_at: *expires_at,
            },
            Self::Pong => PlainJson::Pong,
        }
    }
}

fn event_json(event: &Event) -> EventJson<'_> {
    let started = matches!(event.body, EventBody::SessionStarted(_)).then_some(StartedJson {
        resumed: false,
        last_seq: event.seq,
    });
    EventJson {
        // The end of an answer has its own name on the wire; all others are called as in the log.
        r#type: match event.body {
            EventBody::AssistantMessage(_) => "done",
            _ => event.body.event_type(),
        },
        seq: event.seq,
        occurred_at: event.occurred_at,
        turn_id: event.turn_id,
        started,
        body: &event.body,
    }
}

/// Spells frames in the text dialect, for one reader.
///
/// The first frame is `session_started` in JSON; then come bare pieces of text, and
/// [`END_OF_RESPONSE`] after each turn. A failure is one line, `[ERROR] code: message`, before that
/// marker. Everything else stays unsaid. What a reader is told depends on whether an answer is open
/// for it, so each has its own value of this type.
#[derive(Debug, Default)]
pub struct TextFrames {
    turn_open: bool,
}

impl TextFrames {
    /// The text frames that stand for `frame`: none, one or two, in order.
    pub fn spell(&mut self, frame: &ServerFrame) -> [Option<String>; 2] {
        match frame {
            ServerFrame::Event(event) => match event.body {
                EventBody::SessionStarted(_) => [Some(frame.to_json()), None],
                EventBody::AssistantMessage(_) => {
                    self.turn_open = false;
                    [Some(END_OF_RESPONSE.to_owned()), None]
                }
                _ => [None, None],
            },
            ServerFrame::Resumed { .. } => [Some(frame.to_json()), None],
            ServerFrame::Start { .. } => {
                self.turn_open = true;
                [None, None]
            }
            ServerFrame::Token { text, .. } => [Some(text.clone()), None],
            // Text cannot be replaced here; a reader that came in the middle has none yet.
            ServerFrame::Draft { text, .. } => {
                self.turn_open = true;
                [(!text.is_empty()).then(|| text.to_string()), None]
            }
            ServerFrame::Error(error) => {
                let line = format!("[ERROR] {}: {}", error.code.as_str(), error.message);
                // A client that waits for the marker must get one, and only one: where a turn
                // failed or is still being answered, its `done` brings it.
                let marker = error.turn_id.is_none() && !self.turn_open;
                [Some(line), marker.then(|| END_OF_RESPONSE.to_owned())]
            }
            ServerFrame::Replayed { .. }
            | ServerFrame::GoAway { .. }
            | ServerFrame::Degraded { .. }
            | ServerFrame::Recovered { .. }
            | ServerFrame::AuthRequired { .. }
            | ServerFrame::AuthOk { .. }
            | ServerFrame::AuthExpiring { .. }
            | ServerFrame::Pong => [None, None],
        }
    }
}
