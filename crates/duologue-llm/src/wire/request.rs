//! What we send: only what every endpoint takes.

#[cfg(test)]
mod tests;

use duologue_engine::{
    provider::{Message, ModelCall, Request},
    tool::OfferedTool,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::{OpenAiConfig, OutputTokensField};

/// The body of a request.
#[derive(Debug, Serialize)]
pub(crate) struct ChatRequest<'a> {
    model: &'a str,
    messages: Vec<ChatMessage<'a>>,
    /// An empty list is refused by some endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ChatTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Debug, Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum ChatMessage<'a> {
    System {
        content: &'a str,
    },
    User {
        content: &'a str,
    },
    Assistant {
        /// Null where the assistant only called tools.
        content: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ChatCall<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: &'a str,
    },
}

#[derive(Debug, Serialize)]
struct ChatCall<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CalledFunction<'a>,
}

#[derive(Debug, Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    /// JSON within a string, as the protocol has it.
    arguments: String,
}

#[derive(Debug, Serialize)]
struct ChatTool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: OfferedFunction<'a>,
}

#[derive(Debug, Serialize)]
struct OfferedFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a RawValue,
}

impl<'a> ChatRequest<'a> {
    /// Spells `request` for the endpoint of `config`.
    pub(crate) fn new(request: &'a Request, config: &'a OpenAiConfig) -> Self {
        let system = Some(&*request.system).filter(|content| !content.is_empty());
        let system = system.map(|content| ChatMessage::System { content });
        let limit = Some(request.output_tokens_max);
        let (max_completion_tokens, max_tokens) = match config.output_tokens_field {
            OutputTokensField::MaxCompletionTokens => (limit, None),
            OutputTokensField::MaxTokens => (None, limit),
        };
        Self {
            model: &config.model,
            messages: system
                .into_iter()
                .chain(request.messages.iter().map(message))
                .collect(),
            tools: request.tools.iter().map(|offered| tool(offered)).collect(),
            max_completion_tokens,
            max_tokens,
            stream: true,
            stream_options: config.usage_in_stream.then_some(StreamOptions {
                include_usage: true,
            }),
        }
    }
}

fn message(message: &Message) -> ChatMessage<'_> {
    match message {
        Message::User(content) => ChatMessage::User { content },
        Message::Assistant { text, calls } => ChatMessage::Assistant {
            content: Some(&**text).filter(|text| !text.is_empty() || calls.is_empty()),
            tool_calls: calls.iter().map(call).collect(),
        },
        Message::Tool {
            call_id, content, ..
        } => ChatMessage::Tool {
            tool_call_id: call_id,
            content,
        },
    }
}

fn call(call: &ModelCall) -> ChatCall<'_> {
    let function = CalledFunction {
        name: &call.name,
        arguments: call.arguments.to_string(),
    };
    ChatCall {
        id: &call.id,
        kind: "function",
        function,
    }
}

fn tool(tool: &OfferedTool) -> ChatTool<'_> {
    let function = OfferedFunction {
        name: &tool.name,
        description: &tool.description,
        parameters: tool.parameters_json(),
    };
    ChatTool {
        kind: "function",
        function,
    }
}
