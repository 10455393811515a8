//! What a client may say: the reading of one text frame.
//!
//! Anything that is not a JSON object with `type` or `message` is the user's message as it is, so
//! that a person with a plain WebSocket tool can talk. A frame that does show one of those keys
//! claims to be ours, and is refused with a reason when it is not well formed.

use std::{cell::Cell, collections::BTreeMap, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use crate::{ErrorCode, FrameDescription, FrameKind, MessageId};

/// One request of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientFrame {
    /// The user says something.
    Message(UserInput),
    /// Stop the running turn.
    Cancel,
    /// End the session now.
    End,
    /// A fresh token for a live socket.
    Auth {
        /// The token, as it came; unchecked and secret.
        token: String,
    },
    /// Answered by `pong`.
    Ping,
}

/// What the user said.
#[derive(Clone, Debug, PartialEq)]
pub struct UserInput {
    /// The text; never blank, and without U+0000, which Postgres cannot store.
    pub text: Arc<str>,
    /// The client's own name for the message.
    pub id: Option<MessageId>,
    /// What becomes of it if a turn is running. `None`: as the server is set.
    pub on_busy: Option<OnBusy>,
}

/// What becomes of a message that comes while a turn is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBusy {
    /// It waits, in order, for the turns before it.
    Queue,
    /// It is refused with `busy`.
    Reject,
    /// It stops the running turn, and runs before all that wait as `queue`.
    Interrupt,
}

/// Why a frame was refused. The connection stays open.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct FrameError {
    /// Its class.
    pub code: ErrorCode,
    /// What was wrong and what is allowed, fit for the client.
    pub message: String,
    /// The message's own id, where it could be read.
    pub id: Option<MessageId>,
}

impl FrameError {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            id: None,
        }
    }
}

/// Defines the list of clients' frames and everything that follows from it: for each its `type` and
/// its fields.
macro_rules! client_frames {
    ($($name:literal $variant:ident($($field:literal),*);)*) => {
        /// The types of clients' frames. [`Fields::into_frame`] has an arm for each.
        #[derive(Clone, Copy)]
        enum FrameType {
            $($variant,)*
        }

        impl FrameType {
            fn read(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl ClientFrame {
            /// The frame's `type`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)*
                }
            }
        }

        const FRAMES: &[FrameDescription] = &[$(FrameDescription {
            name: $name,
            kind: FrameKind::Request,
            fields: &[$($field),*],
        }),*];
    };
}

client_frames! {
    "message" Message("message", "id", "on_busy");
    "cancel" Cancel();
    "end" End();
    "auth" Auth("token");
    "ping" Ping();
}

/// The names of all types, for people.
fn types() -> String {
    let names: Vec<String> = FRAMES
        .iter()
        .map(|frame| format!("`{}`", frame.name))
        .collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}

impl ClientFrame {
    /// Reads one text frame.
    pub fn read(text: &str) -> Result<Self, FrameError> {
        match Fields::read(text)? {
            None => UserInput::new(text, None, None).map(Self::Message),
            Some(fields) => fields.into_frame(),
        }
    }

    /// All frames of clients.
    pub fn descriptions() -> &'static [FrameDescription] {
        FRAMES
    }
}

impl OnBusy {
    fn read(name: &str) -> Option<Self> {
        match name {
            "queue" => Some(Self::Queue),
            "reject" => Some(Self::Reject),
            "interrupt" => Some(Self::Interrupt),
            _ => None,
        }
    }
}

impl UserInput {
    fn new(text: &str, id: Option<MessageId>, on_busy: Option<OnBusy>) -> Result<Self, FrameError> {
        if text.trim().is_empty() {
            let message = "the message is empty; send some text";
            return Err(FrameError {
                id,
                ..FrameError::new(ErrorCode::EmptyMessage, message)
            });
        }
        let text = if text.contains('\0') {
            text.replace('\0', "\u{fffd}").into()
        } else {
            text.into()
        };
        Ok(Self { text, id, on_busy })
    }
}

/// The known keys of a JSON object. Other keys are skipped unread, however deep they nest.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, Value>);

impl Fields {
    /// The key as the description of some frame spells it; `None` if no frame has it.
    fn known(key: &str) -> Option<&'static str> {
        let fields = FRAMES.iter().flat_map(|frame| frame.fields);
        let mut known = fields.copied().chain(["type"]);
        known.find(|field| *field == key)
    }

    /// The value of a field, unless it is absent.
    fn take(&mut self, field: &'static str) -> Option<Value> {
        debug_assert!(Self::known(field).is_some(), "{field} is not described");
        self.0.remove(field)
    }

    /// `None` where the text is not a JSON object with `type` or `message`.
    fn read(text: &str) -> Result<Option<Self>, FrameError> {
        if !text.trim_start().starts_with('{') {
            return Ok(None);
        }
        let is_ours = Cell::new(false);
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json
            .deserialize_map(FieldsVisitor { is_ours: &is_ours })
            .and_then(|fields| json.end().map(|()| fields));
        match read {
            Ok(fields) => Ok(is_ours.get().then_some(fields)),
            Err(_) if !is_ours.get() => Ok(None),
            Err(error) => Err(FrameError::new(
                ErrorCode::BadRequest,
                format!("the frame is not valid JSON: {error}"),
            )),
        }
    }

    fn into_frame(mut self) -> Result<ClientFrame, FrameError> {
        let id = self.take_id()?;
        let refuse = |code, message: String| FrameError {
            code,
            message,
            id: id.clone(),
        };
        let malformed = |message: &str| refuse(ErrorCode::BadRequest, message.to_owned());
        let frame_type = match self.take("type") {
            None => FrameType::Message,
            Some(Value::String(name)) => FrameType::read(&name).ok_or_else(|| {
                let shown: String = name.chars().take(40).collect();
                let message = format!("unknown type {shown:?}; allowed are {}", types());
                refuse(ErrorCode::UnknownType, message)
            })?,
            Some(_) => {
                let message = format!("`type` must be a string: one of {}", types());
                return Err(malformed(&message));
            }
        };
        match frame_type {
            FrameType::Cancel => Ok(ClientFrame::Cancel),
            FrameType::End => Ok(ClientFrame::End),
            FrameType::Ping => Ok(ClientFrame::Ping),
            FrameType::Auth => match self.take("token") {
                Some(Value::String(token)) => Ok(ClientFrame::Auth { token }),
                _ => Err(malformed("`token` must be a string")),
            },
            FrameType::Message => {
                let Some(Value::String(text)) = self.take("message") else {
                    return Err(malformed("`message` must be a string"));
                };
                let on_busy = match self.take("on_busy") {
                    None | Some(Value::Null) => None,
                    Some(value) => {
                        Some(value.as_str().and_then(OnBusy::read).ok_or_else(|| {
                            malformed("`on_busy` must be `queue`, `reject` or `interrupt`")
                        })?)
                    }
                };
                UserInput::new(&text, id.clone(), on_busy).map(ClientFrame::Message)
            }
        }
    }

    fn take_id(&mut self) -> Result<Option<MessageId>, FrameError> {
        let refuse = |message: String| FrameError::new(ErrorCode::BadRequest, message);
        match self.take("id") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) => {
                let id = MessageId::new(&id).map_err(|error| refuse(error.to_string()))?;
                Ok(Some(id))
            }
            Some(_) => Err(refuse("`id` must be a string".to_owned())),
        }
    }
}

struct FieldsVisitor<'a> {
    is_ours: &'a Cell<bool>,
}

impl<'de> Visitor<'de> for FieldsVisitor<'_> {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            let Some(field) = Fields::known(&key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if matches!(field, "type" | "message") {
                self.is_ours.set(true);
            }
            fields.0.insert(field, map.next_value()?);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> ClientFrame {
        ClientFrame::Message(UserInput {
            text: text.into(),
            id: None,
            on_busy: None,
        })
    }

    fn code(frame: &str) -> ErrorCode {
        ClientFrame::read(frame).unwrap_err().code
    }

    #[test]
    fn what_is_not_an_object_of_ours_is_the_users_message_as_it_is() {
        let deep = "[".repeat(10_000);
        for text in [
            "hello",
            " hi ",
            "[1,2]",
            "42",
            "null",
            "\"quoted\"",
            r#"{"a":1}"#,
            "{oops",
            &deep,
        ] {
            assert_eq!(
                ClientFrame::read(text).unwrap(),
                message(text),
                "{text:.40}"
            );
        }
    }

    #[test]
    fn objects_of_ours_are_understood_and_unknown_fields_ignored() {
        let deep = format!(
            r#"{{"x":{}{},"message":"hi"}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        assert_eq!(ClientFrame::read(&deep).unwrap(), message("hi"));
        assert_eq!(
            ClientFrame::read(r#"{"message":"hi","x":1e999}"#).unwrap(),
            message("hi")
        );
        assert_eq!(
            ClientFrame::read(r#" {"type":"cancel"} "#).unwrap(),
            ClientFrame::Cancel
        );
        assert_eq!(
            ClientFrame::read(r#"{"type":"end"}"#).unwrap(),
            ClientFrame::End
        );
        assert_eq!(
            ClientFrame::read(r#"{"type":"ping"}"#).unwrap(),
            ClientFrame::Ping
        );
        assert_eq!(
            ClientFrame::read(r#"{"type":"auth","token":"t"}"#).unwrap(),
            ClientFrame::Auth { token: "t".into() }
        );
        let id = Some(MessageId::new("m1").unwrap());
        assert_eq!(
            ClientFrame::read(r#"{"type":"message","message":"hi","id":"m1"}"#).unwrap(),
            ClientFrame::Message(UserInput {
                text: "hi".into(),
                id,
                on_busy: None
            })
        );
    }

    #[test]
    fn a_message_says_what_becomes_of_it_while_a_turn_runs() {
        for (value, expected) in [
            (r#""queue""#, Some(OnBusy::Queue)),
            (r#""reject""#, Some(OnBusy::Reject)),
            (r#""interrupt""#, Some(OnBusy::Interrupt)),
            ("null", None),
        ] {
            let frame = format!(r#"{{"message":"hi","on_busy":{value}}}"#);
            let Ok(ClientFrame::Message(input)) = ClientFrame::read(&frame) else {
                panic!("{frame} is a message");
            };
            assert_eq!(input.on_busy, expected, "{frame}");
        }
        for value in [
            r#""wait""#,
            r#""Queue""#,
            "1",
            "true",
            "{}",
            r#"{"queue":null}"#,
        ] {
            let frame = format!(r#"{{"message":"hi","id":"m1","on_busy":{value}}}"#);
            let error = ClientFrame::read(&frame).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest, "{frame}");
            assert_eq!(error.id.unwrap().as_str(), "m1", "{frame}");
            for allowed in ["`queue`", "`reject`", "`interrupt`"] {
                assert!(error.message.contains(allowed), "{}", error.message);
            }
        }
        // Other frames do not know the key, and so ignore it.
        let cancel = ClientFrame::read(r#"{"type":"cancel","on_busy":7}"#).unwrap();
        assert_eq!(cancel, ClientFrame::Cancel);
    }

    #[test]
    fn objects_of_ours_that_are_wrong_are_refused_by_name() {
        let deep = format!(r#"{{"message":{}"#, "[".repeat(10_000));
        for frame in [
            r#"{"message":1}"#,
            r#"{"message":["a"]}"#,
            r#"{"message":null}"#,
            r#"{"type":"message"}"#,
            r#"{"type":7}"#,
            r#"{"type":"auth"}"#,
            r#"{"message":"cut"#,
            r#"{"message":"hi"} trailing"#,
            r#"{"message":"\ud800"}"#,
            r#"{"message":1e999}"#,
            r#"{"message":"hi","id":1}"#,
            r#"{"message":"hi","id":""}"#,
            &deep,
        ] {
            assert_eq!(code(frame), ErrorCode::BadRequest, "{frame:.60}");
        }
        assert_eq!(code(r#"{"type":"shout"}"#), ErrorCode::UnknownType);
        for blank in ["", "  \n", r#"{"message":""}"#, r#"{"message":" \t"}"#] {
            assert_eq!(code(blank), ErrorCode::EmptyMessage, "{blank:?}");
        }
    }

    #[test]
    fn a_refused_message_keeps_its_id_for_the_answer() {
        let error = ClientFrame::read(r#"{"message":" ","id":"m7"}"#).unwrap_err();
        assert_eq!(error.id.unwrap().as_str(), "m7");
    }

    #[test]
    fn a_nul_is_replaced_since_no_database_of_ours_would_keep_it() {
        assert_eq!(ClientFrame::read("a\0b").unwrap(), message("a\u{fffd}b"));
        assert_eq!(
            ClientFrame::read(r#"{"message":"a\u0000b"}"#).unwrap(),
            message("a\u{fffd}b")
        );
    }

    proptest::proptest! {
        /// Whatever bytes arrive as text, reading them answers and never panics.
        #[test]
        fn reading_never_panics(text in ".{0,200}") {
            let _outcome = ClientFrame::read(&text);
        }
    }
}
