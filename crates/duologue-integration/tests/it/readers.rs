//! Several readers of one session: all see everything, all may speak, and a slow one is cut off.

use duologue_integration::{TestServer, raw::Handshake};
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
    assert_eq!(
        second.of_type("user_message")[0]["text"],
        "hello from the first tab"
    );
    other.send("and from the second").await;
    assert_eq!(
        one.answer().await.of_type("user_message")[0]["text"],
        "and from the second"
    );
    server.stop().await;
}

#[tokio::test]
async fn one_reader_more_than_the_limit_is_refused_before_the_upgrade() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SESSION__READERS_MAX", "2")
        .start()
        .await;
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
/// whole answers meanwhile.
///
/// The kernel's buffers swallow the first megabytes, so answers are asked for until they are full.
#[tokio::test]
async fn a_reader_that_does_not_keep_up_is_cut_off_and_the_others_notice_nothing() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SESSION__READER_FRAMES_MAX", "1000")
        .set("DUOLOGUE_SOCKET__WRITE_TIMEOUT", "300ms")
        .start()
        .await;
    let mut quick = server.connect("slow", "alice").await;
    let slow = Handshake::at_with_small_buffer(server.address(), "slow", "alice").await;
    quick.until("client_connected").await;
    for _ in 0..200 {
        let answer = quick.ask("mock:words=2000").await;
        assert_eq!(answer.done["finish_reason"], "stop");
        let mut gone = quick
            .seen
            .iter()
            .filter(|frame| frame["type"] == "client_disconnected");
        if let Some(gone) = gone.next() {
            assert_eq!(
                (&gone["connection"], &gone["reason"]),
                (&json!(2), &json!("slow"))
            );
            drop(slow);
            server.stop().await;
            return;
        }
    }
    panic!("the reader that never read was never cut off");
}
