//! `GET /v1/admin/status`: the state of this server, for operators.

use axum::{Json, extract::State, http::HeaderMap};
use serde_json::{Value, json};

use crate::{
    api_error::ApiError, app::App, auth::AuthError, http::counted_request::CountedRequest,
};

/// If no operators are configured, the route does not exist.
pub(crate) async fn status(
    State(app): State<App>,
    _: CountedRequest,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    if app.authenticator.admin_tokens.is_empty() {
        return Err(ApiError::NoSuchRoute);
    }
    if !app.authenticator.admin_tokens.accept(&headers) {
        return Err(AuthError::Invalid.into());
    }
    let status = if app.engine.is_draining() {
        "draining"
    } else {
        "serving"
    };
    Ok(Json(json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "sessions": app.engine.sessions_count(),
        "connections": app.connection_slots.taken(),
    })))
}
