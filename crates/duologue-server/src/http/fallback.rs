//! Responses to requests that no handler answers.

use std::any::Any;

use axum::{http::StatusCode, response::Response};
use duologue_protocol::ErrorCode;

use crate::api_error::{ApiError, error_response};

/// Answers requests for a path that does not exist.
pub(crate) async fn no_such_route() -> ApiError {
    ApiError::NoSuchRoute
}

/// Answers requests with a method that the route does not have.
pub(crate) async fn method_not_allowed() -> Response {
    let message = "method not allowed; see the header `Allow`";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    error_response(status, ErrorCode::BadRequest, message, None)
}

/// Answers a request whose handler panicked. The panic hook has logged the panic.
pub(crate) fn internal_error(_panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = "internal server error; the server has logged it";
    error_response(
        StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Internal,
        message,
        None,
    )
}
