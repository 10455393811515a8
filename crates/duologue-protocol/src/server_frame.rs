//! What the server says, and how the two dialects spell it.
//!
//! JSON is the default: one object per frame. Text is for clients that know only bare tokens: see
//! [`TextFrames`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    ErrorCode, Event, EventBody, FrameDescription, FrameError, FrameKind, LogId, MessageId, Seq,
    SessionId, SessionStarted, Timestamp, TurnId, UserId, description::fields,
};

/// Ends every turn in the text dialect.
pub const END_OF_RESPONSE: &str = "[END_OF_RESPONSE]";

/// Defines [`ServerFrame`] and everything that follows from the list of its frames: for each frame its
/// kind, its `type`, and its fields or the struct that has them. Events have their own list in
/// [`EventBody`].
macro_rules! server_frames {
    ($(
        $(#[$doc:meta])*
        $kind:ident $name:literal $variant:ident
            $(($body:ty))?
            $({ $($(#[$attribute:meta])* $field:ident: $field_type:ty,)* })?;
    )*) => {
        /// One frame for a reader.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type")]
        pub enum ServerFrame {
            /// A fact, already stored.
            #[serde(skip)]
            Event(Event),
            $(
                $(#[$doc])*
                #[serde(rename = $name)]
                $variant $(($body))? $({ $($(#[$attribute])* $field: $field_type,)* })?,
            )*
        }

        impl ServerFrame {
            /// The names of all frames that are no events.
            pub const TYPES: &'static [&'static str] = &[$($name),*];

            /// The frame's `type`.
            pub fn name(&self) -> &'static str {
                match self {
                    Self::Event(event) => event.body.wire_type(),
                    $(Self::$variant { .. } => $name,)*
                }
            }

            /// What the frame is.
            pub fn kind(&self) -> FrameKind {
                match self {
                    Self::Event(_) => FrameKind::Event,
                    $(Self::$variant { .. } => FrameKind::$kind,)*
                }
            }

            /// All frames of servers: events, deltas and notices.
            pub fn descriptions() -> Vec<FrameDescription> {
                let mut frames = EventBody::descriptions();
                frames.extend([$(FrameDescription {
                    name: $name,
                    kind: FrameKind::$kind,
                    fields: server_frames!(@fields
                        $(($body))? $({ $($(#[$attribute])* $field: $field_type,)* })?),
                }),*]);
                frames
            }
        }
    };
    (@fields) => { &[] };
    (@fields ($body:ty)) => { fields::<$body>().expect("the fields of a frame have names") };
    (@fields { $($(#[$attribute:meta])* $field:ident: $field_type:ty,)* }) => {{
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "it only shows how its fields are spelled")]
        struct Fields { $($(#[$attribute])* $field: $field_type,)* }
        fields::<Fields>().expect("the fields of a frame have names")
    }};
}

server_frames! {
    /// The first frame of a connection to a session.
    Notice "session_started" Opened(SessionOpened);
    /// An answer begins.
    Delta "start" Start {
        /// Who answers.
        role: Role,
        /// Its turn.
        turn_id: TurnId,
    };
    /// A piece of the answer in progress.
    Delta "token" Token {
        /// Its turn.
        turn_id: TurnId,
        /// 0, 1, 2, … within the turn.
        index: u64,
        /// The piece; never empty.
        #[serde(rename = "token")]
        text: String,
    };
    /// The answer so far; replaces what is shown.
    Delta "draft" Draft {
        /// Its turn.
        turn_id: TurnId,
        /// All the text so far.
        text: Arc<str>,
        /// The index of the next `token`.
        next_index: u64,
    };
    /// All events up to `seq` have been sent; what follows is live.
    Notice "replayed" Replayed {
        /// The last replayed event.
        seq: Seq,
    };
    /// A refused request, or why a turn failed.
    Notice "error" Error(ErrorFrame);
    /// The server is about to close the connection.
    Notice "goaway" GoAway {
        /// Why it closes.
        reason: GoAwayReason,
        /// How long to wait before reconnecting, in milliseconds.
        reconnect_after_ms: u64,
    };
    /// The session cannot use something that it needs, and keeps trying. Sent once.
    Notice "degraded" Degraded {
        /// What it cannot use.
        reason: DegradedReason,
    };
    /// The trouble that `degraded` reported is over.
    Notice "recovered" Recovered {
        /// As in `degraded`.
        reason: DegradedReason,
    };
    /// The handshake had no token; the client has to send one in an `auth` frame.
    Notice "auth_required" AuthRequired {
        /// How long the client has, in milliseconds.
        timeout_ms: u64,
    };
    /// The token of an `auth` frame was accepted.
    Notice "auth_ok" AuthOk {
        /// The token's user.
        user_id: UserId,
        /// When the token expires.
        expires_at: Timestamp,
    };
    /// The connection's token expires soon; a new one keeps the connection open.
    Notice "auth_expiring" AuthExpiring {
        /// When it expires.
        expires_at: Timestamp,
    };
    /// The answer to `ping`.
    Notice "pong" Pong;
}

/// The facts of a session, as the first frame of a connection states them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionOpened {
    /// In a new session: the position of its event `session_started`, which this frame also reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// In a new session: when it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// The session's id.
    pub session_id: SessionId,
    /// Whose session it is.
    pub user_id: UserId,
    /// The name of the agent that answers in it.
    pub agent: String,
    /// Names this history of the session. A client keeps it beside the last `seq` that it has seen.
    pub log_id: LogId,
    /// Whether the session existed before this connection.
    pub resumed: bool,
    /// The last event of the log at this moment.
    pub last_seq: Seq,
    /// The largest message that the server accepts on this connection, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_bytes_max: Option<u64>,
}

impl SessionOpened {
    /// The first frame of a connection that created its session by the event `started`.
    pub fn new_session(
        seq: Seq,
        occurred_at: Timestamp,
        started: SessionStarted,
        log_id: LogId,
    ) -> Self {
        Self {
            seq: Some(seq),
            occurred_at: Some(occurred_at),
            session_id: started.session_id,
            user_id: started.user_id,
            agent: started.agent,
            log_id,
            resumed: false,
            last_seq: seq,
            message_bytes_max: None,
        }
    }

    /// The event `session_started`, where the frame reports it.
    pub fn event(&self) -> Option<Event> {
        Some(Event {
            seq: self.seq?,
            occurred_at: self.occurred_at?,
            turn_id: None,
            body: EventBody::SessionStarted(SessionStarted {
                session_id: self.session_id.clone(),
                user_id: self.user_id.clone(),
                agent: self.agent.clone(),
            }),
        })
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The agent.
    Assistant,
}

/// Why the server is about to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoAwayReason {
    /// The server restarts.
    Restart,
    /// The connection has reached its maximum age.
    Age,
    /// A reason that this build does not know. Only ever read.
    #[serde(other)]
    Unknown,
}

/// What a session cannot use for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DegradedReason {
    /// The store.
    Storage,
    /// A reason that this build does not know. Only ever read.
    #[serde(other)]
    Unknown,
}

/// The fields of an `error` frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorFrame {
    /// A stable string.
    pub code: ErrorCode,
    /// A sentence for people. Never a cause from inside the server.
    pub message: String,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// The refused message's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// The turn that failed; absent where a request was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<TurnId>,
    /// How long to wait before trying again, in milliseconds; absent where that is not known, or where
    /// waiting does not help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ErrorFrame {
    /// A refusal that belongs to no message and no turn.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: code.retryable(),
            id: None,
            turn_id: None,
            retry_after_ms: None,
        }
    }

    /// The same, about the message that the client named `id`.
    #[must_use]
    pub fn with_id(self, id: Option<MessageId>) -> Self {
        Self { id, ..self }
    }

    /// The same, about a turn that failed.
    #[must_use]
    pub fn with_turn(self, turn_id: Option<TurnId>) -> Self {
        Self { turn_id, ..self }
    }

    /// The same, with the time after which the request may succeed.
    #[must_use]
    pub fn with_retry_after_ms(self, retry_after_ms: Option<u64>) -> Self {
        Self {
            retry_after_ms,
            ..self
        }
    }
}

impl From<FrameError> for ErrorFrame {
    fn from(error: FrameError) -> Self {
        Self::new(error.code, error.message).with_id(error.id)
    }
}

#[derive(Serialize)]
struct EventJson<'a> {
    r#type: &'static str,
    seq: Seq,
    occurred_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_id: Option<TurnId>,
    #[serde(flatten)]
    body: &'a EventBody,
}

impl ServerFrame {
    /// The frame in the JSON dialect.
    pub fn to_json(&self) -> String {
        let json = match self {
            Self::Event(event) => serde_json::to_string(&EventJson {
                r#type: event.body.wire_type(),
                seq: event.seq,
                occurred_at: event.occurred_at,
                turn_id: event.turn_id,
                body: &event.body,
            }),
            other => serde_json::to_string(other),
        };
        json.expect("every frame can be written as JSON")
    }
}

/// Spells frames in the text dialect, for one reader.
///
/// The first frame is `session_started` in JSON; then come bare pieces of text, and
/// [`END_OF_RESPONSE`] after each turn. A failure is one line, `[ERROR] code: message`, before that
/// marker. Nothing else is sent. What a reader receives depends on whether an answer is open for
/// it, so each reader has its own value of this type.
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
            ServerFrame::Opened(_) => [Some(frame.to_json()), None],
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
