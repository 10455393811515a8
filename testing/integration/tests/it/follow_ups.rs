//! Follow-ups: the agent asks for what a tool lacks, across turns, connections and restarts.

use duologue_integration::{Client, TestServer};

async fn asks(client: &mut Client, text: &str, missing: &[&str]) -> String {
    let answer = client.ask(text).await;
    assert_eq!(
        answer.done["finish_reason"], "follow_up",
        "{:#?}",
        answer.frames
    );
    let follow_up = answer.of_type("follow_up")[0];
    assert_eq!(
        follow_up["missing"],
        serde_json::json!(missing),
        "{follow_up}"
    );
    assert_eq!(
        follow_up["question"],
        answer.text.as_str(),
        "the question is the answer's text"
    );
    assert_eq!(answer.done["model"], "none", "a question needs no model");
    answer.text
}

async fn calls(client: &mut Client, text: &str, tool: &str, argument: &str) -> String {
    let answer = client.ask(text).await;
    let calls = answer.of_type("tool_call");
    assert_eq!(calls.len(), 1, "{:#?}", answer.frames);
    assert_eq!(calls[0]["name"], tool);
    assert!(
        calls[0]["arguments"].to_string().contains(argument),
        "{}",
        calls[0]
    );
    assert_eq!(answer.done["finish_reason"], "stop");
    answer.text
}

#[tokio::test]
async fn a_balance_is_told_once_the_user_id_is_known() {
    let server = TestServer::start().await;
    let mut client = server.connect("balance", "alice").await;
    asks(&mut client, "What is my account balance?", &["user_id"]).await;
    let text = calls(
        &mut client,
        "My user_id is user-1",
        "fetch_account_balance",
        "user-1",
    )
    .await;
    assert!(text.contains("user-1"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn an_order_is_looked_up_at_once_and_corrected_later() {
    let server = TestServer::start().await;
    let mut client = server.connect("orders", "alice").await;
    let text = "Check order status for order_id=ORD-1001";
    calls(&mut client, text, "fetch_order_status", "ORD-1001").await;
    calls(
        &mut client,
        "no, ORD-1002",
        "fetch_order_status",
        "ORD-1002",
    )
    .await;
    let text = calls(
        &mut client,
        "Order status of ORD-9999?",
        "fetch_order_status",
        "ORD-9999",
    );
    assert!(
        text.await.contains("ORD-9999"),
        "an unknown order gets a sensible answer"
    );
    server.stop().await;
}

#[tokio::test]
async fn never_mind_drops_the_question() {
    let server = TestServer::start().await;
    let mut client = server.connect("never-mind", "alice").await;
    asks(&mut client, "What is my account balance?", &["user_id"]).await;
    let answer = client.ask("never mind").await;
    assert!(answer.of_type("tool_call").is_empty() && answer.of_type("follow_up").is_empty());
    // The question is gone: its answer is now just a message.
    assert!(client.ask("user-1").await.of_type("tool_call").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_different_request_in_between_is_answered_and_drops_the_question() {
    let server = TestServer::start().await;
    let mut client = server.connect("between", "alice").await;
    asks(&mut client, "What is my account balance?", &["user_id"]).await;
    calls(
        &mut client,
        "What is the weather like?",
        "knowledge_base_lookup",
        "weather",
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn two_missing_parameters_are_asked_for_until_both_are_there() {
    let server = TestServer::start().await;
    let mut client = server.connect("invoice", "alice").await;
    asks(&mut client, "Show my invoice", &["user_id", "month"]).await;
    asks(&mut client, "user-1", &["month"]).await;
    calls(&mut client, "2026-10", "fetch_invoice", "2026-10").await;
    server.stop().await;
}

#[tokio::test]
async fn an_invalid_value_is_asked_for_again_saying_what_is_allowed() {
    let server = TestServer::start().await;
    let mut client = server.connect("invalid", "alice").await;
    asks(&mut client, "Check my order status", &["order_id"]).await;
    let question = asks(&mut client, "banana", &["order_id"]).await;
    assert!(
        question.contains("banana") && question.contains("ORD-"),
        "{question}"
    );
    calls(&mut client, "ORD-1001", "fetch_order_status", "ORD-1001").await;
    server.stop().await;
}

/// The question lives in the log, so neither a lost socket nor a restart forgets it.
#[tokio::test]
async fn a_question_survives_a_reconnect_and_a_restart() {
    let server = TestServer::start().await;
    let mut client = server.connect("survives", "alice").await;
    asks(&mut client, "What is my account balance?", &["user_id"]).await;
    let last_seq = client.last_seq;
    client.vanish();
    let mut client = server.resume("survives", "alice", last_seq).await;
    asks(&mut client, "Show my invoice", &["user_id", "month"]).await;
    client.vanish();

    let server = server.restart().await;
    let mut client = server.connect("survives", "alice").await;
    asks(&mut client, "user-1", &["month"]).await;
    calls(&mut client, "2026-10", "fetch_invoice", "user-1").await;
    server.stop().await;
}
