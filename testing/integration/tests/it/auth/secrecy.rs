//! Tokens are nowhere to be found once they have been looked at.

use duologue_integration::{
    Client,
    issuer::{AUDIENCE, Issuer, SigningKey},
    process::ServerProcess,
    server::install_crypto,
};
use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::SECRET;

/// Goal: the log holds no token, good or bad, however it came, and not the secret that they are checked
/// by. Method: one of each, in each way, at the finest level of our own log and of what we build on.
#[tokio::test]
async fn no_token_and_no_secret_reaches_the_log() {
    install_crypto();
    let issuer = Issuer::start(&[]).await;
    let server = ServerProcess::start_with(&[
        ("DUOLOGUE_AUTH__MODE", "jwt"),
        ("DUOLOGUE_AUTH__ISSUER", &issuer.name()),
        ("DUOLOGUE_AUTH__AUDIENCE", AUDIENCE),
        ("DUOLOGUE_AUTH__QUERY_TOKEN", "true"),
        ("SUPABASE_JWT_SECRET", SECRET),
        ("DUOLOGUE_LOG__FILTER", "trace"),
    ])
    .await;
    let good = SigningKey::hs256(SECRET.as_bytes()).sign(&issuer.claims("alice"));
    let bad = SigningKey::hs256(b"somebody else's secret").sign(&issuer.claims("mallory"));
    for token in [&good, &bad] {
        let bearer = format!("Bearer {token}");
        let offered = format!("duologue, duologue.bearer.{token}");
        for (name, value) in [
            ("authorization", bearer),
            ("sec-websocket-protocol", offered),
        ] {
            let url = server.socket_url("s", "");
            let mut request = url.into_client_request().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
            let is_in = Client::try_open_with(request).await.is_ok();
            assert_eq!(is_in, token == &good, "by {name}");
        }
        let query = format!("?token={token}");
        let is_in = Client::try_open(&server.socket_url("s", &query)).await;
        assert_eq!(is_in.is_ok(), token == &good, "by the query");
        let mut late = Client::open(&server.socket_url("s", "")).await;
        late.until("auth_required").await;
        late.send_json(json!({ "type": "auth", "token": token }))
            .await;
        if token == &good {
            late.until("auth_ok").await;
            // And again on the live socket.
            late.send_json(json!({ "type": "auth", "token": bad }))
                .await;
            late.until("error").await;
        } else {
            late.until_closed().await;
        }
    }
    let log = server.log_up_to_now().await;
    let command_line = server.proc_file("cmdline");
    server.kill().await;
    assert!(log.contains("token.refused"), "this log tells of nothing");
    let parts = [&good, &bad].map(|token| token.split('.').skip(1).collect::<Vec<_>>());
    for secret in parts.concat().into_iter().chain([SECRET]) {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log tells a secret");
        assert!(!command_line.contains(secret));
    }
}
