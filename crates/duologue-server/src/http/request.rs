//! What every request bears while it is handled: a name of its own, and where it comes from.

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tracing::Instrument;
use uuid::Uuid;

use crate::{http::client_address::ClientAddress, listener::Peer, server::App};

/// Tells the client under which name to find its request in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names the request in the log and in the response, and makes the client's address known to
/// everything within, as an extension.
pub(crate) async fn enter(
    State(app): State<App>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = ClientAddress::of(peer.ip(), request.headers(), &app.proxies_trusted);
    request.extensions_mut().insert(client);
    let id = request_id();
    // Neither path nor query: they hold the ids of sessions and users.
    let span = tracing::info_span!("request", request.id = %id, client.address = %client);
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

#[expect(
    clippy::disallowed_methods,
    reason = "it only has to differ from all others, and nothing is decided by it"
)]
fn request_id() -> String {
    Uuid::now_v7().simple().to_string()
}
