//! The log of the real program: errors with their causes and the ids to find them by.

use std::time::Duration;

use duologue_integration::{
    database_proxy::DatabaseProxy,
    postgres::Cluster,
    process::ServerProcess,
    server::{http, install_crypto},
};
use serde_json::Value;

/// Longer than the test: the database does not respond any more.
const AWAY: Duration = Duration::from_mins(10);

/// Goal: an operator who reads JSON, as in production, finds what was behind an error, and the
/// request and the session it concerns. Method: the store stops responding while a session is read,
/// by HTTP and by a handshake.
#[tokio::test]
async fn an_error_in_json_has_its_causes_its_request_and_its_session() {
    install_crypto();
    let database = Cluster::get().await.database().await;
    let proxy = DatabaseProxy::start(database).await;
    let server = ServerProcess::start_with(&[
        ("DATABASE_URL", &proxy.url()),
        ("DUOLOGUE_STORE__STATEMENT_TIMEOUT", "500ms"),
        ("DUOLOGUE_SESSION__ATTACH_TIMEOUT", "500ms"),
        ("DUOLOGUE_LOG__FORMAT", "json"),
    ])
    .await;
    proxy.delay(AWAY);
    let url = format!("http://{}/v1/sessions/secret-session", server.address());
    let response = http().get(url).send().await.unwrap();
    assert_eq!(response.status(), 503);
    let request_id = response.headers()["x-request-id"].to_str().unwrap();
    let is_logged = |log: &str| log.contains("request.store_failed");
    let log = server.log_until(is_logged).await;
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    let line = lines
        .iter()
        .find(|line| line["message"] == "request.store_failed");
    let line = line.expect("it is the message of a line");
    let error = line["error"].as_str().unwrap();
    let cause = error.split_once(": ").map(|(_, cause)| cause);
    assert!(cause.is_some_and(|cause| !cause.is_empty()), "{line}");
    let span = &line["spans"][0];
    assert_eq!(span["name"], "request", "{line}");
    assert_eq!(span["request.id"], request_id, "{line}");
    assert!(span["session.id"].is_string(), "{line}");
    assert!(!log.contains("secret-session"), "{log}");
    server.kill().await;
}
