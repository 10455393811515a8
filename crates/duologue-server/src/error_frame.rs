//! The error frames that the server sends by itself.

use duologue_protocol::{ErrorCode, ErrorFrame, MessageId};

/// Refuses a request, or the message with this id.
pub(crate) fn error_frame(
    code: ErrorCode,
    message: impl Into<String>,
    id: Option<MessageId>,
) -> ErrorFrame {
    ErrorFrame {
        code,
        message: message.into(),
        id,
        turn_id: None,
        retry_after_ms: None,
    }
}
