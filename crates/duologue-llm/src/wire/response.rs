//! What we read, leniently: every field may be missing or null, values that we do not know stay
//! strings, and what is only nice to have is dropped where its shape is unknown.

use std::borrow::Cow;

use duologue_protocol::Usage;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

/// One event of a stream, or a whole answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Completion {
    #[serde(deserialize_with = "or_default")]
    pub(crate) choices: Vec<Choice>,
    #[serde(deserialize_with = "if_readable")]
    usage: Option<Tokens>,
    /// Where Groq puts the usage of a stream.
    #[serde(deserialize_with = "if_readable")]
    x_groq: Option<XGroq>,
    /// An error in place of the rest of the answer.
    pub(crate) error: Option<Value>,
    /// `error` where the whole object is one, as in older versions of vLLM.
    #[serde(deserialize_with = "if_readable")]
    object: Option<String>,
    #[serde(deserialize_with = "if_readable")]
    message: Option<String>,
}

/// One of several answers. We ask for one, and read the first.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Choice {
    #[serde(deserialize_with = "if_readable")]
    index: Option<u64>,
    delta: Option<Delta>,
    /// In place of `delta`, where the answer comes as a whole.
    message: Option<Delta>,
    #[serde(deserialize_with = "if_readable")]
    finish_reason: Option<String>,
}

/// The next piece of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Delta {
    pub(crate) content: Option<Content>,
    /// Why the model will not answer: for the user, this is the answer.
    #[serde(deserialize_with = "if_readable")]
    pub(crate) refusal: Option<String>,
    /// What the model thinks before it answers, under its two names.
    #[serde(deserialize_with = "if_readable")]
    reasoning: Option<Value>,
    #[serde(deserialize_with = "if_readable")]
    reasoning_content: Option<Value>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) tool_calls: Vec<CallPiece>,
}

/// Text, or a list of parts of which some are text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a content that comes in parts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Part {
    #[serde(deserialize_with = "if_readable")]
    text: Option<String>,
}

/// A piece of a tool call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CallPiece {
    #[serde(deserialize_with = "if_readable")]
    pub(crate) index: Option<u64>,
    #[serde(deserialize_with = "if_readable")]
    pub(crate) id: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) function: FunctionPiece,
}

/// The function's side of a piece.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FunctionPiece {
    #[serde(deserialize_with = "if_readable")]
    pub(crate) name: Option<String>,
    arguments: Value,
}

#[derive(Debug, Deserialize)]
struct XGroq {
    usage: Option<Tokens>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Tokens {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

impl Completion {
    /// Reads the data of an event, or the body of an answer.
    pub(crate) fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The error that this is, or holds.
    pub(crate) fn take_error(&mut self) -> Option<Value> {
        let message = self.message.take();
        let whole = (self.object.as_deref() == Some("error")).then(|| message.into());
        self.error.take().or(whole)
    }

    /// What was counted so far, if this says so.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let tokens = self.usage.or_else(|| self.x_groq.as_ref()?.usage)?;
        Some(Usage {
            input_tokens: tokens.prompt_tokens?,
            output_tokens: tokens.completion_tokens.unwrap_or(0),
            estimated: false,
        })
    }
}

impl Choice {
    /// Whether it belongs to the answer that we read.
    pub(crate) fn is_first(&self) -> bool {
        self.index.unwrap_or(0) == 0
    }

    /// The piece of the answer in it.
    pub(crate) fn take_delta(&mut self) -> Delta {
        self.delta
            .take()
            .or_else(|| self.message.take())
            .unwrap_or_default()
    }

    /// Why the answer ends here, if it does. Some endpoints send an empty reason until then.
    pub(crate) fn finish_reason(&self) -> Option<&str> {
        self.finish_reason
            .as_deref()
            .filter(|reason| !reason.is_empty())
    }
}

impl Delta {
    /// Whether the model shows that it thinks.
    pub(crate) fn is_reasoning(&self) -> bool {
        let is_there = |value: &Option<Value>| match value {
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Null) | None => false,
            Some(_) => true,
        };
        is_there(&self.reasoning) || is_there(&self.reasoning_content)
    }
}

impl Content {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().filter_map(|part| part.text).collect(),
        }
    }
}

impl FunctionPiece {
    /// The arguments' next piece. Some endpoints send an object where a string is due.
    pub(crate) fn take_arguments(&mut self) -> String {
        match self.arguments.take() {
            Value::Null => String::new(),
            Value::String(piece) => piece,
            whole => whole.to_string(),
        }
    }
}

/// The text of an event that brings text and nothing else, as nearly all do. `None` for every event that
/// may mean something else, which [`Completion::read`] reads.
pub(crate) fn plain_text(json: &str) -> Option<Cow<'_, str>> {
    let event: PlainEvent<'_> = serde_json::from_str(json).ok()?;
    let [choice] = event.choices;
    let delta = choice.delta;
    let others = [
        event.usage,
        event.x_groq,
        event.error,
        event.message,
        choice.message,
        delta.refusal,
        delta.reasoning,
        delta.reasoning_content,
        delta.tool_calls,
    ];
    let is_plain = choice.index == 0
        && choice.finish_reason.is_none_or(str::is_empty)
        && event.object != Some("error")
        && others.iter().all(Option::is_none);
    is_plain.then_some(delta.content)
}

/// An event of which only one text is read. The other fields are those that [`Completion`] has; each must
/// be missing or null.
#[derive(Deserialize)]
struct PlainEvent<'a> {
    #[serde(borrow)]
    choices: [PlainChoice<'a>; 1],
    #[serde(default)]
    usage: Option<IgnoredAny>,
    #[serde(default)]
    x_groq: Option<IgnoredAny>,
    #[serde(default)]
    error: Option<IgnoredAny>,
    #[serde(default)]
    object: Option<&'a str>,
    #[serde(default)]
    message: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct PlainChoice<'a> {
    #[serde(default)]
    index: u64,
    delta: PlainDelta<'a>,
    #[serde(default)]
    message: Option<IgnoredAny>,
    #[serde(default)]
    finish_reason: Option<&'a str>,
}

#[derive(Deserialize)]
struct PlainDelta<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    refusal: Option<IgnoredAny>,
    #[serde(default)]
    reasoning: Option<IgnoredAny>,
    #[serde(default)]
    reasoning_content: Option<IgnoredAny>,
    #[serde(default)]
    tool_calls: Option<IgnoredAny>,
}

/// Null counts as missing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What has an unknown shape counts as missing.
fn if_readable<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of an event, as the reader of all events finds it; none where the event says more.
    fn text_of_any(json: &str) -> Option<String> {
        let mut completion = Completion::read(json.as_bytes()).ok()?;
        if completion.take_error().is_some() || completion.usage().is_some() {
            return None;
        }
        let mut choice = completion.choices.into_iter().find(Choice::is_first)?;
        let delta = choice.take_delta();
        let says_more = choice.finish_reason().is_some()
            || delta.refusal.is_some()
            || delta.is_reasoning()
            || !delta.tool_calls.is_empty();
        (!says_more).then(|| delta.content.map(Content::into_text))?
    }

    #[test]
    fn the_usual_event_is_read_without_the_reader_of_all_events() {
        for json in [
            r#"{"choices":[{"delta":{"content":"a"}}]}"#,
            r#"{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","service_tier":null,
                "choices":[{"index":0,"delta":{"role":"assistant","content":"a","refusal":null},
                "logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x"}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"a\n\"\u00e9\ud83d\udc4b"},"finish_reason":""}]}"#,
            r#"{"choices":[{"delta":{"content":"","reasoning":null,"tool_calls":null}}],"error":null}"#,
        ] {
            let text = plain_text(json).expect(json);
            assert_eq!(Some(text.into_owned()), text_of_any(json), "{json}");
        }
    }

    /// Each means something besides its text, or something else.
    #[test]
    fn an_unusual_event_is_left_to_the_reader_of_all_events() {
        for json in [
            r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"x_groq":{"usage":{}}}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"error":{"message":"no"}}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"object":"error","message":"no"}"#,
            r#"{"choices":[{"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","refusal":"no"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","reasoning":"hm"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","tool_calls":[{}]}}]}"#,
            r#"{"choices":[{"delta":{"content":[{"text":"a"}]}}]}"#,
            r#"{"choices":[{"delta":{"content":null}}]}"#,
            r#"{"choices":[{"message":{"content":"a"}}]}"#,
            r#"{"choices":[]}"#,
            "{}",
            "[DONE]",
        ] {
            assert_eq!(plain_text(json), None, "{json}");
        }
    }
}
