//! Who users are, and that nobody else is taken for them.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test may fail it as the test itself may"
)]

mod accounts;
mod admin;
mod chat;
mod corpus;
mod failures;
mod keys;
mod live;
mod matrix;
mod secrecy;
mod startup;
mod ways;

use duologue_integration::{
    Client, ServerBuilder, TestServer,
    issuer::{AUDIENCE, Issuer, SigningKey},
    server::http,
};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

/// A secret that is long enough.
const SECRET: &str = "a secret of the test's own, longer than 32 bytes";

/// A server that asks for tokens of this issuer.
fn by_keys(issuer: &Issuer) -> ServerBuilder {
    TestServer::builder()
        .set("DUOLOGUE_AUTH__MODE", "jwt")
        .set("DUOLOGUE_AUTH__JWKS_URL", &issuer.jwks_url())
        .set("DUOLOGUE_AUTH__ISSUER", &issuer.name())
        .set("DUOLOGUE_AUTH__AUDIENCE", AUDIENCE)
}

/// An issuer with one key, and a server that asks for its tokens.
async fn scene() -> (SigningKey, Issuer, TestServer) {
    let key = SigningKey::es256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let server = by_keys(&issuer).start().await;
    (key, issuer, server)
}

/// The status and the body of a request for a session, with this token if there is one.
async fn get(server: &TestServer, path: &str, token: Option<&str>) -> (u16, serde_json::Value) {
    let mut request = http().get(server.url(path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.expect("the server answers");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

/// Connects with these headers. The error is the status of the refusal.
async fn connect(
    server: &TestServer,
    session: &str,
    query: &str,
    headers: &[(&'static str, &str)],
) -> Result<Client, u16> {
    let url = server.socket_url(session, query);
    let mut request = url.into_client_request().expect("the URL is right");
    for (name, value) in headers {
        let value = value.parse().expect("the value is right");
        request.headers_mut().append(*name, value);
    }
    match Client::try_open_with(request).await {
        Ok(client) => Ok(client),
        Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

/// Connects with a token in `Authorization`.
async fn connect_as(server: &TestServer, session: &str, token: &str) -> Result<Client, u16> {
    let bearer = format!("Bearer {token}");
    connect(server, session, "", &[("authorization", &bearer)]).await
}
