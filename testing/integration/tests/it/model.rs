//! The whole server in front of a model's endpoint, scripted at the level of HTTP.

use duologue_integration::{Client, TestServer};
use duologue_llm::testing::{RequestStatus, Script, ScriptedUpstream};
use serde_json::json;

async fn server(upstream: &ScriptedUpstream) -> TestServer {
    TestServer::builder()
        .set("OPENAI_API_KEY", "sk-test")
        .set("OPENAI_BASE_URL", &upstream.base_url())
        .set("DUOLOGUE_GENERATION__RETRY_DELAY", "1ms")
        .start()
        .await
}

async fn converse(upstream: &ScriptedUpstream) -> (TestServer, Client) {
    let server = server(upstream).await;
    let client = server.connect("model", "alice").await;
    (server, client)
}

/// With a key set, the real model answers by the same path: streamed, stored, with its usage.
#[tokio::test]
async fn a_real_endpoint_answers_by_environment_alone() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will_say("Hello from the model.");
    let (server, mut client) = converse(&upstream).await;
    let answer = client.ask("hello").await;
    assert_eq!(answer.text, "Hello from the model.");
    assert_eq!(answer.done["model"], "gpt-4o-mini");
    assert_eq!(
        answer.done["usage"],
        json!({ "input_tokens": 10, "output_tokens": 5 })
    );
    let request = &upstream.requests()[0];
    assert_eq!(request.header("authorization"), Some("Bearer sk-test"));
    assert_eq!(request.body["messages"][0]["role"], "system");
    assert!(
        request.body["tools"].as_array().unwrap().len() >= 4,
        "the agent's tools are offered"
    );
    server.stop().await;
}

/// The model calls two tools in one answer; both run, and their results go back in the tool role.
#[tokio::test]
async fn the_model_calls_tools_and_goes_on_with_their_results() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::calls(&[
        ("fetch_order_status", json!({ "order_id": "ORD-1001" })),
        ("knowledge_base_lookup", json!({ "query": "pricing" })),
    ]));
    upstream.will_say("It is on its way.");
    let (server, mut client) = converse(&upstream).await;
    let answer = client
        .ask("where is ORD-1001, and what does it cost?")
        .await;
    assert_eq!(answer.text, "It is on its way.");
    assert_eq!(answer.of_type("tool_call").len(), 2);
    let messages = upstream.requests()[1].body["messages"].clone();
    let messages = messages.as_array().unwrap();
    let [.., asked, first, second] = &messages[..] else {
        panic!("too few messages")
    };
    let ids: Vec<_> = asked["tool_calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["id"])
        .collect();
    assert_eq!(ids, [&first["tool_call_id"], &second["tool_call_id"]]);
    assert_eq!(
        (&first["role"], &second["role"]),
        (&json!("tool"), &json!("tool"))
    );
    server.stop().await;
}

/// A call that lacks what only the user knows becomes a follow-up question, without another
/// request; its answer completes the call.
#[tokio::test]
async fn a_models_call_without_its_parameter_is_asked_for() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::call("fetch_account_balance", &json!({})));
    let (server, mut client) = converse(&upstream).await;
    let answer = client.ask("how much money do I have?").await;
    assert_eq!(answer.done["finish_reason"], "follow_up");
    assert_eq!(upstream.requests().len(), 1);
    upstream.will_say("You have plenty.");
    let answer = client.ask("user-1").await;
    assert_eq!(
        answer.of_type("tool_call")[0]["arguments"]["user_id"],
        "user-1"
    );
    assert_eq!(answer.text, "You have plenty.");
    server.stop().await;
}

/// The stop button stops the cost as well: the upstream sees its connection closed.
#[tokio::test]
async fn a_cancel_closes_the_upstream_connection() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::stream().say("one ").say("two ").stall());
    let (server, mut client) = converse(&upstream).await;
    client.send("count").await;
    while client.until("token").await["index"] != 1 {}
    client.send_json(json!({ "type": "cancel" })).await;
    let done = client.until("done").await;
    assert_eq!(
        (&done["finish_reason"], &done["text"]),
        (&json!("cancelled"), &json!("one two "))
    );
    upstream
        .wait_for_status(1, RequestStatus::ClosedByClient)
        .await;
    server.stop().await;
}

/// A cancel that comes before the upstream has answered anything is a cancel all the same.
#[tokio::test]
async fn a_cancel_before_the_first_token_closes_the_upstream_connection() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::new().stall());
    let (server, mut client) = converse(&upstream).await;
    client.send("think").await;
    upstream.wait_for_requests(1).await;
    client.send_json(json!({ "type": "cancel" })).await;
    assert_eq!(client.until("done").await["finish_reason"], "cancelled");
    upstream
        .wait_for_status(1, RequestStatus::ClosedByClient)
        .await;
    server.stop().await;
}

/// Before the first token a failure is tried again, and the client notices nothing.
#[tokio::test]
async fn failures_before_the_first_token_are_tried_again() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::error(503, "overloaded"));
    upstream.will(Script::rate_limited("0"));
    upstream.will_say("At last.");
    let (server, mut client) = converse(&upstream).await;
    assert_eq!(client.ask("hello").await.text, "At last.");
    assert_eq!(upstream.requests().len(), 3);
    server.stop().await;
}

/// After the first token nothing is tried again: the text so far is kept, and the turn says why.
#[tokio::test]
async fn a_stream_that_breaks_off_keeps_its_text_and_is_not_repeated() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::stream().say("half an ").reset());
    let (server, mut client) = converse(&upstream).await;
    client.send("hello").await;
    let error = client.until("error").await;
    assert_eq!(error["code"], "upstream_unavailable");
    let done = client.until("done").await;
    assert_eq!(
        (&done["finish_reason"], &done["text"]),
        (&json!("error"), &json!("half an "))
    );
    assert_eq!(upstream.requests().len(), 1);
    server.stop().await;
}

/// A wrong key is not tried again, and what the endpoint said of it is for the log, not the client.
#[tokio::test]
async fn a_wrong_key_is_refused_once_and_without_details() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::error(401, "Incorrect API key provided: sk-test"));
    let (server, mut client) = converse(&upstream).await;
    client.send("hello").await;
    let error = client.until("error").await;
    assert_eq!(error["code"], "upstream_refused");
    assert!(
        !error["message"].as_str().unwrap().contains("sk-"),
        "{error}"
    );
    client.until("done").await;
    assert_eq!(upstream.requests().len(), 1);
    server.stop().await;
}

/// A model that goes silent in mid-answer is given up within the limit.
#[tokio::test]
async fn a_stalled_stream_ends_by_the_limit_between_tokens() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::stream().say("so ").stall());
    let server = TestServer::builder()
        .set("GROQ_API_KEY", "gsk-test")
        .set("GROQ_BASE_URL", &upstream.base_url())
        .set("DUOLOGUE_GENERATION__NEXT_TOKEN_TIMEOUT", "200ms")
        .start()
        .await;
    let mut client = server.connect("stall", "alice").await;
    client.send("hello").await;
    assert_eq!(client.until("error").await["code"], "upstream_timeout");
    let done = client.until("done").await;
    assert_eq!(done["model"], "llama-3.1-8b-instant");
    upstream
        .wait_for_status(1, RequestStatus::ClosedByClient)
        .await;
    server.stop().await;
}
