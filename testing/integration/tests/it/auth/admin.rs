//! What is for operators only.

use duologue_integration::{TestServer, process::run_to_end};
use serde_json::json;

use super::{by_keys, get, scene};

const PATH: &str = "/v1/admin/status";

/// A token and its hash, as an operator gets them.
async fn made() -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = run_to_end(folder.path(), &["admin-token"], &[]).await;
    let output = String::from_utf8(output.stdout).unwrap();
    let word = |name: &str| {
        let mut lines = output.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().unwrap().trim().to_owned()
    };
    (word("token"), word("hash"))
}

#[tokio::test]
async fn the_status_is_for_operators_and_does_not_exist_where_there_are_none() {
    let (token, hash) = made().await;
    let server = TestServer::start().await;
    assert_eq!(get(&server, PATH, Some(&token)).await.0, 404);
    server.stop().await;

    let server = TestServer::builder()
        .set("DUOLOGUE_AUTH__ADMIN_TOKENS", &hash)
        .start()
        .await;
    for wrong in [
        None,
        Some("x"),
        Some(hash.as_str()),
        Some("duologue_admin_"),
    ] {
        let (status, body) = get(&server, PATH, wrong).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (401, &"unauthorized".into())
        );
    }
    let mut client = server.connect("s", "alice").await;
    client.until("session_started").await;
    let (status, facts) = get(&server, PATH, Some(&token)).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&facts["status"], &facts["sessions"]),
        (&json!("serving"), &json!(1))
    );
    assert!(facts["connections"].as_u64().unwrap() >= 2, "{facts}");
    server.stop().await;
}

/// Neither is a user by the token of the other.
#[tokio::test]
async fn users_are_no_operators_and_operators_no_users() {
    let (token, hash) = made().await;
    let (key, issuer, _) = scene().await;
    let server = by_keys(&issuer)
        .set("DUOLOGUE_AUTH__ADMIN_TOKENS", &hash)
        .start()
        .await;
    let user = key.sign(&issuer.claims("alice"));
    assert_eq!(get(&server, PATH, Some(&user)).await.0, 401);
    assert_eq!(get(&server, "/v1/sessions/s", Some(&token)).await.0, 401);
    server.stop().await;
}
