//! Messages that come while a turn runs, over real sockets and on a real database.

use duologue_integration::{Client, TestServer, process::ServerProcess};
use duologue_llm::testing::{RequestStatus, Script, ScriptedUpstream};
use serde_json::{Value, json};

/// Starts an answer that never ends, and waits for a piece of it.
async fn keep_busy(client: &mut Client) {
    let text = "mock:words=50 mock:stall_at=3";
    client
        .send_json(json!({ "message": text, "id": "m1" }))
        .await;
    while client.until("token").await["index"] != 2 {}
}

/// Killed while two messages wait, the server answers both after its next start, in their order and
/// each once.
#[tokio::test]
async fn messages_that_wait_survive_the_death_of_the_server() {
    let server = ServerProcess::start().await;
    let mut client = Client::open(&server.socket_url("queue", "?user_id=alice")).await;
    keep_busy(&mut client).await;
    let mut receipts = Vec::new();
    for (id, text) in [("m2", "mock:words=2"), ("m3", "mock:words=3")] {
        client.send_json(json!({ "message": text, "id": id })).await;
        let receipt = client.until("message_queued").await;
        assert_eq!(receipt["id"], id);
        receipts.push(receipt);
    }
    let last_seq = client.last_seq;

    let server = server.kill_and_restart().await;
    let query = format!("?user_id=alice&after={last_seq}");
    let mut client = Client::open(&server.socket_url("queue", &query)).await;
    client.last_seq = last_seq;
    assert_eq!(client.until("done").await["finish_reason"], "interrupted");
    for (receipt, words) in receipts.iter().zip([2, 3]) {
        let said = client.until("user_message").await;
        assert_eq!(said["queued_seq"], receipt["seq"]);
        assert_eq!(
            (&said["id"], &said["text"]),
            (&receipt["id"], &receipt["text"])
        );
        let answer = client.answer().await;
        assert_eq!(answer.done["finish_reason"], "stop");
        assert_eq!(answer.text.split_whitespace().count(), words);
    }
    // Sending again what was acknowledged before the kill brings what there is of it, and no turn.
    client
        .send_json(json!({ "message": "mock:words=2", "id": "m2" }))
        .await;
    let mut again: Vec<Value> = Vec::new();
    for _ in 0..3 {
        let text = client.receive_text().await.unwrap();
        again.push(serde_json::from_str(&text).unwrap());
    }
    assert_eq!(again[0], receipts[0]);
    let types: Vec<_> = again.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(types, ["message_queued", "user_message", "done"]);
    server.kill().await;
}

/// The upstream connection of the interrupted turn is closed at once; what came over it is kept.
#[tokio::test]
async fn a_message_that_interrupts_closes_the_upstream_connection() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::stream().say("one ").say("two ").stall());
    upstream.will_say("Something else.");
    let server = TestServer::builder()
        .set("OPENAI_API_KEY", "sk-test")
        .set("OPENAI_BASE_URL", &upstream.base_url())
        .start()
        .await;
    let mut client = server.connect("interrupt", "alice").await;
    client.send("count").await;
    while client.until("token").await["index"] != 1 {}
    client
        .send_json(json!({ "message": "no, something else", "on_busy": "interrupt" }))
        .await;
    let done = client.until("done").await;
    assert_eq!(
        (&done["finish_reason"], &done["text"]),
        (&json!("cancelled"), &json!("one two "))
    );
    upstream
        .wait_for_status(1, RequestStatus::ClosedByClient)
        .await;
    assert_eq!(client.answer().await.text, "Something else.");
    assert_eq!(upstream.requests().len(), 2);
    server.stop().await;
}

/// The server's setting is for those who do not say what they want.
#[tokio::test]
async fn the_setting_decides_where_the_message_does_not() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SESSION__ON_BUSY", "reject")
        .start()
        .await;
    let mut client = server.connect("setting", "alice").await;
    keep_busy(&mut client).await;
    client
        .send_json(json!({ "message": "hello", "id": "m2" }))
        .await;
    let error = client.until("error").await;
    assert_eq!(
        (&error["code"], &error["id"], &error["retryable"]),
        (&json!("busy"), &json!("m2"), &json!(true))
    );
    client
        .send_json(json!({ "message": "hello", "id": "m2", "on_busy": "queue" }))
        .await;
    assert_eq!(client.until("message_queued").await["id"], "m2");
    client
        .send_json(json!({ "message": "hello", "id": "m3", "on_busy": "later" }))
        .await;
    let error = client.until("error").await;
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("bad_request"), &json!("m3"))
    );
    client.send_json(json!({ "type": "end" })).await;
    assert_eq!(client.until_closed().await.0, 1000);
    server.stop().await;
}
