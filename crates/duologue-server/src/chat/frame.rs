//! The frames that a person sees, read leniently: a newer server's frames must not stop an older client.

use serde::Deserialize;
use serde_json::Value;

/// One frame of the server. Fields that a frame lacks are empty.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Frame {
    /// The turn it belongs to.
    pub(super) turn_id: Option<String>,
    #[serde(flatten)]
    pub(super) body: Body,
}

/// The fields that belong to one type.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Body {
    SessionStarted {
        #[serde(default)]
        session_id: String,
        #[serde(default)]
        user_id: String,
        #[serde(default)]
        agent: String,
        #[serde(default)]
        resumed: bool,
    },
    MessageQueued {
        #[serde(default)]
        id: Option<String>,
    },
    UserMessage {
        #[serde(default)]
        text: String,
        #[serde(default)]
        id: Option<String>,
    },
    Start,
    Routed {
        #[serde(default)]
        route: String,
        #[serde(default)]
        tool: Option<String>,
    },
    ToolCall {
        #[serde(default)]
        name: String,
        #[serde(default)]
        arguments: Value,
    },
    ToolResult {
        #[serde(default)]
        name: String,
        #[serde(default)]
        result: Value,
        #[serde(default)]
        error: Option<String>,
        #[serde(default)]
        duration_ms: u64,
    },
    FollowUp {
        #[serde(default)]
        tool: String,
        #[serde(default)]
        missing: Vec<String>,
    },
    Token {
        #[serde(default)]
        token: String,
        #[serde(default)]
        index: u64,
    },
    Draft {
        #[serde(default)]
        text: String,
        #[serde(default)]
        next_index: u64,
    },
    Done {
        #[serde(default)]
        text: String,
        #[serde(default)]
        finish_reason: String,
    },
    Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        retryable: bool,
        #[serde(default)]
        id: Option<String>,
    },
    SessionEnded {
        #[serde(default)]
        reason: String,
    },
    /// A frame that a person does not see, or that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Frame {
    /// Reads one text frame. What cannot be read is unknown.
    pub(super) fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use duologue_protocol::{
        AssistantMessage, CallId, ErrorCode, ErrorFrame, Event, EventBody, FinishReason, Seq,
        ServerFrame, Timestamp, ToolOutcome, ToolResult, TurnId,
    };

    use super::*;

    fn event(body: EventBody) -> ServerFrame {
        ServerFrame::Event(Event {
            seq: Seq(7),
            occurred_at: Timestamp::UNIX_EPOCH,
            turn_id: Some(TurnId(2)),
            body,
        })
    }

    /// Written by the server's own code, so that the two cannot drift apart.
    #[test]
    fn the_servers_frames_are_read() {
        let done = event(EventBody::AssistantMessage(AssistantMessage {
            text: "hi".into(),
            finish_reason: FinishReason::Cancelled,
            error: None,
            usage: None,
            ttft_ms: None,
            duration_ms: 1,
            model: "mock".into(),
        }));
        assert_eq!(
            Frame::read(&done.to_json()),
            Frame {
                turn_id: Some("turn-2".into()),
                body: Body::Done {
                    text: "hi".into(),
                    finish_reason: "cancelled".into()
                },
            }
        );
        let result = event(EventBody::ToolResult(ToolResult {
            call_id: CallId::new(TurnId(2), 1),
            name: "t".into(),
            outcome: ToolOutcome::Error("no".into()),
            duration_ms: 3,
        }));
        assert_eq!(
            Frame::read(&result.to_json()).body,
            Body::ToolResult {
                name: "t".into(),
                result: Value::Null,
                error: Some("no".into()),
                duration_ms: 3
            }
        );
        let error = ServerFrame::Error(ErrorFrame::new(ErrorCode::Busy, "wait"));
        assert_eq!(
            Frame::read(&error.to_json()).body,
            Body::Error {
                code: "busy".into(),
                message: "wait".into(),
                retryable: true,
                id: None
            }
        );
    }

    #[test]
    fn an_unknown_frame_is_ignored() {
        let new = r#"{"type":"from_the_future","seq":9,"x":[1]}"#;
        for text in [new, "", "hello", "[]", "{}", r#"{"type":null}"#] {
            assert_eq!(Frame::read(text), Frame::default(), "{text}");
        }
    }
}
