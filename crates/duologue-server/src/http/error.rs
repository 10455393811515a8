//! What a client of the HTTP routes is told when something is wrong: a status, a code, a sentence.
//!
//! It never sees a cause; those are logged where they are handled, which is here.

use std::any::Any;

use axum::{
    Json,
    extract::rejection::{PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use duologue_engine::{AttachError, store::StoreError};
use duologue_protocol::{CloseCode, ErrorCode, ErrorFrame, IdError};
use serde_json::json;

use crate::auth::AuthError;

/// How long a client should wait before it tries a busy server again, in seconds.
const RETRY_AFTER_SECONDS: &str = "2";

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
        let frame = ErrorFrame {
            code: told.code,
            message: told.message,
            id: None,
            turn_id: None,
        };
        (frame, told.close)
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
        let refused = |status, message| {
            told(
                status,
                CloseCode::Unauthorized,
                ErrorCode::BadRequest,
                message,
            )
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
        let mut response = respond(status, code, &message);
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

fn respond(status: StatusCode, code: ErrorCode, message: &str) -> Response {
    let body = json!({
        "error": { "code": code, "message": message, "retryable": code.retryable() }
    });
    let mut response = (status, Json(body)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = HeaderValue::from_static(RETRY_AFTER_SECONDS);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// Answers requests for what does not exist.
pub(crate) async fn no_such_route() -> ApiError {
    ApiError::NoSuchRoute
}

/// Answers a request with a method that the route does not know.
pub(crate) async fn wrong_method() -> Response {
    let message = "this address does not know the method; see the header `Allow`";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    respond(status, ErrorCode::BadRequest, message)
}

/// Answers a request whose handler panicked. The panic hook has logged it.
pub(crate) fn panicked(_panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = "something went wrong on the server, which has logged it";
    respond(
        StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Internal,
        message,
    )
}
