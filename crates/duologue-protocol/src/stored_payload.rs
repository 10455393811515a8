//! An event as it is stored: its payload is a JSON object with the body's fields and the turn's id.

use serde::Deserialize;
use serde_json::Value;

use crate::{Event, EventBody, Seq, Timestamp, TurnId};

/// A stored payload that this build cannot read.
#[derive(Debug, thiserror::Error)]
#[error("an event of type `{event_type}` cannot be read")]
pub struct PayloadError {
    event_type: String,
    #[source]
    source: serde_json::Error,
}

impl PayloadError {
    fn new(event_type: &str, source: serde_json::Error) -> Self {
        Self {
            event_type: event_type.to_owned(),
            source,
        }
    }
}

impl EventBody {
    /// Reads back what [`Event::payload`] wrote. Unknown fields are ignored.
    pub fn read(event_type: &str, payload: Value) -> Result<Self, PayloadError> {
        let read = Self::deserialize(event_type, payload);
        read.map_err(|source| PayloadError::new(event_type, source))
    }
}

impl Event {
    /// The payload as it is stored: a JSON object with the body's fields and `turn_id`.
    pub fn payload(&self) -> String {
        let mut json = serde_json::to_string(&self.body).expect("every body is a JSON object");
        if let Some(turn_id) = self.turn_id {
            let separator = if json == "{}" { "" } else { "," };
            json.insert_str(1, &format!(r#""turn_id":"{turn_id}"{separator}"#));
        }
        json
    }

    /// Makes an event of a stored row.
    pub fn read(
        seq: Seq,
        occurred_at: Timestamp,
        event_type: &str,
        payload: Value,
    ) -> Result<Self, PayloadError> {
        let turn_id = payload.get("turn_id").map(TurnId::deserialize).transpose();
        let turn_id = turn_id.map_err(|source| PayloadError::new(event_type, source))?;
        let body = EventBody::read(event_type, payload)?;
        Ok(Self {
            seq,
            occurred_at,
            turn_id,
            body,
        })
    }

    /// The same, of a payload as text.
    pub fn read_text(
        seq: Seq,
        occurred_at: Timestamp,
        event_type: &str,
        payload: &str,
    ) -> Result<Self, PayloadError> {
        #[derive(Deserialize)]
        struct Turn {
            #[serde(default)]
            turn_id: Option<TurnId>,
        }
        let read = || {
            // Two passes over the text cost less than a tree of what is in it. The first one reads to the
            // end.
            let Turn { turn_id } = serde_json::from_str(payload)?;
            let mut payload = serde_json::Deserializer::from_str(payload);
            let body = EventBody::deserialize(event_type, &mut payload)?;
            Ok((turn_id, body))
        };
        let (turn_id, body) = read().map_err(|source| PayloadError::new(event_type, source))?;
        Ok(Self {
            seq,
            occurred_at,
            turn_id,
            body,
        })
    }
}
