//! The closed sets of error and close codes. Their meaning for a client is in `docs/protocol.md`.

use serde::{Deserialize, Serialize};

/// Why a request was refused or a turn failed. Stable strings; a client may match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame or request is malformed. Sending it again will not help.
    BadRequest,
    /// The frame's `type` is none that the server knows.
    UnknownType,
    /// The message has no text besides white space.
    EmptyMessage,
    /// Binary frames carry nothing in this protocol.
    BinaryUnsupported,
    /// The message id was already used with another text.
    IdempotencyMismatch,
    /// The server does not offer this here, for example `auth` where authentication is off.
    Unsupported,
    /// The token is missing, wrong or expired.
    Unauthorized,
    /// Tokens cannot be checked now, since the keys to check them by cannot be had.
    AuthUnavailable,
    /// No such session, or not this user's.
    SessionNotFound,
    /// `after` lies beyond the end of the log: the log that the client knew is gone.
    UnknownPosition,
    /// Too many messages wait, or too many readers are attached. Try again shortly.
    Busy,
    /// This address, user or connection asks more often than it may, or holds more than it may. Nothing
    /// was stored; `retry_after_ms` says when to try again.
    TooManyRequests,
    /// The tokens that the session may use, or the user or the server in a day, are used up. Where time
    /// helps, `retry_after_ms` says how much; otherwise only another session does.
    OverBudget,
    /// The store does not answer. What was not acknowledged was not stored.
    StorageUnavailable,
    /// The model's endpoint limits our rate.
    RateLimited,
    /// The model's endpoint could not be reached, or broke off.
    UpstreamUnavailable,
    /// The model's endpoint took longer than the configured limit.
    UpstreamTimeout,
    /// The model's endpoint refused the request, for example because of a wrong key.
    UpstreamRefused,
    /// A tool could not do its work.
    ToolFailed,
    /// The turn took more steps or tool calls than it may.
    TurnTooLong,
    /// The server is stopping. Connect again.
    ShuttingDown,
    /// A fault of the server's own, which it has logged.
    Internal,
}

impl ErrorCode {
    /// The stable string, as clients see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownType => "unknown_type",
            Self::EmptyMessage => "empty_message",
            Self::BinaryUnsupported => "binary_unsupported",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::Unsupported => "unsupported",
            Self::Unauthorized => "unauthorized",
            Self::AuthUnavailable => "auth_unavailable",
            Self::SessionNotFound => "session_not_found",
            Self::UnknownPosition => "unknown_position",
            Self::Busy => "busy",
            Self::TooManyRequests => "too_many_requests",
            Self::OverBudget => "over_budget",
            Self::StorageUnavailable => "storage_unavailable",
            Self::RateLimited => "rate_limited",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamRefused => "upstream_refused",
            Self::ToolFailed => "tool_failed",
            Self::TurnTooLong => "turn_too_long",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed when it is sent again later.
    pub fn retryable(self) -> bool {
        match self {
            Self::AuthUnavailable
            | Self::Busy
            | Self::TooManyRequests
            | Self::StorageUnavailable
            | Self::RateLimited
            | Self::UpstreamUnavailable
            | Self::UpstreamTimeout
            | Self::ToolFailed
            | Self::ShuttingDown
            | Self::Internal => true,
            Self::BadRequest
            | Self::UnknownType
            | Self::EmptyMessage
            | Self::BinaryUnsupported
            | Self::IdempotencyMismatch
            | Self::Unsupported
            | Self::Unauthorized
            | Self::SessionNotFound
            | Self::UnknownPosition
            | Self::UpstreamRefused
            | Self::TurnTooLong
            // Not soon, and perhaps never in this session. `retry_after_ms` says when.
            | Self::OverBudget => false,
        }
    }
}

/// Why the server closed a WebSocket (RFC 6455, §7.4). Codes from 4000 on are ours.
///
/// What a client should do next follows from the code: after [`Ended`](Self::Ended),
/// [`TooBig`](Self::TooBig), [`InvalidText`](Self::InvalidText) and [`NotFound`](Self::NotFound) do
/// not come back by itself; after [`Unauthorized`](Self::Unauthorized) only with a fresh token;
/// after all others reconnect with `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// The session has ended.
    Ended,
    /// The peer broke the WebSocket protocol itself.
    Protocol,
    /// A text frame was not UTF-8.
    InvalidText,
    /// The message was larger than `frame_bytes_max`.
    TooBig,
    /// A fault of the server's own.
    Internal,
    /// The server is restarting.
    Restart,
    /// The server cannot serve the session now, for example because its store is away.
    TryAgainLater,
    /// The connection has lived as long as one may.
    TooOld,
    /// The peer answered no ping in time.
    Unresponsive,
    /// The reader did not keep up.
    Slow,
    /// Another server has taken the session over.
    TakenOver,
    /// The peer went on sending though it was refused again and again.
    Flooding,
    /// The client's token is missing, wrong or expired.
    Unauthorized,
    /// No such session for this user. Only where the client authenticated after the upgrade.
    NotFound,
}

impl CloseCode {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            Self::Ended => 1000,
            Self::Protocol => 1002,
            Self::InvalidText => 1007,
            Self::TooBig => 1009,
            Self::Internal => 1011,
            Self::Restart => 1012,
            Self::TryAgainLater => 1013,
            Self::TooOld => 4006,
            Self::Unresponsive => 4007,
            Self::Slow => 4008,
            Self::TakenOver => 4009,
            Self::Flooding => 4029,
            Self::Unauthorized => 4401,
            Self::NotFound => 4404,
        }
    }

    /// The reason that travels with it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ended => "session ended",
            Self::Protocol => "protocol error",
            Self::InvalidText => "text frames must be UTF-8",
            Self::TooBig => "message too big",
            Self::Internal => "internal error",
            Self::Restart => "server restarting, reconnect",
            Self::TryAgainLater => "try again later",
            Self::TooOld => "connection too old, reconnect",
            Self::Unresponsive => "no pong in time, reconnect",
            Self::Slow => "reader too slow, reconnect",
            Self::TakenOver => "session moved to another server, reconnect",
            Self::Flooding => "too many requests, reconnect later",
            Self::Unauthorized => "token missing, wrong or expired",
            Self::NotFound => "no such session",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_code_reads_the_same_by_serde_and_by_hand() {
        for code in [
            ErrorCode::BadRequest,
            ErrorCode::UnknownType,
            ErrorCode::EmptyMessage,
            ErrorCode::BinaryUnsupported,
            ErrorCode::IdempotencyMismatch,
            ErrorCode::Unsupported,
            ErrorCode::Unauthorized,
            ErrorCode::AuthUnavailable,
            ErrorCode::SessionNotFound,
            ErrorCode::UnknownPosition,
            ErrorCode::Busy,
            ErrorCode::TooManyRequests,
            ErrorCode::OverBudget,
            ErrorCode::StorageUnavailable,
            ErrorCode::RateLimited,
            ErrorCode::UpstreamUnavailable,
            ErrorCode::UpstreamTimeout,
            ErrorCode::UpstreamRefused,
            ErrorCode::ToolFailed,
            ErrorCode::TurnTooLong,
            ErrorCode::ShuttingDown,
            ErrorCode::Internal,
        ] {
            let json = serde_json::to_value(code).unwrap();
            assert_eq!(json, code.as_str());
        }
    }
}
