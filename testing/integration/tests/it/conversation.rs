//! A conversation as users know it: connect, ask, watch the answer come, leave.

use duologue_integration::TestServer;
use serde_json::json;

/// A first visit from beginning to end: the log must hold what the client saw, in
/// the same order, and the summary must follow.
#[tokio::test]
async fn a_person_talks_leaves_and_finds_the_conversation_with_its_summary() {
    let server = TestServer::start().await;
    let mut client = server.connect("first", "alice").await;
    let started = client.receive().await;
    assert_eq!(started["type"], "session_started");
    assert_eq!(
        (
            &started["session_id"],
            &started["user_id"],
            &started["resumed"],
            &started["seq"]
        ),
        (&json!("first"), &json!("alice"), &json!(false), &json!(1))
    );

    let answer = client.ask("What is the weather in Paris?").await;
    assert_eq!(answer.done["finish_reason"], "stop");
    assert_eq!(answer.done["model"], "mock");
    assert!(
        answer.of_type("token").len() > 3,
        "the answer must come in pieces"
    );
    let call = answer.of_type("tool_call")[0];
    assert_eq!(call["name"], "knowledge_base_lookup");
    let result = answer.of_type("tool_result")[0];
    assert_eq!(result["call_id"], call["call_id"]);
    assert!(result["result"].is_object(), "{result}");

    let seen = client.seen.clone();
    client.close(1000).await;
    let facts = server
        .session_until("first", "alice", |session| session["status"] == "completed")
        .await;
    assert_eq!(facts["end_reason"], "closed");
    assert_eq!(facts["summary_status"], "done");
    assert!(facts["duration_seconds"].as_f64().unwrap() >= 0.0);
    assert!(
        facts["summary"].as_str().unwrap().contains("weather"),
        "{facts}"
    );

    // Replaying the log gives what was seen live: the same events, byte for byte.
    let mut again = server.resume("first", "alice", 0).await;
    again.until("replayed").await;
    let events = |frames: &[serde_json::Value]| -> Vec<serde_json::Value> {
        frames
            .iter()
            .filter(|f| {
                f["seq"].is_u64()
                    && !["session_started", "replayed"].contains(&f["type"].as_str().unwrap())
            })
            .cloned()
            .collect()
    };
    let (live, replayed) = (events(&seen), events(&again.seen));
    assert_eq!(live[..], replayed[..live.len()]);
    let after: Vec<_> = replayed[live.len()..]
        .iter()
        .map(|frame| frame["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        after,
        [
            "client_disconnected",
            "session_ended",
            "session_summarized",
            "client_connected"
        ]
    );
    server.stop().await;
}

/// Goal: the order of frames within a turn is part of the protocol.
#[tokio::test]
async fn a_turn_is_told_in_order() {
    let server = TestServer::start().await;
    let mut client = server.connect("order", "alice").await;
    let answer = client.ask("Check order status for order_id=ORD-1001").await;
    let mut types: Vec<_> = answer
        .frames
        .iter()
        .map(|frame| frame["type"].as_str().unwrap().to_owned())
        .collect();
    types.retain(|r#type| !["session_started", "client_connected"].contains(&r#type.as_str()));
    types.dedup();
    assert_eq!(
        types,
        [
            "user_message",
            "start",
            "routed",
            "tool_call",
            "tool_result",
            "token",
            "done"
        ]
    );
    let turn_ids: Vec<_> = answer
        .frames
        .iter()
        .filter_map(|f| f["turn_id"].as_str())
        .collect();
    assert!(turn_ids.iter().all(|id| *id == "turn-1"), "{turn_ids:?}");
    server.stop().await;
}

#[tokio::test]
async fn raw_text_and_both_json_forms_are_messages() {
    let server = TestServer::start().await;
    let mut client = server.connect("forms", "alice").await;
    client.send("hello as raw text").await;
    assert_eq!(
        client.answer().await.of_type("user_message")[0]["text"],
        "hello as raw text"
    );
    client
        .send_json(json!({ "message": "hello as a bare object" }))
        .await;
    let answer = client.answer().await;
    assert_eq!(
        answer.of_type("user_message")[0]["text"],
        "hello as a bare object"
    );
    client
        .send_json(json!({ "type": "message", "message": "with an id", "id": "m1" }))
        .await;
    assert_eq!(client.answer().await.of_type("user_message")[0]["id"], "m1");
    server.stop().await;
}

/// Messages that arrive while a turn runs wait, in order; the queue is bounded and says so.
#[tokio::test]
async fn messages_wait_for_the_running_turn_up_to_a_limit() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SESSION__MESSAGES_QUEUED_MAX", "2")
        .start()
        .await;
    let mut client = server.connect("queue", "alice").await;
    client.send("mock:words=50 mock:stall_at=1 first").await;
    client.until("token").await;
    for text in ["second", "third"] {
        client.send(text).await;
    }
    client
        .send_json(json!({ "message": "fourth", "id": "m4" }))
        .await;
    let refused = client.until("error").await;
    assert_eq!(
        (&refused["code"], &refused["id"]),
        (&json!("busy"), &json!("m4"))
    );
    assert_eq!(refused["retryable"], true);
    client.send_json(json!({ "type": "cancel" })).await;
    client.until("done").await;
    let mut heard = Vec::new();
    for _ in 0..2 {
        let answer = client.answer().await;
        heard.extend(
            answer
                .of_type("user_message")
                .iter()
                .map(|m| m["text"].clone()),
        );
    }
    assert_eq!(heard, ["second", "third"]);
    server.stop().await;
}

/// The stop button: the text so far stays, and the next turn works.
#[tokio::test]
async fn a_cancelled_answer_keeps_its_text_and_the_session_goes_on() {
    let server = TestServer::start().await;
    let mut client = server.connect("cancel", "alice").await;
    client.send("mock:words=50 mock:stall_at=5 please").await;
    while client.until("token").await["index"] != 4 {}
    client.send_json(json!({ "type": "cancel" })).await;
    let done = client.until("done").await;
    assert_eq!(done["finish_reason"], "cancelled");
    assert!(!done["text"].as_str().unwrap().is_empty());
    assert_eq!(client.ask("hello").await.done["finish_reason"], "stop");
    // Nothing runs, so there is nothing to cancel, and no harm in asking.
    client.send_json(json!({ "type": "cancel" })).await;
    client.send_json(json!({ "type": "ping" })).await;
    assert_eq!(client.receive().await["type"], "pong");
    server.stop().await;
}

/// A failing model fails its turn only, with a code and a sentence, and the text so far is kept.
#[tokio::test]
async fn a_failed_turn_says_so_and_the_session_goes_on() {
    let server = TestServer::builder()
        .set("DUOLOGUE_GENERATION__RETRY_DELAY", "1ms")
        .start()
        .await;
    let mut client = server.connect("fail", "alice").await;
    for (directive, code) in [
        ("mock:fail_at=3", "upstream_unavailable"),
        ("mock:refuse", "upstream_refused"),
    ] {
        client.send(&format!("mock:words=20 {directive}")).await;
        let error = client.until("error").await;
        assert_eq!(error["code"], code);
        assert!(error["turn_id"].is_string(), "{error}");
        let done = client.until("done").await;
        assert_eq!(
            (&done["finish_reason"], &done["error"]),
            (&json!("error"), &json!(code))
        );
    }
    assert_eq!(client.ask("hello").await.done["finish_reason"], "stop");
    server.stop().await;
}
