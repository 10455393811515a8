//! The errors that clients receive: a status before the upgrade, a close code after it, and in both
//! cases a code and a sentence.
//!
//! Clients never receive a cause. Causes are logged where they are handled, which is here.

use std::time::Duration;

use axum::{
    Json,
    extract::rejection::PathRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use duologue_engine::{AttachError, clock::milliseconds, store::StoreError};
use duologue_protocol::{CloseCode, ErrorCode, ErrorFrame, IdError};
use serde_json::json;

use crate::{auth::AuthError, connection_limits::SLOT_RETRY_DELAY, query::QueryError};

/// How long a client should wait before it tries a busy server again.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// Something in the request is wrong; the sentence says what, and what is allowed.
    BadRequest(String),
    /// The request should have been a WebSocket handshake.
    UpgradeRequired,
    /// The page that sent the request may not use this server.
    OriginNotAllowed,
    /// The request is not authenticated, or its user is not the one it names.
    Auth(AuthError),
    /// There is nothing at this path.
    NoSuchRoute,
    /// The host name of the request is not one of this server's.
    HostNotAllowed,
    /// No such session, or not this user's: the client cannot tell them apart.
    SessionNotFound,
    /// The session has the maximum of readers, or too many requests are pending.
    Busy,
    /// This address or user sends more requests than it may, or uses more than it may.
    TooManyRequests {
        /// Which limit was reached.
        message: &'static str,
        /// When to try again.
        wait: Duration,
    },
    /// The server is shutting down.
    ShuttingDown,
    /// The store is unavailable, or what it returned cannot be read.
    Store(StoreError),
}

impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
        Self::BadRequest(error.to_string())
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        Self::BadRequest(error.to_string())
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        Self::Auth(error)
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<AttachError> for ApiError {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::NotFound => Self::SessionNotFound,
            AttachError::Busy | AttachError::Gone => Self::Busy,
            AttachError::TooManySessions => Self::TooManyRequests {
                message: "you have too many sessions; end one, or try again later",
                wait: SLOT_RETRY_DELAY,
            },
            AttachError::ShuttingDown => Self::ShuttingDown,
            AttachError::Store(error) => Self::Store(error),
        }
    }
}

/// What a client receives: the status before the upgrade, the close code after it.
struct Reply {
    status: StatusCode,
    close: CloseCode,
    code: ErrorCode,
}

impl Reply {
    fn new(status: StatusCode, close: CloseCode, code: ErrorCode) -> Self {
        Self {
            status,
            close,
            code,
        }
    }

    /// The reply to a request that is wrong. Most occur before the upgrade only, so that their close
    /// code is not sent.
    fn bad_request(status: StatusCode) -> Self {
        Self::new(status, CloseCode::Unauthorized, ErrorCode::BadRequest)
    }

    fn try_again_later(code: ErrorCode) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, CloseCode::TryAgainLater, code)
    }
}

impl ApiError {
    /// The error frame and the close code that a client receives after the upgrade.
    pub(crate) fn after_upgrade(&self) -> (ErrorFrame, CloseCode) {
        let reply = self.reply();
        let frame = ErrorFrame::new(reply.code, self.message())
            .with_retry_after_ms(self.wait(reply.status).map(milliseconds));
        (frame, reply.close)
    }

    /// How long the client should wait before it tries again; none where that does not help.
    fn wait(&self, status: StatusCode) -> Option<Duration> {
        match self {
            Self::TooManyRequests { wait, .. } => Some(*wait),
            _ if status == StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_DELAY),
            _ => None,
        }
    }

    fn reply(&self) -> Reply {
        match self {
            Self::BadRequest(_) => Reply::bad_request(StatusCode::BAD_REQUEST),
            Self::UpgradeRequired => Reply::bad_request(StatusCode::UPGRADE_REQUIRED),
            Self::OriginNotAllowed => Reply::bad_request(StatusCode::FORBIDDEN),
            Self::HostNotAllowed => Reply::bad_request(StatusCode::MISDIRECTED_REQUEST),
            Self::NoSuchRoute => Reply::bad_request(StatusCode::NOT_FOUND),
            Self::Auth(error) => auth_reply(*error),
            Self::SessionNotFound => {
                let status = StatusCode::NOT_FOUND;
                Reply::new(status, CloseCode::NotFound, ErrorCode::SessionNotFound)
            }
            Self::Busy => Reply::try_again_later(ErrorCode::Busy),
            Self::TooManyRequests { .. } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Reply::new(status, CloseCode::Flooding, ErrorCode::TooManyRequests)
            }
            Self::ShuttingDown => Reply {
                close: CloseCode::Restart,
                ..Reply::try_again_later(ErrorCode::ShuttingDown)
            },
            Self::Store(StoreError::Conflict | StoreError::Unavailable(_)) => {
                Reply::try_again_later(ErrorCode::StorageUnavailable)
            }
            Self::Store(StoreError::Corrupt(_)) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Reply::new(status, CloseCode::Internal, ErrorCode::Internal)
            }
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::BadRequest(message) => message,
            Self::UpgradeRequired => "this is a WebSocket endpoint; connect with ws:// or wss://",
            Self::OriginNotAllowed => {
                "pages of this origin are not allowed to use the server; see server.origins_allowed"
            }
            Self::HostNotAllowed => {
                "the host name of the request is not accepted; see server.hosts_allowed"
            }
            Self::NoSuchRoute => "there is nothing at this path; `GET /` lists the endpoints",
            Self::Auth(AuthError::Missing) => "a token is required; send a token",
            Self::Auth(AuthError::Misplaced) => {
                "send exactly one token, in one of the places that the protocol allows"
            }
            Self::Auth(AuthError::Expired) => "the token has expired; send a new one",
            Self::Auth(AuthError::Invalid) => "the token is not valid here",
            Self::Auth(AuthError::OtherUser) => {
                "the token belongs to another user; omit `user_id`, or set it to the token's subject"
            }
            Self::Auth(AuthError::Unavailable) => {
                "tokens cannot be checked at the moment; try again shortly"
            }
            Self::SessionNotFound => "there is no such session, or it belongs to another user",
            Self::Busy => "the session is busy; try again shortly",
            Self::TooManyRequests { message, .. } => message,
            Self::ShuttingDown => "the server is restarting; try again shortly",
            Self::Store(StoreError::Conflict | StoreError::Unavailable(_)) => {
                "storage unavailable; try again shortly"
            }
            Self::Store(StoreError::Corrupt(_)) => {
                "the session cannot be read; the server has logged the cause"
            }
        }
    }

    /// Logs the cause, which the client does not receive.
    pub(crate) fn log(&self) {
        if let Self::Store(error) = self {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "request.store_failed"
            );
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let Reply { status, code, .. } = self.reply();
        let mut response = error_response(status, code, self.message(), self.wait(status));
        if code == ErrorCode::Unauthorized {
            let challenge = match self {
                Self::Auth(AuthError::Invalid | AuthError::Expired) => {
                    "Bearer error=\"invalid_token\""
                }
                _ => "Bearer",
            };
            let challenge = HeaderValue::from_static(challenge);
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn auth_reply(error: AuthError) -> Reply {
    match error {
        AuthError::OtherUser => Reply::bad_request(StatusCode::FORBIDDEN),
        AuthError::Unavailable => Reply::try_again_later(ErrorCode::AuthUnavailable),
        AuthError::Missing | AuthError::Misplaced | AuthError::Expired | AuthError::Invalid => {
            let status = StatusCode::UNAUTHORIZED;
            Reply::new(status, CloseCode::Unauthorized, ErrorCode::Unauthorized)
        }
    }
}

/// A response with an error as its body.
pub(crate) fn error_response(
    status: StatusCode,
    code: ErrorCode,
    message: &str,
    wait: Option<Duration>,
) -> Response {
    let mut error = json!({ "code": code, "message": message, "retryable": code.retryable() });
    if let Some(wait) = wait {
        error["retry_after_ms"] = milliseconds(wait).into();
    }
    let mut response = (status, Json(json!({ "error": error }))).into_response();
    if let Some(wait) = wait {
        // The header has whole seconds only. Rounded down, the retry would be refused again.
        let seconds = milliseconds(wait).div_ceil(1000).max(1);
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
