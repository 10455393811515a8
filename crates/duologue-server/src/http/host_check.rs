//! Middleware: refuses requests for other host names, whatever they ask for.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{api_error::ApiError, app::App, hosts::HostError};

pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let (version, uri, headers) = (request.version(), request.uri(), request.headers());
    match app.hosts.check(version, uri, headers) {
        Ok(()) => next.run(request).await,
        Err(HostError::Malformed) => {
            let message = "send exactly one `Host`, and no other host name in the request line";
            ApiError::BadRequest(message.into()).into_response()
        }
        Err(HostError::NotAllowed) => ApiError::HostNotAllowed.into_response(),
    }
}
