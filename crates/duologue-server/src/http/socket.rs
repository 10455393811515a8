//! `GET /ws/session/{session_id}`: the handshake. Everything that can be refused is refused here,
//! before the upgrade, with a status that says why.

use axum::{
    Extension,
    extract::{
        Path, Query, State, WebSocketUpgrade, rejection::QueryRejection,
        ws::rejection::WebSocketUpgradeRejection,
    },
    response::Response,
};
use duologue_protocol::{Seq, SessionId};
use serde::Deserialize;
use tracing::Instrument;

use crate::{
    config::Dialect,
    http::{error::ApiError, session::Asking},
    listener::Place,
    server::App,
    socket::Socket,
};

/// The query of the handshake, unchecked.
#[derive(Debug, Deserialize)]
pub(crate) struct Handshake {
    user_id: Option<String>,
    after: Option<String>,
    frames: Option<String>,
}

/// Attaches a reader to the session, then upgrades the connection.
pub(crate) async fn connect(
    State(app): State<App>,
    Extension(place): Extension<Place>,
    Path(session_id): Path<String>,
    query: Result<Query<Handshake>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|_| ApiError::UpgradeRequired)?;
    let Query(query) = query.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    let session_id = SessionId::new(&session_id)?;
    let user = Asking::user(query.user_id.as_deref())?;
    let after = query.after.as_deref().map(position).transpose()?;
    let dialect = query
        .frames
        .as_deref()
        .map_or(Ok(app.socket.frames), dialect)?;
    let reader = app.engine.attach(&session_id, &user, after).await?;
    let socket = Socket::new(reader, dialect, app.socket.clone());
    let span = tracing::info_span!("socket", session.id = %session_id);
    let tasks = app.tasks.clone();
    let limits = &app.socket;
    Ok(upgrade
        // tungstenite's own buffers would cost 130 KiB for each idle socket.
        .read_buffer_size(limits.read_buffer_bytes as usize)
        .write_buffer_size(limits.write_buffer_bytes as usize)
        .max_write_buffer_size(limits.write_buffer_bytes_max as usize)
        .max_message_size(limits.frame_bytes_max as usize)
        .max_frame_size(limits.frame_bytes_max as usize)
        .on_upgrade(move |connection| {
            tasks.track_future(
                async move {
                    socket.run(connection).await;
                    // The place is kept for as long as the socket lives.
                    drop(place);
                }
                .instrument(span),
            )
        }))
}

fn position(after: &str) -> Result<Seq, ApiError> {
    let wrong = |_| ApiError::BadRequest("`after` must be the number of an event, or 0".into());
    after.parse().map(Seq).map_err(wrong)
}

fn dialect(frames: &str) -> Result<Dialect, ApiError> {
    match frames {
        "json" => Ok(Dialect::Json),
        "text" => Ok(Dialect::Text),
        _ => Err(ApiError::BadRequest(
            "`frames` must be `json` or `text`".into(),
        )),
    }
}
