//! `GET /testing/echo`: a WebSocket for the conformance suite, with the limits of all others.

use axum::{
    Extension,
    extract::{State, WebSocketUpgrade},
    response::Response,
};

use crate::{app::App, http::socket::limited, shared_stream::SharedStream, socket::echo};

/// Upgrades the connection and sends back every message.
pub(crate) async fn connect(
    State(app): State<App>,
    Extension(raw): Extension<SharedStream>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let tasks = app.tasks.clone();
    limited(upgrade, &app.socket)
        .on_upgrade(move |connection| tasks.track_future(echo::run(connection, raw)))
}
