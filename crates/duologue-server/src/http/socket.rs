//! `GET /ws/session/{session_id}`: the handshake. Requests are refused before the upgrade, with a
//! status that says why; only a client without a token is upgraded first, and authenticates then.

use axum::{
    Extension,
    extract::{
        FromRequestParts, Path, Request, State, WebSocketUpgrade,
        rejection::PathRejection,
        ws::{WebSocket, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use tracing::Instrument;

use crate::{
    api_error::ApiError,
    app::App,
    auth::{AuthError, Caller},
    config::SocketConfig,
    connection_limits::SLOT_RETRY_DELAY,
    http::{counted_request::CountedRequest, request_span::record_session},
    listener::ConnectionSlot,
    query::Parameters,
    shared_stream::SharedStream,
    socket::{AttachRequest, AttachedSocket, PendingAuth},
};

/// The only subprotocol that the server selects. Clients offer it together with a token.
const SUBPROTOCOL: &str = "duologue";

/// Reads a handshake as far as that is possible without a server.
#[cfg(feature = "testing")]
pub(crate) fn read(session_id: &str, uri: &axum::http::Uri) {
    if let Ok(parameters) = Parameters::read(uri)
        && let Ok(request) =
            AttachRequest::read(session_id, &parameters, crate::config::Dialect::Json)
        && let Some(user_id) = request.claimed
    {
        drop(duologue_protocol::UserId::new(&user_id));
    }
}

/// Attaches a reader to the session, then upgrades the connection.
pub(crate) async fn connect(
    State(app): State<App>,
    CountedRequest(client): CountedRequest,
    Extension(mut slot): Extension<ConnectionSlot>,
    Extension(raw): Extension<SharedStream>,
    path: Result<Path<String>, PathRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|_| ApiError::UpgradeRequired)?;
    if !slot.count_for(&app.limits, client.0) {
        return Err(ApiError::TooManyRequests {
            message: "too many connections from this address; try again later",
            wait: SLOT_RETRY_DELAY,
        });
    }
    let (mut parts, _body) = request.into_parts();
    let caller = match Caller::from_request_parts(&mut parts, &app).await {
        Ok(caller) => Some(caller),
        Err(ApiError::Auth(AuthError::Missing)) => None,
        Err(refused) => return Err(refused),
    };
    let Path(session_id) = path?;
    let parameters = Parameters::read(&parts.uri)?;
    let request = AttachRequest::read(&session_id, &parameters, app.socket.frames)?;
    record_session(&request.session_id);
    // A child of the request's span, which has the ids of the request and the session.
    let span = tracing::info_span!("socket");
    let Some(caller) = caller else {
        let pending = PendingAuth::new(app.clone(), request, client, slot.clone())?;
        let pending = Box::new(pending);
        return Ok(serve(&app, upgrade, slot, span, |connection| {
            pending.run(connection, raw)
        }));
    };
    let socket = Box::new(AttachedSocket::attach(&app, &request, caller).await?);
    slot.attached();
    Ok(serve(&app, upgrade, slot, span, |connection| {
        socket.run(connection, raw)
    }))
}

/// Upgrades the connection, and serves it as one of the server's tasks.
///
/// An idle connection only waits in its task, for hours. So what is passed on is boxed: a future that owned it
/// would have room for it twice.
fn serve<F: Future<Output = ()> + Send + 'static>(
    app: &App,
    upgrade: WebSocketUpgrade,
    slot: ConnectionSlot,
    span: tracing::Span,
    run: impl FnOnce(Box<WebSocket>) -> F + Send + 'static,
) -> Response {
    let tasks = app.tasks.clone();
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    limited(upgrade, &app.socket).on_upgrade(move |connection| {
        let served = run(Box::new(connection));
        tasks.track_future(
            async move {
                served.await;
                // The slot is taken for as long as the socket is open.
                drop(slot);
            }
            .instrument(span),
        )
    })
}

/// Limits what the connection may send and buffer.
pub(crate) fn limited(upgrade: WebSocketUpgrade, limits: &SocketConfig) -> WebSocketUpgrade {
    upgrade
        // tungstenite's default buffers would cost 130 KiB for each idle socket.
        .read_buffer_size(limits.read_buffer_bytes as usize)
        .write_buffer_size(limits.write_buffer_bytes as usize)
        .max_write_buffer_size(limits.write_buffer_bytes_max as usize)
        .max_message_size(limits.frame_bytes_max as usize)
        .max_frame_size(limits.frame_bytes_max as usize)
}
