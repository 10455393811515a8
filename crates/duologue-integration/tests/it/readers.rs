//! Several readers of one session: all see everything, all may speak, and a slow one is cut off.

use duologue_integration::TestServer;
use serde_json::json;

#[tokio::test]
async fn every_reader_sees_every_event_and_piece() {
    let server = TestServer::start().await;
    let mut one = server.connect("tabs", "alice").await;
    let mut other = server.connect("tabs", "alice").await;
    other.until("client_connected").await;
    one.send("hello from the first tab").await;
    let (first, second) = (one.answer().await, other.answer().await);
    assert_eq!(first.text, second.text);
    assert_eq!(second.of_type("user_message")[0]["text"], "hello from the first tab");
    other.send("and from the second").await;
    assert_eq!(one.answer().await.of_type("user_message")[0]["text"], "and from the second");
    server.stop().await;
}

#[tokio::test]
async fn one_reader_more_than_the_limit_is_refused_before_the_upgrade() {
    let server = TestServer::builder().set("DUOLOGUE_SESSION__READERS_MAX", "2").start().await;
    let _one = server.connect("crowd", "alice").await;
    let _two = server.connect("crowd", "alice").await;
    let url = server.socket_url("crowd", "?user_id=alice");
    let refused = duologue_integration::Client::try_open(&url).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else {
        panic!("the third reader was let in")
    };
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    server.stop().await;
}

/// A reader that never reads is cut off with the code that means "resume"; the other one gets its
/// whole answer meanwhile.
#[tokio::test]
async fn a_reader_that_does_not_keep_up_is_cut_off_and_the_others_notice_nothing() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SESSION__READER_BYTES_MAX", "262144")
        .set("DUOLOGUE_SOCKET__WRITE_TIMEOUT", "500ms")
        .start()
        .await;
    let mut quick = server.connect("slow", "alice").await;
    let slow = duologue_integration::raw::Handshake::new_for(&server, "slow", "alice").await;
    quick.send("mock:words=300000").await;
    let answer = quick.answer().await;
    assert_eq!(answer.done["finish_reason"], "stop");
    let gone = loop {
        match quick.seen.iter().find(|frame| frame["type"] == "client_disconnected") {
            Some(gone) => break gone.clone(),
            None => drop(quick.receive().await),
        }
    };
    assert_eq!((&gone["connection"], &gone["reason"]), (&json!(2), &json!("slow")));
    drop(slow);
    server.stop().await;
}
