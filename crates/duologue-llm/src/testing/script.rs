//! What an upstream does with one request.

use serde_json::{Value, json};

/// What an upstream does with one request, step by step.
///
/// When the steps are over, the response ends as HTTP has it, and the connection can be used again.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The head of the response.
    Head {
        status: u16,
        headers: Vec<(String, String)>,
    },
    /// A piece of its body, as one chunk.
    Bytes(Vec<u8>),
    /// Goes on when the name is released, or was before.
    Hold(String),
    /// Never sends anything.
    Stall,
    /// Closes the connection in the middle of the response.
    Close,
    /// Closes it, as a crashed or hostile peer would, with a reset (RST).
    Reset,
}

/// The usage in all scripted answers: tokens read, and tokens written.
const USAGE: (u64, u64) = (10, 5);

impl Script {
    /// Does nothing yet. As it is, it ends without a response.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a stream of events.
    pub fn stream() -> Self {
        Self::head(200, "text/event-stream")
    }

    /// Streams `text` word by word, and finishes.
    pub fn text(text: &str) -> Self {
        text.split_inclusive(' ')
            .fold(Self::stream(), Self::say)
            .finish("stop")
    }

    /// Streams one tool call, its arguments in two pieces, and finishes.
    pub fn call(name: &str, arguments: &Value) -> Self {
        Self::calls(&[(name, arguments.clone())])
    }

    /// Streams several tool calls in one answer, and finishes.
    pub fn calls(calls: &[(&str, Value)]) -> Self {
        let mut script = Self::stream();
        for (index, (name, arguments)) in calls.iter().enumerate() {
            let piece = |call: Value| json!({"tool_calls": [call]});
            let id = format!("call_{index}");
            let arguments = arguments.to_string();
            let mut half = arguments.len() / 2;
            while !arguments.is_char_boundary(half) {
                half += 1;
            }
            let (one, other) = arguments.split_at(half);
            script = script
                .delta(&piece(json!({
                    "index": index,
                    "id": id,
                    "type": "function",
                    "function": {"name": name, "arguments": ""},
                })))
                .delta(&piece(
                    json!({"index": index, "function": {"arguments": one}}),
                ))
                .delta(&piece(
                    json!({"index": index, "function": {"arguments": other}}),
                ));
        }
        script.finish("tool_calls")
    }

    /// Answers with an error, spelled like OpenAI's.
    pub fn error(status: u16, message: &str) -> Self {
        let error = json!({"message": message, "type": "error", "param": null, "code": null});
        Self::json(status, &json!({ "error": error }))
    }

    /// Answers with 429, and says when to come back.
    pub fn rate_limited(retry_after: &str) -> Self {
        Self::error(429, "Rate limit reached").header("retry-after", retry_after)
    }

    /// Answers with a JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::head(status, "application/json").bytes(body.to_string())
    }

    /// Begins a response of any kind.
    pub fn head(status: u16, content_type: &str) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self {
            steps: vec![Step::Head { status, headers }],
        }
    }

    /// Adds a header to the head that was begun.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        for step in &mut self.steps {
            if let Step::Head { headers, .. } = step {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        self
    }

    /// Streams a piece of text.
    pub fn say(self, text: &str) -> Self {
        self.delta(&json!({ "content": text }))
    }

    /// Streams a piece of the answer, as in `choices[0].delta`.
    pub fn delta(self, delta: &Value) -> Self {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
        self.event(&completion(&[choice]))
    }

    /// Streams an event.
    pub fn event(self, data: &Value) -> Self {
        self.bytes(format!("data: {data}\n\n"))
    }

    /// Streams why the answer ends, the usage (10 tokens read, 5 written) and `[DONE]`.
    pub fn finish(self, reason: &str) -> Self {
        let (input, output) = USAGE;
        let mut usage = completion(&[]);
        usage["usage"] = json!({
            "prompt_tokens": input,
            "completion_tokens": output,
            "total_tokens": input + output,
        });
        let choice = json!({"index": 0, "delta": {}, "finish_reason": reason});
        self.event(&completion(&[choice]))
            .event(&usage)
            .bytes("data: [DONE]\n\n")
    }

    /// Sends bytes of the body, as they are.
    pub fn bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.then(Step::Bytes(bytes.into()))
    }

    /// Waits for [`ScriptedUpstream::release`](super::ScriptedUpstream::release).
    pub fn hold(self, name: &str) -> Self {
        self.then(Step::Hold(name.to_owned()))
    }

    /// Sends nothing more, and keeps the connection open.
    pub fn stall(self) -> Self {
        self.then(Step::Stall)
    }

    /// Closes the connection in the middle of the response.
    pub fn close(self) -> Self {
        self.then(Step::Close)
    }

    /// Resets the connection, as when the upstream's process is killed.
    pub fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    /// Appends the steps of another script.
    pub fn and_then(mut self, other: Self) -> Self {
        self.steps.extend(other.steps);
        self
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

fn completion(choices: &[Value]) -> Value {
    json!({
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1_767_225_600,
        "model": "scripted",
        "choices": choices,
    })
}
