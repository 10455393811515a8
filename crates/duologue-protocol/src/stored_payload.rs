//! An event as it is stored: its payload is a JSON object with the body's fields and the turn's id.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IntoDeserializer as _, MapAccess, SeqAccess, Visitor},
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
        Self::read_fields(seq, occurred_at, event_type, payload, &[])
    }

    /// The same, but the fields that hold any JSON are null, and the text of an answer is empty. They are read
    /// nevertheless: what is an error for [`read_text`](Self::read_text) is one here.
    pub fn read_outline(
        seq: Seq,
        occurred_at: Timestamp,
        event_type: &str,
        payload: &str,
    ) -> Result<Self, PayloadError> {
        let omitted: &[(&str, Omitted)] = match event_type {
            "assistant_message" => &[("text", Omitted::Text)],
            "tool_call" => &[("arguments", Omitted::Json)],
            "tool_result" => &[("result", Omitted::Json)],
            "follow_up" => &[("schema", Omitted::Json), ("arguments", Omitted::Json)],
            "imported" => &[("former", Omitted::Json)],
            _ => &[],
        };
        Self::read_fields(seq, occurred_at, event_type, payload, omitted)
    }

    fn read_fields(
        seq: Seq,
        occurred_at: Timestamp,
        event_type: &str,
        payload: &str,
        omitted: &[(&str, Omitted)],
    ) -> Result<Self, PayloadError> {
        let mut json = serde_json::Deserializer::from_str(payload);
        let mut turn_id = None;
        let fields = WithoutTurn {
            fields: &mut json,
            turn_id: &mut turn_id,
            omitted,
            next: None,
        };
        let body = EventBody::deserialize(event_type, fields);
        let body = body.and_then(|body| json.end().map(|()| body));
        Ok(Self {
            seq,
            occurred_at,
            body: body.map_err(|source| PayloadError::new(event_type, source))?,
            turn_id,
        })
    }
}

/// What is put in the place of a value.
#[derive(Clone, Copy)]
enum Omitted {
    /// An empty text, for a text.
    Text,
    /// Null, for any JSON.
    Json,
}

/// An object without its field `turn_id`, which is put aside when it comes by, and without the values of some others.
struct WithoutTurn<'a, F> {
    fields: F,
    /// The fields whose values are left out.
    omitted: &'a [(&'a str, Omitted)],
    /// Whether the next value is one of them.
    next: Option<Omitted>,
    turn_id: &'a mut Option<TurnId>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for WithoutTurn<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.fields.deserialize_map(WithoutTurn {
            fields: visitor,
            turn_id: self.turn_id,
            omitted: self.omitted,
            next: None,
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
        self.fields.visit_map(WithoutTurn {
            fields,
            turn_id: self.turn_id,
            omitted: self.omitted,
            next: None,
        })
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
                let mut omitted = self.omitted.iter();
                self.next = omitted.find_map(|(field, with)| (*field == name).then_some(*with));
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
        match self.next {
            None => self.fields.next_value_seed(seed),
            Some(Omitted::Text) => {
                let WellFormedText = self.fields.next_value()?;
                seed.deserialize("".into_deserializer())
            }
            Some(Omitted::Json) => {
                let WellFormed = self.fields.next_value()?;
                seed.deserialize(().into_deserializer())
            }
        }
    }
}

/// A text.
struct WellFormedText;

impl<'de> Deserialize<'de> for WellFormedText {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        text.deserialize_str(Self)
    }
}

impl Visitor<'_> for WellFormedText {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

/// A JSON value that could be made a tree of: its numbers are in range, its texts are Unicode, and it is not nested
/// too deeply. [`IgnoredAny`](serde::de::IgnoredAny) checks none of that.
struct WellFormed;

impl<'de> Deserialize<'de> for WellFormed {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for WellFormed {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while let Some(Self) = values.next_element()? {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while let Some((Self, Self)) = fields.next_entry()? {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ToolOutcome;

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

    /// The outline of an event can be read if and only if the event can.
    #[test]
    fn an_outline_is_read_where_the_event_is() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for result in [
            "null",
            "7",
            "-7",
            "1.5e3",
            "1e999",
            "-",
            r#""a""#,
            r#""\ud800""#,
            r#""\u12""#,
            "[1,{}]",
            r#"{"a":[null,{"b":true}]}"#,
            r#"{"a":1,"a":2}"#,
            "{1:2}",
            "[1,]",
            "{",
            &deep,
        ] {
            for payload in [
                format!(
                    r#"{{"turn_id":"turn-1","call_id":"c","name":"t","result":{result},"duration_ms":1}}"#
                ),
                format!(r#"{{"result":{result},"call_id":"c","name":"t"}}"#),
            ] {
                assert_outline("tool_result", &payload);
            }
        }
        for text in [
            "null",
            "7",
            r#""""#,
            r#""a\u0062\n""#,
            r#""\ud800""#,
            r#"["a"]"#,
            r#""a"#,
        ] {
            let rest = r#""finish_reason":"stop","duration_ms":1,"model":"none""#;
            assert_outline("assistant_message", &format!(r#"{{"text":{text},{rest}}}"#));
        }
    }

    fn assert_outline(event_type: &str, payload: &str) {
        let outline = Event::read_outline(Seq(1), Timestamp::UNIX_EPOCH, event_type, payload);
        let whole = read(event_type, payload);
        assert_eq!(outline.is_ok(), whole.is_ok(), "{payload}");
        let (Ok(outline), Ok(mut whole)) = (outline, whole) else {
            return;
        };
        match &mut whole.body {
            EventBody::ToolResult(result) => result.outcome = ToolOutcome::Result(Value::Null),
            EventBody::AssistantMessage(answer) => answer.text = "".into(),
            _ => {}
        }
        assert_eq!(outline, whole);
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
            r#"{"text":"hi","turn_id":null}"#,
            r#"{"text":"hi","turn_id":"turn-1","turn_id":"turn-1"}"#,
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
