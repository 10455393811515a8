//! `/healthz` and `/readyz`: liveness and readiness.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde_json::json;

use crate::app::App;

/// If the store takes longer, the server is not ready.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /healthz`: the process is alive. It does not check the store: an outage of the store is no
/// reason to restart the server.
pub(crate) async fn alive() -> impl IntoResponse {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// `GET /readyz`: the server can serve new sessions, for which it needs the store.
pub(crate) async fn ready(State(app): State<App>) -> impl IntoResponse {
    let reason = if app.engine.is_draining() {
        "shutting_down"
    } else {
        match tokio::time::timeout(STORE_TIMEOUT, app.engine.ping()).await {
            Ok(Ok(())) => return (StatusCode::OK, Json(json!({ "status": "ready" }))),
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "readiness.store_failed"
                );
                "storage_unavailable"
            }
            Err(_elapsed) => "storage_unavailable",
        }
    };
    let body = json!({ "status": "unavailable", "reason": reason });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body))
}
