//! `GET /v1/admin/status`: how this server is doing, for operators.

use axum::{Json, extract::State, http::HeaderMap};
use serde_json::{Value, json};

use crate::{
    auth::AuthError,
    http::{error::ApiError, gate::Counted},
    server::App,
};

/// Where there are no operators, there is nothing to find here.
pub(crate) async fn status(
    State(app): State<App>,
    _: Counted,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    if app.auth.admin.is_empty() {
        return Err(ApiError::NoSuchRoute);
    }
    if !app.auth.admin.admit(&headers) {
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
        "connections": app.places.taken(),
    })))
}
