//! Coming back: exactly what was missed, then live.

use duologue_integration::TestServer;
use serde_json::json;

/// The answer goes on while nobody listens; the client that comes back sees it whole, once.
#[tokio::test]
async fn an_answer_survives_a_lost_socket() {
    let server = TestServer::start().await;
    let mut client = server.connect("lost", "alice").await;
    client.send("mock:words=200 mock:delay_ms=5").await;
    client.until("token").await;
    let last_seq = client.last_seq;
    client.vanish();
    let mut client = server.resume("lost", "alice", last_seq).await;
    client.last_seq = last_seq;
    client.until("replayed").await;
    let answer = client.answer().await;
    assert_eq!(answer.done["finish_reason"], "stop");
    assert_eq!(
        answer.done["text"]
            .as_str()
            .unwrap()
            .split_whitespace()
            .count(),
        200
    );
    server.stop().await;
}

/// After a restart, `after` still means the same, and the log is complete.
#[tokio::test]
async fn resuming_after_a_restart_replays_exactly_the_missing_events() {
    let server = TestServer::start().await;
    let mut client = server.connect("restart", "alice").await;
    client.ask("one").await;
    let middle = client.last_seq;
    client.ask("two").await;
    client.vanish();
    let server = server.restart().await;
    let mut client = server.resume("restart", "alice", middle).await;
    client.last_seq = middle;
    let first = client.receive().await;
    assert_eq!(first["resumed"], true);
    client.until("replayed").await;
    assert_eq!(client.seen[1]["type"], "user_message");
    assert_eq!(client.seen[1]["text"], "two");
    server.stop().await;
}

#[tokio::test]
async fn a_position_beyond_the_log_is_named_and_the_reader_starts_live() {
    let server = TestServer::start().await;
    let mut client = server.resume("unknown", "alice", 0).await;
    client.ask("hello").await;
    let mut other = server.resume("unknown", "alice", 10_000).await;
    assert_eq!(other.receive().await["type"], "session_started");
    assert_eq!(other.receive().await["code"], "unknown_position");
    assert_eq!(other.ask("still fine?").await.done["finish_reason"], "stop");
    server.stop().await;
}

/// A server that stops in mid-answer closes the turn as interrupted and tells its readers to come
/// back; the session is not ended by that.
#[tokio::test]
async fn a_restart_in_mid_answer_interrupts_the_turn_and_not_the_session() {
    let server = TestServer::start().await;
    let mut client = server.connect("deploy", "alice").await;
    client.send("mock:words=50 mock:stall_at=3").await;
    while client.until("token").await["index"] != 2 {}
    let told = async {
        assert_eq!(client.until("done").await["finish_reason"], "interrupted");
        assert_eq!(client.until("goaway").await["reason"], "restart");
        assert_eq!(client.until_closed().await.0, 1012);
    };
    let (server, ()) = tokio::join!(server.restart(), told);
    let mut client = server.connect("deploy", "alice").await;
    assert_eq!(client.receive().await["resumed"], true);
    let facts = server
        .session_until("deploy", "alice", |s| s["status"] == "active")
        .await;
    assert_eq!(facts["end_reason"], json!(null));
    server.stop().await;
}
