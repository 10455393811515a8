//! The closed sets of error and close codes. Their meaning for a client is in `docs/protocol.md`.

use serde::{Deserialize, Serialize};

/// Defines [`ErrorCode`] and the lists that follow from it: for each code its string.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal;)*) => {
        /// Why a request was refused or a turn failed. Stable strings; a client may match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $code,)*
        }

        impl ErrorCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$code),*];

            /// The stable string, as clients see it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $text,)*
                }
            }
        }
    };
}

error_codes! {
    /// The frame or request is malformed. Sending it again will not help.
    BadRequest = "bad_request";
    /// The frame's `type` is none that the server knows.
    UnknownType = "unknown_type";
    /// The message has no text besides white space.
    EmptyMessage = "empty_message";
    /// Binary frames carry nothing in this protocol.
    BinaryUnsupported = "binary_unsupported";
    /// The message id was already used with another text.
    IdempotencyMismatch = "idempotency_mismatch";
    /// The server does not offer this here, for example `auth` where authentication is off.
    Unsupported = "unsupported";
    /// The token is missing, wrong or expired.
    Unauthorized = "unauthorized";
    /// Tokens cannot be checked now, since the keys to check them by cannot be had.
    AuthUnavailable = "auth_unavailable";
    /// No such session, or not this user's.
    SessionNotFound = "session_not_found";
    /// `after` lies beyond the end of the log: the log that the client knew is gone.
    UnknownPosition = "unknown_position";
    /// Too many messages wait, or too many readers are attached. Try again shortly.
    Busy = "busy";
    /// This address, user or connection asks more often than it may, or holds more than it may. Nothing
    /// was stored; `retry_after_ms` says when to try again.
    TooManyRequests = "too_many_requests";
    /// The tokens that the session may use, or the user or the server in a day, are used up. Where time
    /// helps, `retry_after_ms` says how much; otherwise only another session does.
    OverBudget = "over_budget";
    /// The store does not answer. What was not acknowledged was not stored.
    StorageUnavailable = "storage_unavailable";
    /// The model's endpoint limits our rate.
    RateLimited = "rate_limited";
    /// The model's endpoint could not be reached, or broke off.
    UpstreamUnavailable = "upstream_unavailable";
    /// The model's endpoint took longer than the configured limit.
    UpstreamTimeout = "upstream_timeout";
    /// The model's endpoint refused the request, for example because of a wrong key.
    UpstreamRefused = "upstream_refused";
    /// A tool could not do its work.
    ToolFailed = "tool_failed";
    /// The turn took more steps or tool calls than it may.
    TurnTooLong = "turn_too_long";
    /// The server is stopping. Connect again.
    ShuttingDown = "shutting_down";
    /// A fault of the server's own, which it has logged.
    Internal = "internal";
}

impl ErrorCode {
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

/// Defines [`CloseCode`] and the lists that follow from it: for each code its number and the reason
/// that is sent with it.
macro_rules! close_codes {
    ($($(#[$doc:meta])* $code:ident = $number:literal $reason:literal;)*) => {
        /// Why the server closed a WebSocket (RFC 6455, §7.4). Codes from 4000 on are ours.
        ///
        /// What a client should do next follows from the code: after [`Ended`](Self::Ended),
        /// [`TooBig`](Self::TooBig), [`InvalidText`](Self::InvalidText) and [`NotFound`](Self::NotFound) do
        /// not come back by itself; after [`Unauthorized`](Self::Unauthorized) only with a fresh token;
        /// after all others reconnect with `after`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CloseCode {
            $($(#[$doc])* $code,)*
        }

        impl CloseCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$code),*];

            /// The number on the wire.
            pub fn number(self) -> u16 {
                match self {
                    $(Self::$code => $number,)*
                }
            }

            /// The reason that travels with it.
            pub fn reason(self) -> &'static str {
                match self {
                    $(Self::$code => $reason,)*
                }
            }
        }
    };
}

close_codes! {
    /// The session has ended.
    Ended = 1000 "session ended";
    /// The peer broke the WebSocket protocol itself.
    Protocol = 1002 "protocol error";
    /// A text frame was not UTF-8.
    InvalidText = 1007 "text frames must be UTF-8";
    /// The message was larger than `frame_bytes_max`.
    TooBig = 1009 "message too big";
    /// A fault of the server's own.
    Internal = 1011 "internal error";
    /// The server is restarting.
    Restart = 1012 "server restarting, reconnect";
    /// The server cannot serve the session now, for example because its store is away.
    TryAgainLater = 1013 "try again later";
    /// The connection has lived as long as one may.
    TooOld = 4006 "connection too old, reconnect";
    /// The peer answered no ping in time.
    Unresponsive = 4007 "no pong in time, reconnect";
    /// The reader did not keep up.
    Slow = 4008 "reader too slow, reconnect";
    /// Another server has taken the session over.
    TakenOver = 4009 "session moved to another server, reconnect";
    /// The peer went on sending though it was refused again and again.
    Flooding = 4029 "too many requests, reconnect later";
    /// The client's token is missing, wrong or expired.
    Unauthorized = 4401 "token missing, wrong or expired";
    /// No such session for this user. Only where the client authenticated after the upgrade.
    NotFound = 4404 "no such session";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_code_reads_the_same_by_serde_and_by_hand() {
        for &code in ErrorCode::ALL {
            let json = serde_json::to_value(code).unwrap();
            assert_eq!(json, code.as_str());
        }
    }
}
