//! The text dialect: for clients that know only bare tokens and `[END_OF_RESPONSE]`.

use duologue_integration::{Client, TestServer};
use serde_json::Value;

/// Collects pieces until the marker, as such a client would.
async fn collect(client: &mut Client) -> String {
    let mut text = String::new();
    loop {
        match client
            .receive_text()
            .await
            .expect("the answer goes on")
            .as_str()
        {
            "[END_OF_RESPONSE]" => return text,
            piece => text.push_str(piece),
        }
    }
}

/// The plain URL with a server-wide setting: no query, raw text in, bare tokens out.
#[tokio::test]
async fn a_client_that_knows_only_tokens_and_a_marker_works_unchanged() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SOCKET__FRAMES", "text")
        .start()
        .await;
    let mut client = Client::open(&server.socket_url("plain", "")).await;
    let first: Value = serde_json::from_str(&client.receive_text().await.unwrap()).unwrap();
    assert_eq!(
        (&first["type"], &first["user_id"]),
        (&"session_started".into(), &"anonymous".into())
    );
    client.send("hello").await;
    let hello = collect(&mut client).await;
    assert!(!hello.is_empty() && !hello.contains('{'), "{hello}");
    client
        .send(r#"{"message":"What is my account balance?"}"#)
        .await;
    assert!(
        collect(&mut client).await.ends_with('?'),
        "a follow-up is streamed as text"
    );
    client.send("user-1").await;
    assert!(collect(&mut client).await.contains("user-1"));
    server.stop().await;
}

#[tokio::test]
async fn the_query_chooses_the_dialect_for_one_connection() {
    let server = TestServer::start().await;
    let mut text = Client::open(&server.socket_url("both", "?frames=text")).await;
    let mut json = Client::open(&server.socket_url("both", "?frames=json")).await;
    text.receive_text().await.unwrap();
    json.until("client_connected").await;
    json.send("hello").await;
    let answer = json.answer().await;
    assert_eq!(collect(&mut text).await, answer.text);
    server.stop().await;
}

/// A client that waits for the marker gets one in every case, and exactly one.
#[tokio::test]
async fn an_error_is_one_line_before_the_marker() {
    let server = TestServer::builder()
        .set("DUOLOGUE_GENERATION__RETRY_DELAY", "1ms")
        .start()
        .await;
    let mut client = Client::open(&server.socket_url("errors", "?frames=text")).await;
    client.receive_text().await.unwrap();
    client.send(r#"{"type":"shout"}"#).await;
    assert!(
        collect(&mut client)
            .await
            .starts_with("[ERROR] unknown_type: ")
    );
    client.send("mock:refuse").await;
    assert!(
        collect(&mut client)
            .await
            .starts_with("[ERROR] upstream_refused: ")
    );
    client.send("hello").await;
    assert!(!collect(&mut client).await.contains("[ERROR]"));
    server.stop().await;
}
