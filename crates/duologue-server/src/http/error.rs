//! What a client of the HTTP routes is told when something is wrong: a status, a code, a sentence.
//!
//! It never sees a cause; those are logged where they are handled, which is here.

use std::{any::Any, time::Duration};

use axum::{
    Json,
    extract::rejection::{PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use duologue_engine::{AttachError, store::StoreError};
use duologue_protocol::{CloseCode, ErrorCode, ErrorFrame, IdError};
use serde_json::json;

use crate::{auth::AuthError, gates::PLACE_RETRY_DELAY};

/// How long a client should wait before it tries a busy server again.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Why a request was refused.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// Something in the request is wrong; the sentence says what, and what is allowed.
    BadRequest(String),
    /// The request should have been a WebSocket handshake.
    UpgradeRequired,
    /// The page that sent the request may not use this server.
    OriginNotAllowed,
    /// Nobody knows who asks, or it is somebody else than they say.
    Auth(AuthError),
    /// There is nothing at this path.
    NoSuchRoute,
    /// The request names a server that this one is not.
    HostNotAllowed,
    /// No such session, or not this user's: the two look the same.
    SessionNotFound,
    /// The session has as many readers as it may have, or too much to do.
    Busy,
    /// This address or user asks more often than it may, or holds more than it may.
    TooManyRequests {
        /// Of what there is too much.
        message: &'static str,
        /// When to try again.
        wait: Duration,
    },
    /// The server is stopping.
    ShuttingDown,
    /// The store does not answer, or not with something that can be read.
    Store(StoreError),
}

impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
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

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
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
                wait: PLACE_RETRY_DELAY,
            },
            AttachError::ShuttingDown => Self::ShuttingDown,
            AttachError::Store(error) => Self::Store(error),
        }
    }
}

/// What a client is told: by a status where there is one, by a close code where there is none.
struct Told {
    status: StatusCode,
    close: CloseCode,
    code: ErrorCode,
    message: String,
}

impl ApiError {
    /// What a client is told after the upgrade, when there is no status any more.
    pub(crate) fn after_upgrade(&self) -> (ErrorFrame, CloseCode) {
        let told = self.tell();
        let frame = ErrorFrame::new(told.code, told.message)
            .with_retry_after_ms(self.wait(told.status).map(milliseconds));
        (frame, told.close)
    }

    /// How long the client should wait before it tries again; none where that does not help.
    fn wait(&self, status: StatusCode) -> Option<Duration> {
        match self {
            Self::TooManyRequests { wait, .. } => Some(*wait),
            _ if status == StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_DELAY),
            _ => None,
        }
    }

    fn tell(&self) -> Told {
        let told = |status, close, code, message: &str| Told {
            status,
            close,
            code,
            message: message.to_owned(),
        };
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let later = CloseCode::TryAgainLater;
        // These are only ever refused before an upgrade, so that their close code is never sent.
        let refused = |status, message: &str| {
            let (close, code) = (CloseCode::Unauthorized, ErrorCode::BadRequest);
            told(status, close, code, message)
        };
        match self {
            Self::BadRequest(message) => refused(StatusCode::BAD_REQUEST, message),
            Self::UpgradeRequired => refused(
                StatusCode::UPGRADE_REQUIRED,
                "this is a WebSocket address; connect with ws:// or wss://",
            ),
            Self::OriginNotAllowed => refused(
                StatusCode::FORBIDDEN,
                "pages of this origin may not use the server; see server.origins_allowed",
            ),
            Self::HostNotAllowed => refused(
                StatusCode::MISDIRECTED_REQUEST,
                "the server does not answer under this name; see server.hosts_allowed",
            ),
            Self::NoSuchRoute => refused(StatusCode::NOT_FOUND, "there is nothing here; see /"),
            Self::Auth(error) => {
                let (status, close, code, message) = authentication(*error);
                told(status, close, code, message)
            }
            Self::SessionNotFound => told(
                StatusCode::NOT_FOUND,
                CloseCode::NotFound,
                ErrorCode::SessionNotFound,
                "there is no such session, or it belongs to another user",
            ),
            Self::Busy => told(
                unavailable,
                later,
                ErrorCode::Busy,
                "the session is busy; try again shortly",
            ),
            Self::TooManyRequests { message, .. } => told(
                StatusCode::TOO_MANY_REQUESTS,
                CloseCode::Flooding,
                ErrorCode::TooManyRequests,
                message,
            ),
            Self::ShuttingDown => told(
                unavailable,
                CloseCode::Restart,
                ErrorCode::ShuttingDown,
                "the server is restarting; try again shortly",
            ),
            Self::Store(StoreError::Conflict | StoreError::Unavailable(_)) => told(
                unavailable,
                later,
                ErrorCode::StorageUnavailable,
                "the store does not answer; try again shortly",
            ),
            Self::Store(StoreError::Corrupt(_)) => told(
                StatusCode::INTERNAL_SERVER_ERROR,
                CloseCode::Internal,
                ErrorCode::Internal,
                "the session cannot be read; the server has logged why",
            ),
        }
    }

    /// Says in the log what a client is not told.
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
        let Told {
            status,
            code,
            message,
            ..
        } = self.tell();
        let mut response = respond(status, code, &message, self.wait(status));
        if code == ErrorCode::Unauthorized {
            let how = match self {
                Self::Auth(AuthError::Invalid | AuthError::Expired) => {
                    "Bearer error=\"invalid_token\""
                }
                _ => "Bearer",
            };
            let how = HeaderValue::from_static(how);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
        }
        response
    }
}

fn authentication(error: AuthError) -> (StatusCode, CloseCode, ErrorCode, &'static str) {
    let unauthorized = |message| {
        (
            StatusCode::UNAUTHORIZED,
            CloseCode::Unauthorized,
            ErrorCode::Unauthorized,
            message,
        )
    };
    match error {
        AuthError::Missing => unauthorized("a token is wanted"),
        AuthError::Misplaced => {
            unauthorized("bring one token, and only in one of the ways allowed")
        }
        AuthError::Expired => unauthorized("the token has expired"),
        AuthError::Invalid => unauthorized("the token is not valid here"),
        AuthError::OtherUser => (
            StatusCode::FORBIDDEN,
            CloseCode::Unauthorized,
            ErrorCode::BadRequest,
            "the token is another user's; leave `user_id` out, or let it be the token's subject",
        ),
        AuthError::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            CloseCode::TryAgainLater,
            ErrorCode::AuthUnavailable,
            "tokens cannot be checked now; try again shortly",
        ),
    }
}

fn respond(status: StatusCode, code: ErrorCode, message: &str, wait: Option<Duration>) -> Response {
    let mut error = json!({ "code": code, "message": message, "retryable": code.retryable() });
    if let Some(wait) = wait {
        error["retry_after_ms"] = milliseconds(wait).into();
    }
    let mut response = (status, Json(json!({ "error": error }))).into_response();
    if let Some(wait) = wait {
        // The header knows only whole seconds, and too early would be refused again.
        let seconds = milliseconds(wait).div_ceil(1000).max(1);
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

pub(crate) fn milliseconds(wait: Duration) -> u64 {
    wait.as_millis().try_into().unwrap_or(u64::MAX)
}

/// Answers requests for what does not exist.
pub(crate) async fn no_such_route() -> ApiError {
    ApiError::NoSuchRoute
}

/// Answers a request with a method that the route does not know.
pub(crate) async fn wrong_method() -> Response {
    let message = "this address does not know the method; see the header `Allow`";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    respond(status, ErrorCode::BadRequest, message, None)
}

/// Answers a request whose handler panicked. The panic hook has logged it.
pub(crate) fn panicked(_panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = "something went wrong on the server, which has logged it";
    respond(
        StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Internal,
        message,
        None,
    )
}
