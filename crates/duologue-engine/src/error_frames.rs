//! The error frames that the engine sends.

use std::time::Duration;

use duologue_protocol::{ErrorCode, ErrorFrame, MessageId, TurnId};

use crate::clock::milliseconds;

/// The wait that is suggested to a client whose session is busy. The end of a turn is not
/// predictable.
const BUSY_RETRY_DELAY: Duration = Duration::from_secs(2);

/// Refuses a request, or the message with this id.
pub(crate) fn refusal(
    code: ErrorCode,
    message: impl Into<String>,
    id: Option<MessageId>,
) -> ErrorFrame {
    let retry_after = (code == ErrorCode::Busy).then_some(BUSY_RETRY_DELAY);
    refusal_until(code, message, id, retry_after)
}

/// The same, with the wait after which the request may succeed.
pub(crate) fn refusal_until(
    code: ErrorCode,
    message: impl Into<String>,
    id: Option<MessageId>,
    retry_after: Option<Duration>,
) -> ErrorFrame {
    ErrorFrame::new(code, message)
        .with_id(id)
        .with_retry_after_ms(retry_after.map(milliseconds))
}

/// Reports that a turn failed.
pub(crate) fn turn_failure(
    code: ErrorCode,
    turn_id: TurnId,
    retry_after: Option<Duration>,
) -> ErrorFrame {
    refusal_until(code, explanation(code), None, retry_after).with_turn(Some(turn_id))
}

/// Reports that storage stayed unavailable, and which turn has no stored end for now.
pub(crate) fn storage_given_up(open_turn: Option<TurnId>) -> ErrorFrame {
    let message = "storage is unavailable; what was not acknowledged was not stored";
    refusal(ErrorCode::StorageUnavailable, message, None).with_turn(open_turn)
}

fn explanation(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::RateLimited => "the model is busy; try again in a moment",
        ErrorCode::UpstreamUnavailable => {
            "the model is unavailable, or its answer broke off; try again"
        }
        ErrorCode::UpstreamTimeout => "the model took too long; try again",
        ErrorCode::UpstreamRefused => {
            "the model's endpoint refused the request; see the server's log"
        }
        ErrorCode::OverBudget => {
            "the tokens of this session or of the day are used up; if no wait is given, start \
             another session"
        }
        ErrorCode::ToolFailed => "a tool failed; try again",
        ErrorCode::TurnTooLong => "the turn took more steps than allowed; ask for less at once",
        _ => "something went wrong on the server; see the server's log",
    }
}
