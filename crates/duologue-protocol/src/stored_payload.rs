//! An event as it is stored: its payload is a JSON object with the body's fields and the turn's id.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IntoDeserializer as _, MapAccess, Visitor},
    forward_to_deserialize_any,
};
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

    /// The same, of a payload as text. Reads it once, and makes no tree of it.
    pub fn read_text(
        seq: Seq,
        occurred_at: Timestamp,
        event_type: &str,
        payload: &str,
    ) -> Result<Self, PayloadError> {
        let mut json = serde_json::Deserializer::from_str(payload);
        let mut turn_id = None;
        let fields = WithoutTurn {
            fields: &mut json,
            turn_id: &mut turn_id,
        };
        let body = EventBody::deserialize(event_type, fields);
        let body = body.and_then(|body| json.end().map(|()| body));
        Ok(Self {
            seq,
            occurred_at,
            body: body.map_err(|source| PayloadError::new(event_type, source))?,
            turn_id: turn_id.flatten(),
        })
    }
}

/// An object without its field `turn_id`, which is put aside when it comes by.
struct WithoutTurn<'a, F> {
    fields: F,
    /// The field, once it has come by; it may be null.
    turn_id: &'a mut Option<Option<TurnId>>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for WithoutTurn<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { fields, turn_id } = self;
        fields.deserialize_map(WithoutTurn {
            fields: visitor,
            turn_id,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for WithoutTurn<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields.expecting(f)
    }

    fn visit_map<M: MapAccess<'de>>(self, fields: M) -> Result<V::Value, M::Error> {
        let turn_id = self.turn_id;
        self.fields.visit_map(WithoutTurn { fields, turn_id })
    }
}

impl<'de, M: MapAccess<'de>> MapAccess<'de> for WithoutTurn<'_, M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, M::Error> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        while let Some(Name(name)) = self.fields.next_key()? {
            if name != "turn_id" {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
            if self.turn_id.is_some() {
                return Err(M::Error::duplicate_field("turn_id"));
            }
            *self.turn_id = Some(self.fields.next_value()?);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, M::Error> {
        self.fields.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(event_type: &str, payload: &str) -> Result<Event, String> {
        let event = Event::read_text(Seq(1), Timestamp::UNIX_EPOCH, event_type, payload);
        event.map_err(|error| error.to_string())
    }

    /// Wherever the turn's id is in the object, and however it is spelled.
    #[test]
    fn text_is_read_as_a_tree_is() {
        for payload in [
            r#"{"text":"hi"}"#,
            r#"{"turn_id":"turn-7","text":"hi"}"#,
            r#"{"text":"hi","id":"m","later":[{"turn_id":1}],"turn_id":"turn-7"}"#,
            r#"{"text":"\u0068i","turn\u005fid":"turn-7","queued_seq":3} "#,
        ] {
            let tree = serde_json::from_str(payload).unwrap();
            let of_tree = Event::read(Seq(1), Timestamp::UNIX_EPOCH, "user_message", tree);
            assert_eq!(
                read("user_message", payload),
                Ok(of_tree.unwrap()),
                "{payload}"
            );
        }
    }

    #[test]
    fn text_that_is_no_payload_is_an_error() {
        for payload in [
            "",
            "{",
            "null",
            r#"["turn-1"]"#,
            r#"{"text":"hi"}{}"#,
            r#"{"text":"hi","turn_id":7}"#,
            r#"{"text":"hi","turn_id":"seven"}"#,
            r#"{"text":"hi","text":"ho"}"#,
            r#"{"text":"hi","turn_id":null,"turn_id":"turn-1"}"#,
        ] {
            for event_type in ["user_message", "imported"] {
                assert!(
                    read(event_type, payload).is_err(),
                    "{event_type}: {payload}"
                );
            }
        }
    }
}
