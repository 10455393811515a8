//! Several readers of one session: all see everything, all may speak, and a slow one is cut off.

use duologue_integration::{Client, TestServer, process::ServerProcess, raw::Handshake};
use serde_json::json;
use tokio::task::JoinSet;

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

/// A crowd that never reads. Each is cut off with the code that means "resume"; those who read get every
/// answer; and what the process holds for the crowd stays within the limits of a reader's queue
/// (`session.reader_bytes_max`) and of its socket's write buffer (`socket.write_buffer_bytes_max`).
///
/// Messages are as large as they may be, and of what JSON writes in six characters, since the system's own
/// buffers swallow megabytes first.
#[tokio::test]
async fn readers_that_never_read_cost_no_more_than_their_queues_and_write_buffers() {
    const SLOW: u64 = 12;
    const QUEUE_KIB: u64 = 1024;
    const WRITE_BUFFER_KIB: u64 = 1024;
    const WARM: usize = 10;
    const MESSAGES_MAX: usize = 200;
    let settings = [
        ("DUOLOGUE_SESSION__READERS_MAX", "20"),
        ("DUOLOGUE_SESSION__READER_BYTES_MAX", "1048576"),
        ("DUOLOGUE_SOCKET__WRITE_TIMEOUT", "500ms"),
    ];
    let server = ServerProcess::start_with(&settings).await;
    let url = server.socket_url("crowd", "?user_id=alice");
    let (mut quick, mut other) = (Client::open(&url).await, Client::open(&url).await);
    let message = format!("mock:words=1 {}", "\u{1}".repeat(60_000));
    for _ in 0..WARM {
        quick.send(&message).await;
        quick.answer().await;
        other.answer().await;
    }
    let before = server.resident_kib();
    let mut crowd = Vec::new();
    for _ in 0..SLOW {
        let slow = Handshake::at_with_small_buffer(server.address(), "crowd", "alice").await;
        crowd.push(Some(slow));
    }

    let (mut most, mut sent) = (0, WARM);
    let mut leaving = JoinSet::new();
    while leaving.len() < crowd.len() {
        assert!(sent < MESSAGES_MAX, "not all who never read were cut off");
        sent += 1;
        quick.send(&message).await;
        quick.answer().await;
        assert_eq!(other.answer().await.done["finish_reason"], "stop");
        most = most.max(server.resident_kib());
        let first = quick.seen.len().saturating_sub(200);
        for gone in &quick.seen[first..] {
            if gone["type"] != "client_disconnected" {
                continue;
            }
            assert_eq!(gone["reason"], "slow");
            // The first two connections are those that read.
            let number = gone["connection"]
                .as_u64()
                .expect("connections are numbered")
                - 3;
            let index = usize::try_from(number).expect("they are few");
            if let Some(mut slow) = crowd[index].take() {
                leaving.spawn(async move { slow.close_code().await });
            }
        }
    }
    let codes = leaving.join_all().await;
    assert!(codes.iter().all(|code| *code == 4008), "{codes:?}");
    let growth = most.saturating_sub(before);
    assert!(
        growth <= SLOW * (QUEUE_KIB + WRITE_BUFFER_KIB),
        "{growth} KiB for {SLOW} readers"
    );

    let mut back = Client::open(&server.socket_url("crowd", "?user_id=alice&after=0")).await;
    back.until("replayed").await;
    let all = back
        .seen
        .iter()
        .filter(|frame| frame["type"] == "user_message");
    assert_eq!(all.count(), sent);
    server.kill().await;
}
