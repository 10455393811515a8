//! The span of a request: its id and the client's address.

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use duologue_engine::SessionIdHash;
use duologue_protocol::SessionId;
use tracing::Instrument;
use uuid::Uuid;

use crate::{app::App, client_address::ClientAddress, listener::PeerAddress};

/// Returns the id of the request, by which it can be found in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Assigns an id to the request, for the log and the response, and adds the client's address to the
/// request as an extension.
pub(crate) async fn enter(
    State(app): State<App>,
    Extension(PeerAddress(peer)): Extension<PeerAddress>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = ClientAddress::of(peer.ip(), request.headers(), &app.proxies_trusted);
    request.extensions_mut().insert(client);
    let id = request_id();
    // No path and no query: they contain the ids of sessions and users.
    let span = tracing::info_span!(
        "request",
        request.id = %id,
        client.address = %client,
        session.id = tracing::field::Empty,
    );
    let mut response = async {
        let method = request.method().clone();
        let response = next.run(request).await;
        tracing::debug!(%method, status = response.status().as_u16(), "request.answered");
        response
    }
    .instrument(span)
    .await;
    let id = HeaderValue::from_str(&id).expect("hexadecimal digits fit into a header");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Adds the session of the current request to its span, as a hash.
pub(crate) fn record_session(session_id: &SessionId) {
    let hash = SessionIdHash::from(session_id);
    tracing::Span::current().record("session.id", tracing::field::display(hash));
}

#[expect(
    clippy::disallowed_methods,
    reason = "an id of a request only has to be unique; no decision depends on it"
)]
fn request_id() -> String {
    Uuid::now_v7().simple().to_string()
}
