//! Reading what a server sent, as a client does.
//!
//! A newer server may send frame types, fields and values that this build does not know. Unknown
//! fields are ignored. An unknown type becomes [`Received::Unknown`]. An unknown value of a list is
//! read as `docs/protocol.md` says: a finish reason like `stop`, an error code by its `retryable`.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    DisconnectReason, EndReason, ErrorCode, Event, FinishReason, OnBusy, PayloadError, Seq,
    ServerFrame, SummaryStatus, Timestamp,
    event::{DONE, EventBody},
};

/// A frame as it was received.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// A frame that this build knows.
    Frame(ServerFrame),
    /// A frame that this build does not know. A client ignores it, but counts its position.
    Unknown {
        /// The frame's `type`.
        r#type: String,
        /// The event's position, if it is an event.
        seq: Option<Seq>,
    },
}

/// Why a text is not a frame of a server.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not a JSON object with a string as `type`.
    #[error("not a JSON object with a `type`")]
    NotAFrame(#[source] serde_json::Error),
    /// Its type is known, and it lacks a field or has one of the wrong type.
    #[error("a frame of type `{type}` cannot be read")]
    Fields {
        /// The frame's `type`.
        r#type: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// It is an event whose fields cannot be read.
    #[error(transparent)]
    Event(#[from] PayloadError),
}

#[derive(Deserialize)]
struct AnyFrame {
    r#type: String,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

#[derive(Deserialize)]
struct EventHead {
    seq: Seq,
    occurred_at: Timestamp,
}

/// A field with values from a list that may grow, whether a value is known here, and the value that
/// stands for those that are not.
type Substitute = (&'static str, fn(&Value) -> bool, &'static str);

const SUBSTITUTES: &[Substitute] = &[
    ("finish_reason", is_known::<FinishReason>, "stop"),
    ("on_busy", is_known::<OnBusy>, "queue"),
    ("code", is_known::<ErrorCode>, "internal"),
];

impl ServerFrame {
    /// Reads one text frame of the JSON dialect.
    pub fn read(text: &str) -> Result<Received, ReadError> {
        let AnyFrame { r#type, mut fields } =
            serde_json::from_str(text).map_err(ReadError::NotAFrame)?;
        for (field, is_known, substitute) in SUBSTITUTES {
            if let Some(value) = fields.get_mut(*field)
                && value.is_string()
                && !is_known(value)
            {
                *value = (*substitute).into();
            }
        }
        if r#type == DONE
            && let Some(code) = fields.get_mut("error")
            && code.is_string()
            && !is_known::<ErrorCode>(code)
        {
            *code = "internal".into();
        }
        if has_unknown_reason(&r#type, &fields) {
            return Ok(unknown(r#type, &fields));
        }
        // The first frame of a connection is no event; the same event in a replay has no `resumed`.
        let is_opening = r#type == "session_started" && fields.contains_key("resumed");
        if !is_opening && let Some(event_type) = EventBody::event_type_of(&r#type) {
            return read_event(&r#type, event_type, fields).map(Received::Frame);
        }
        if !ServerFrame::TYPES.contains(&r#type.as_str()) {
            return Ok(unknown(r#type, &fields));
        }
        fields.insert("type".into(), r#type.clone().into());
        serde_json::from_value(Value::Object(fields))
            .map(Received::Frame)
            .map_err(|source| ReadError::Fields { r#type, source })
    }
}

fn read_event(
    r#type: &str,
    event_type: &str,
    fields: Map<String, Value>,
) -> Result<ServerFrame, ReadError> {
    let fields = Value::Object(fields);
    let head = EventHead::deserialize(&fields).map_err(|source| ReadError::Fields {
        r#type: r#type.to_owned(),
        source,
    })?;
    let event = Event::read(head.seq, head.occurred_at, event_type, fields)?;
    Ok(ServerFrame::Event(event))
}

fn unknown(r#type: String, fields: &Map<String, Value>) -> Received {
    let seq = fields.get("seq").and_then(Value::as_u64).map(Seq);
    Received::Unknown { r#type, seq }
}

/// Whether an event names a reason, or a state, that is not known here and that nothing can stand
/// for.
fn has_unknown_reason(r#type: &str, fields: &Map<String, Value>) -> bool {
    let (field, is_known): (_, fn(&Value) -> bool) = match r#type {
        "client_disconnected" => ("reason", is_known::<DisconnectReason>),
        "session_ended" => ("reason", is_known::<EndReason>),
        "session_summarized" => ("status", is_known::<SummaryStatus>),
        _ => return false,
    };
    fields
        .get(field)
        .is_some_and(|value| value.is_string() && !is_known(value))
}

fn is_known<T: DeserializeOwned>(value: &Value) -> bool {
    T::deserialize(value).is_ok()
}
