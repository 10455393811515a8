//! `GET /ws/session/{session_id}`: the handshake. Everything that can be refused is refused here,
//! before the upgrade, with a status that says why; but for a client that brings its token later.

use axum::{
    Extension,
    extract::{
        FromRequestParts, Path, Query, Request, State, WebSocketUpgrade,
        rejection::{PathRejection, QueryRejection},
        ws::{WebSocket, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use duologue_engine::SessionIdHash;
use duologue_protocol::{Seq, SessionId};
use serde::Deserialize;
use tracing::Instrument;

use crate::{
    auth::{AuthError, Caller},
    config::{Dialect, SocketConfig},
    gates::PLACE_RETRY_DELAY,
    http::{error::ApiError, gate::Counted},
    listener::Place,
    server::App,
    socket::{Lobby, Socket, Wish},
};

/// The only subprotocol that is ever selected: the one that a token is offered beside, and that says
/// nothing.
const SUBPROTOCOL: &str = "duologue";

/// The query of the handshake, unchecked.
#[derive(Debug, Deserialize)]
pub(crate) struct Handshake {
    user_id: Option<String>,
    after: Option<String>,
    frames: Option<String>,
}

impl Handshake {
    /// What is asked for.
    fn read(self, session_id: &str, usual: Dialect) -> Result<Wish, ApiError> {
        Ok(Wish {
            session_id: SessionId::new(session_id)?,
            claimed: self.user_id.filter(|user_id| !user_id.is_empty()),
            after: self.after.as_deref().map(position).transpose()?,
            dialect: self.frames.as_deref().map_or(Ok(usual), dialect)?,
        })
    }
}

/// Reads a handshake as far as that is possible without a server.
#[cfg(feature = "testing")]
pub(crate) fn read(session_id: &str, uri: &axum::http::Uri) {
    if let Ok(Query(query)) = Query::<Handshake>::try_from_uri(uri) {
        if let Some(user_id) = &query.user_id {
            drop(duologue_protocol::UserId::new(user_id));
        }
        drop(query.read(session_id, Dialect::Json));
    }
}

/// Attaches a reader to the session, then upgrades the connection.
pub(crate) async fn connect(
    State(app): State<App>,
    Counted(client): Counted,
    Extension(mut place): Extension<Place>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Handshake>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|_| ApiError::UpgradeRequired)?;
    if !place.take_for(&app.gates, client.0) {
        return Err(ApiError::TooManyRequests {
            message: "too many connections from this address; try again later",
            wait: PLACE_RETRY_DELAY,
        });
    }
    let (mut parts, _body) = request.into_parts();
    let caller = match Caller::from_request_parts(&mut parts, &app).await {
        Ok(caller) => Some(caller),
        Err(ApiError::Auth(AuthError::Missing)) => None,
        Err(refused) => return Err(refused),
    };
    let (Path(session_id), Query(query)) = (path?, query?);
    let wish = query.read(&session_id, app.socket.frames)?;
    let span = tracing::info_span!("socket", session.id = %SessionIdHash::from(&wish.session_id));
    let Some(caller) = caller else {
        let lobby = Lobby::enter(app.clone(), wish, (client, place.clone()))?;
        return Ok(serve(&app, upgrade, place, span, |connection| {
            lobby.run(connection)
        }));
    };
    let socket = Socket::attach(&app, &wish, caller).await?;
    place.attached();
    Ok(serve(&app, upgrade, place, span, |connection| {
        socket.run(connection)
    }))
}

/// Upgrades the connection, and serves it as one of the server's tasks.
fn serve<F: Future<Output = ()> + Send + 'static>(
    app: &App,
    upgrade: WebSocketUpgrade,
    place: Place,
    span: tracing::Span,
    run: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Response {
    let tasks = app.tasks.clone();
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    limited(upgrade, &app.socket).on_upgrade(move |connection| {
        tasks.track_future(
            async move {
                run(connection).await;
                // The place is kept for as long as the socket lives.
                drop(place);
            }
            .instrument(span),
        )
    })
}

/// Bounds what the connection may send and hold.
pub(crate) fn limited(upgrade: WebSocketUpgrade, limits: &SocketConfig) -> WebSocketUpgrade {
    upgrade
        // tungstenite's own buffers would cost 130 KiB for each idle socket.
        .read_buffer_size(limits.read_buffer_bytes as usize)
        .write_buffer_size(limits.write_buffer_bytes as usize)
        .max_write_buffer_size(limits.write_buffer_bytes_max as usize)
        .max_message_size(limits.frame_bytes_max as usize)
        .max_frame_size(limits.frame_bytes_max as usize)
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
