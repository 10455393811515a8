//! `GET /testing/echo`: a WebSocket for the conformance suite, upgraded and limited like all others.

use axum::{
    extract::{State, WebSocketUpgrade},
    response::Response,
};

use crate::{http::socket::limited, server::App, socket::echo};

/// Upgrades, and sends back what comes.
pub(crate) async fn connect(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    let tasks = app.tasks.clone();
    limited(upgrade, &app.socket)
        .on_upgrade(move |connection| tasks.track_future(echo::run(connection)))
}
