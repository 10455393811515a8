//! Middleware: refuses paths and queries that are not UTF-8.

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{api_error::ApiError, query::check_utf8};

pub(crate) async fn check(request: Request, next: Next) -> Response {
    match check_utf8(request.uri()) {
        Ok(()) => next.run(request).await,
        Err(error) => ApiError::from(error).into_response(),
    }
}
