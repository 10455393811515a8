//! Malformed and hostile frames: each has its named outcome, and the connection's fate is as
//! `docs/protocol.md` says.

use duologue_integration::TestServer;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Every refused frame gets its code, and the connection goes on working.
#[tokio::test]
async fn a_wrong_frame_is_refused_by_name_and_the_connection_stays() {
    let server = TestServer::start().await;
    let mut client = server.connect("wrong", "alice").await;
    let deep = format!(r#"{{"message":{}"#, "[".repeat(10_000));
    let cases = [
        (r#"{"message":"cut off"#, "bad_request"),
        (r#"{"message":["an","array"]}"#, "bad_request"),
        (r#"{"message":42}"#, "bad_request"),
        (r#"{"message":"\ud800"}"#, "bad_request"),
        (r#"{"message":"hi","id":7}"#, "bad_request"),
        (r#"{"type":7}"#, "bad_request"),
        (r#"{"type":"auth"}"#, "bad_request"),
        (r#"{"type":"auth","token":"t"}"#, "unsupported"),
        (r#"{"type":"shout"}"#, "unknown_type"),
        (r#"{"message":"  "}"#, "empty_message"),
        ("", "empty_message"),
        ("   ", "empty_message"),
        (deep.as_str(), "bad_request"),
    ];
    for (frame, code) in cases {
        client.send(frame).await;
        let error = client.until("error").await;
        assert_eq!(error["code"], code, "{frame:.60}");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    client
        .send_message(Message::Binary(Bytes::from_static(b"\x00\x01")))
        .await;
    assert_eq!(client.until("error").await["code"], "binary_unsupported");
    assert_eq!(
        client.ask("still there?").await.done["finish_reason"],
        "stop"
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_object_of_ours_is_a_message_as_it_is() {
    let server = TestServer::start().await;
    let mut client = server.connect("raw", "alice").await;
    let deep = "[".repeat(10_000);
    for frame in [
        "[1,2,3]",
        "42",
        "\"quoted\"",
        r#"{"hello":"world"}"#,
        "{broken",
        &deep,
    ] {
        client.send(frame).await;
        assert_eq!(
            client.answer().await.of_type("user_message")[0]["text"],
            frame
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_nul_is_replaced_before_it_is_stored() {
    let server = TestServer::start().await;
    let mut client = server.connect("nul", "alice").await;
    client.send("a\0b").await;
    assert_eq!(
        client.answer().await.of_type("user_message")[0]["text"],
        "a\u{fffd}b"
    );
    client.send(r#"{"message":"c\u0000d"}"#).await;
    assert_eq!(
        client.answer().await.of_type("user_message")[0]["text"],
        "c\u{fffd}d"
    );
    server.stop().await;
}

/// 64 KiB is the limit: what fits is taken, one byte more closes with 1009, and the session lives.
#[tokio::test]
async fn a_message_over_the_limit_closes_the_connection_and_not_the_session() {
    let server = TestServer::start().await;
    let mut client = server.connect("large", "alice").await;
    let fits = "x".repeat(65_536);
    client.send(&fits).await;
    let answer = client.answer().await;
    assert_eq!(
        answer.of_type("user_message")[0]["text"]
            .as_str()
            .unwrap()
            .len(),
        65_536
    );
    client.send(&"x".repeat(65_537)).await;
    let (code, reason) = client.until_closed().await;
    assert_eq!((code, reason.as_str()), (1009, "message too big"));
    let mut client = server.connect("large", "alice").await;
    assert_eq!(client.receive().await["resumed"], true);
    server.stop().await;
}

/// Goal: a client learns why it was closed, however much it sends. Method: a message far above the limit is
/// written completely before anything is read. A socket that is closed with unread input is reset, which
/// would discard the close frame.
#[tokio::test]
async fn a_message_far_over_the_limit_is_answered_by_its_close_code() {
    use tokio::io::AsyncWriteExt;
    const BYTES: usize = 8 * 1024 * 1024;
    let server = TestServer::start().await;
    for attempt in 0..5 {
        let mut raw = duologue_integration::raw::Handshake::new(&server, "far").await;
        // A masked text frame with a length of 64 bits, and a mask of zeros.
        let mut frame = vec![0x81, 0xff];
        frame.extend((BYTES as u64).to_be_bytes());
        frame.extend([0; 4]);
        frame.resize(frame.len() + BYTES, b'x');
        let written = raw.stream.write_all(&frame).await;
        assert!(written.is_ok(), "attempt {attempt}: {written:?}");
        assert_eq!(raw.close_code().await, 1009, "attempt {attempt}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_first_frame_states_the_largest_message() {
    let server = TestServer::start().await;
    for _new_and_resumed in 0..2 {
        let mut client = server.connect("stated", "alice").await;
        let first = client.receive().await;
        assert_eq!(first["type"], "session_started");
        assert_eq!(first["message_bytes_max"], 65_536);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_same_id_is_stored_once_and_another_text_under_it_is_refused() {
    let server = TestServer::start().await;
    let mut client = server.connect("twice", "alice").await;
    let message = json!({ "type": "message", "message": "once", "id": "m1" });
    client.send_json(message.clone()).await;
    let answer = client.answer().await;
    client.send_json(message).await;
    let receipt = client.receive_text().await.unwrap();
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(&&receipt, &answer.of_type("user_message")[0]);
    let done: serde_json::Value =
        serde_json::from_str(&client.receive_text().await.unwrap()).unwrap();
    assert_eq!(done, answer.done);
    client
        .send_json(json!({ "message": "another", "id": "m1" }))
        .await;
    assert_eq!(client.until("error").await["code"], "idempotency_mismatch");
    server.stop().await;
}

/// Invalid UTF-8 in a text frame is against the WebSocket protocol itself.
#[tokio::test]
async fn invalid_utf8_closes_with_1007() {
    use tokio::io::AsyncWriteExt;
    let server = TestServer::start().await;
    let mut raw = duologue_integration::raw::Handshake::new(&server, "utf8").await;
    // A masked text frame of one byte, 0xff, with a mask of zeros.
    raw.stream
        .write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff])
        .await
        .unwrap();
    assert_eq!(raw.close_code().await, 1007);
    server.stop().await;
}
