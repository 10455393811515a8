//! A connection lives no longer than its token, and as long as it gets fresh ones.

use duologue_integration::{
    TestServer,
    issuer::{Issuer, SigningKey, now},
};
use serde_json::{Value, json};

use super::{by_keys, connect_as, get};

/// A token of a user that ends so many seconds from now.
fn token(key: &SigningKey, issuer: &Issuer, user: &str, seconds: i64) -> String {
    let mut claims = issuer.claims(user);
    claims["exp"] = json!(now() + seconds);
    key.sign(&claims)
}

/// A server that lets nobody stay a moment longer than their token.
async fn scene() -> (SigningKey, Issuer, TestServer) {
    let key = SigningKey::es256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let server = by_keys(&issuer)
        .set("DUOLOGUE_AUTH__LEEWAY", "0s")
        .set("DUOLOGUE_AUTH__EXPIRY_NOTICE", "60s")
        .start()
        .await;
    (key, issuer, server)
}

fn auth(token: &str) -> Value {
    json!({ "type": "auth", "token": token })
}

#[tokio::test]
async fn an_expiring_token_is_told_of_and_then_closes_the_connection() {
    let (key, issuer, server) = scene().await;
    let short = token(&key, &issuer, "alice", 3);
    let mut client = connect_as(&server, "s", &short).await.unwrap();
    let expiring = client.until("auth_expiring").await;
    assert!(
        expiring["expires_at"].as_str().unwrap().ends_with('Z'),
        "{expiring}"
    );
    let (code, reason) = client.until_closed().await;
    assert_eq!((code, reason.contains("expired")), (4401, true));
    // Tokens count whole seconds, so that the last one is not over yet.
    while connect_as(&server, "s", &short).await.is_ok() {}
    assert_eq!(connect_as(&server, "s", &short).await.err(), Some(401));
    // The session is as after any other loss.
    let fresh = token(&key, &issuer, "alice", 600);
    let (_, facts) = get(&server, "/v1/sessions/s", Some(&fresh)).await;
    assert_eq!(facts["status"], "active");
    let mut client = connect_as(&server, "s", &fresh).await.unwrap();
    assert_eq!(client.until("session_started").await["resumed"], true);
    server.stop().await;
}

/// The connection outlives its first token, and receives a notice before the second expires.
#[tokio::test]
async fn a_fresh_token_keeps_the_connection() {
    let (key, issuer, server) = scene().await;
    let first = token(&key, &issuer, "alice", 4);
    let mut client = connect_as(&server, "s", &first).await.unwrap();
    client.until("auth_expiring").await;
    client
        .send_json(auth(&token(&key, &issuer, "alice", 6)))
        .await;
    let ok = client.until("auth_ok").await;
    assert_eq!(ok["user_id"], "alice");
    let second = client.until("auth_expiring").await;
    assert_eq!(second["expires_at"], ok["expires_at"]);
    assert_eq!(client.until_closed().await.0, 4401);
    let end: jiff::Timestamp = ok["expires_at"].as_str().unwrap().parse().unwrap();
    assert!(now() >= end.as_second(), "not before its time");
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_fresh_token_is_refused_and_changes_nothing() {
    let (key, issuer, server) = scene().await;
    let good = token(&key, &issuer, "alice", 600);
    let mut client = connect_as(&server, "s", &good).await.unwrap();
    let bobs = token(&key, &issuer, "bob", 600);
    let expired = token(&key, &issuer, "alice", -60);
    for (wrong, code) in [
        (&*bobs, "bad_request"),
        (&expired, "unauthorized"),
        ("x", "unauthorized"),
    ] {
        client.send_json(auth(wrong)).await;
        assert_eq!(client.until("error").await["code"], code);
    }
    client.ask("are you still there?").await;
    // A good one forgives the wrong ones before it.
    client.send_json(auth(&good)).await;
    client.until("auth_ok").await;
    for _ in 0..5 {
        client.send_json(auth("x")).await;
        client.until("error").await;
    }
    assert_eq!(client.until_closed().await.0, 4401);
    server.stop().await;
}
