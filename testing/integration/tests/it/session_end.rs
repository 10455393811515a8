//! How sessions end: at once, after the grace, for idleness; and how they open again.

use duologue_integration::{Client, TestServer};
use serde_json::{Value, json};

fn completed(session: &Value) -> bool {
    session["status"] == "completed"
}

#[tokio::test]
async fn an_end_frame_ends_the_session_and_closes_every_reader() {
    let server = TestServer::start().await;
    let mut one = server.connect("end", "alice").await;
    let mut other = server.connect("end", "alice").await;
    one.ask("hello").await;
    one.send_json(json!({ "type": "end" })).await;
    for client in [&mut one, &mut other] {
        assert_eq!(client.until("session_ended").await["reason"], "requested");
        assert_eq!(
            client.until_closed().await,
            (1000, "session ended".to_owned())
        );
    }
    let facts = server.session_until("end", "alice", completed).await;
    assert_eq!(facts["end_reason"], "requested");
    server.stop().await;
}

/// Ending in the middle of an answer closes the turn first: every message gets its end.
#[tokio::test]
async fn an_end_in_mid_answer_closes_the_turn_before_the_session() {
    let server = TestServer::start().await;
    let mut client = server.connect("mid", "alice").await;
    client.send("mock:words=50 mock:stall_at=2").await;
    client.until("token").await;
    client.send_json(json!({ "type": "end" })).await;
    assert_eq!(client.until("done").await["finish_reason"], "cancelled");
    assert_eq!(client.receive().await["type"], "session_ended");
    server.stop().await;
}

/// Any close but 1000 may be a network's doing, so the session waits for its user.
#[tokio::test]
async fn a_lost_socket_ends_the_session_only_after_the_grace() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SESSION__RESUME_GRACE", "300ms")
        .start()
        .await;
    let mut client = server.connect("grace", "alice").await;
    client.ask("hello").await;
    client.vanish();
    // A reader that comes back in time cancels the grace; the session is the same.
    let mut client = server.connect("grace", "alice").await;
    let first = client.receive().await;
    assert_eq!(
        (&first["resumed"], &first["type"]),
        (&json!(true), &json!("session_started"))
    );
    client.close(1001).await;
    let facts = server.session_until("grace", "alice", completed).await;
    assert_eq!(facts["end_reason"], "abandoned");
    server.stop().await;
}

#[tokio::test]
async fn a_user_who_says_nothing_for_too_long_is_let_go() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SESSION__IDLE_TIMEOUT", "200ms")
        .start()
        .await;
    let mut client = server.connect("idle", "alice").await;
    assert_eq!(client.until("session_ended").await["reason"], "idle");
    assert_eq!(client.until_closed().await.0, 1000);
    server.stop().await;
}

/// A session in which nobody said anything is summarised without asking a model.
#[tokio::test]
async fn an_empty_session_is_completed_without_a_model() {
    let server = TestServer::start().await;
    server.connect("empty", "alice").await.close(1000).await;
    let facts = server.session_until("empty", "alice", completed).await;
    assert_eq!(facts["summary"], "- Nothing was said.");
    server.stop().await;
}

/// Connecting again reopens; the next end summarises the whole.
#[tokio::test]
async fn a_session_is_reopened_by_its_user_and_ends_again() {
    let server = TestServer::start().await;
    let mut client = server.connect("again", "alice").await;
    client.ask("What about pricing?").await;
    client.close(1000).await;
    server.session_until("again", "alice", completed).await;

    let mut client = server.connect("again", "alice").await;
    assert_eq!(client.receive().await["resumed"], true);
    assert_eq!(client.until("client_connected").await["reopened"], true);
    let facts = server
        .session_until("again", "alice", |s| s["status"] == "active")
        .await;
    assert_eq!(
        (&facts["end_time"], &facts["end_reason"]),
        (&Value::Null, &Value::Null)
    );
    client.ask("What is the weather?").await;
    client.close(1000).await;
    let facts = server.session_until("again", "alice", completed).await;
    let summary = facts["summary"].as_str().unwrap();
    assert!(
        summary.contains("pricing") && summary.contains("weather"),
        "{summary}"
    );
    server.stop().await;
}

/// Another user's session looks like none at all, on every route.
#[tokio::test]
async fn a_session_belongs_to_its_first_user() {
    let server = TestServer::start().await;
    let mut client = server.connect("mine", "alice").await;
    client.ask("hello").await;
    let refused = Client::try_open(&server.socket_url("mine", "?user_id=mallory")).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else {
        panic!("mallory was let in")
    };
    assert_eq!(response.status(), 404);
    let url = server.url("/v1/sessions/mine?user_id=mallory");
    let foreign = duologue_integration::server::http()
        .get(url)
        .send()
        .await
        .unwrap();
    assert_eq!(foreign.status(), 404);
    assert_eq!(
        client.ask("hello again").await.done["finish_reason"],
        "stop"
    );
    server.stop().await;
}
