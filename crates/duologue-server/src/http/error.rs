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
use duologue_protocol::{ErrorCode, IdError};
use serde_json::json;

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

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::BadRequest(message) => (StatusCode::BAD_REQUEST, ErrorCode::BadRequest, message),
            Self::UpgradeRequired => (
                StatusCode::UPGRADE_REQUIRED,
                ErrorCode::BadRequest,
                "this is a WebSocket address; connect with ws:// or wss://".into(),
            ),
            Self::OriginNotAllowed => (
                StatusCode::FORBIDDEN,
                ErrorCode::BadRequest,
                "pages of this origin may not use the server; see server.origins_allowed".into(),
            ),
            Self::HostNotAllowed => (
                StatusCode::MISDIRECTED_REQUEST,
                ErrorCode::BadRequest,
                "the server does not answer under this name; see server.hosts_allowed".into(),
            ),
            Self::SessionNotFound => (
                StatusCode::NOT_FOUND,
                ErrorCode::SessionNotFound,
                "there is no such session, or it belongs to another user".into(),
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Busy,
                "the session is busy; try again shortly".into(),
            ),
            Self::ShuttingDown => (
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::ShuttingDown,
                "the server is restarting; try again shortly".into(),
            ),
            Self::Store(error) => return storage(&error),
        };
        respond(status, code, &message)
    }
}

fn storage(error: &StoreError) -> Response {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "request.store_failed"
    );
    match error {
        StoreError::Conflict | StoreError::Unavailable(_) => respond(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::StorageUnavailable,
            "the store does not answer; try again shortly",
        ),
        StoreError::Corrupt(_) => respond(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Internal,
            "the session cannot be read; the server has logged why",
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
pub(crate) async fn no_such_route() -> Response {
    let message = "there is nothing here; see /";
    respond(StatusCode::NOT_FOUND, ErrorCode::BadRequest, message)
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
