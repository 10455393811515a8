//! The request, field by field.

use std::{sync::Arc, time::Duration};

use duologue_engine::{provider::Purpose, tool::ToolDefinition};
use serde_json::json;

use super::*;

fn config() -> OpenAiConfig {
    OpenAiConfig {
        api_key: "".into(),
        model: "gpt-4o-mini".to_owned(),
        base_url: "https://api.openai.com/v1".to_owned(),
        usage_in_stream: true,
        output_tokens_field: OutputTokensField::MaxCompletionTokens,
        connect_timeout: Duration::from_secs(5),
        connections_max: 100,
        idle_connections_max: 10,
        sse_line_bytes_max: 1 << 20,
    }
}

fn hello() -> Request {
    Request {
        purpose: Purpose::Turn,
        system: "".into(),
        messages: vec![Message::User("hello".into())],
        tools: Vec::new(),
        output_tokens_max: 4096,
    }
}

#[test]
fn a_conversation_with_tools_is_spelled_as_the_protocol_has_it() {
    let parameters = json!({"type": "object", "properties": {"order_id": {"type": "string"}}});
    let request = Request {
        system: "You help with orders.".into(),
        messages: vec![
            Message::User("where is my order?".into()),
            Message::Assistant {
                text: "".into(),
                calls: vec![ModelCall {
                    id: "call-1-1".to_owned(),
                    name: "get_order".to_owned(),
                    arguments: json!({"order_id": "ORD-1001"}),
                }],
            },
            Message::Tool {
                call_id: "call-1-1".to_owned(),
                name: "get_order".to_owned(),
                content: r#"{"status":"shipped"}"#.into(),
            },
            Message::Assistant {
                text: "It is on its way.".into(),
                calls: Vec::new(),
            },
            Message::User("thanks".into()),
        ],
        tools: vec![Arc::new(OfferedTool::new(ToolDefinition {
            name: "get_order".to_owned(),
            description: "Looks an order up.".to_owned(),
            parameters: parameters.clone(),
        }))],
        ..hello()
    };
    let sent = serde_json::to_value(ChatRequest::new(&request, &config())).unwrap();
    let expected = json!({
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You help with orders."},
            {"role": "user", "content": "where is my order?"},
            {"role": "assistant", "content": null, "tool_calls": [{
                "id": "call-1-1",
                "type": "function",
                "function": {"name": "get_order", "arguments": r#"{"order_id":"ORD-1001"}"#},
            }]},
            {"role": "tool", "tool_call_id": "call-1-1", "content": r#"{"status":"shipped"}"#},
            {"role": "assistant", "content": "It is on its way."},
            {"role": "user", "content": "thanks"},
        ],
        "tools": [{"type": "function", "function": {
            "name": "get_order",
            "description": "Looks an order up.",
            "parameters": parameters,
        }}],
        "max_completion_tokens": 4096,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(sent, expected);
}

#[test]
fn what_an_endpoint_may_refuse_is_left_out() {
    let config = OpenAiConfig {
        usage_in_stream: false,
        output_tokens_field: OutputTokensField::MaxTokens,
        ..config()
    };
    let sent = serde_json::to_value(ChatRequest::new(&hello(), &config)).unwrap();
    let expected = json!({
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 4096,
        "stream": true,
    });
    assert_eq!(sent, expected);
}
