//! The built-in tools: what they answer, and that their definitions are fit for models and people.

use std::sync::Arc;

use duologue_engine::tool::{Tool, ToolContext, ToolError};
use duologue_protocol::{CallId, SessionId, TurnId, UserId};
use serde_json::{Value, json};

fn tool(name: &str) -> Arc<dyn Tool> {
    let mut tools = duologue_tools::builtin().into_iter();
    tools
        .find(|tool| tool.definition().name == name)
        .expect("a built-in tool")
}

async fn call(name: &str, arguments: Value) -> Value {
    try_call(name, arguments)
        .await
        .expect("these tools know an answer to all that is well formed")
}

async fn try_call(name: &str, arguments: Value) -> Result<Value, ToolError> {
    let context = ToolContext {
        session_id: SessionId::new("session").expect("a valid id"),
        user_id: UserId::anonymous(),
        call_id: CallId::new(TurnId(1), 1),
    };
    tool(name).call(&arguments, &context).await
}

#[test]
fn every_parameter_tells_people_what_it_is() {
    for tool in duologue_tools::builtin() {
        let definition = tool.definition();
        let schema = &definition.parameters;
        assert!(!definition.description.is_empty());
        assert_eq!(schema["additionalProperties"], false);
        for (name, property) in schema["properties"].as_object().unwrap() {
            for key in ["title", "description", "examples"] {
                assert!(
                    property.get(key).is_some(),
                    "{}.{name}.{key}",
                    definition.name
                );
            }
        }
    }
}

#[tokio::test]
async fn an_account_has_a_balance_and_an_unknown_one_is_not_found() {
    let found = call("fetch_account_balance", json!({ "user_id": "user-1" })).await;
    assert_eq!(
        found,
        json!({
            "found": true,
            "user_id": "user-1",
            "balance": 1250.75,
            "currency": "USD",
            "status": "active",
        })
    );
    let unknown = call("fetch_account_balance", json!({ "user_id": "user-9" })).await;
    assert_eq!(unknown["found"], false);
    assert_eq!(unknown["message"], "There is no account for user-9.");
}

#[tokio::test]
async fn an_order_has_a_status_and_an_unknown_one_is_not_found() {
    let found = call("fetch_order_status", json!({ "order_id": "ORD-1001" })).await;
    assert_eq!(found["status"], "shipped");
    assert_eq!(found["carrier"], "DHL");
    assert_eq!(found["eta"], "2026-12-03");
    let unknown = call("fetch_order_status", json!({ "order_id": "ORD-9999" })).await;
    assert_eq!(unknown["message"], "There is no order ORD-9999.");
}

/// The lines of an invoice must add up, for every account and month that has one.
#[tokio::test]
async fn an_invoice_adds_up_and_exists_only_where_something_was_billed() {
    for user_id in ["user-1", "user-2", "user-3", "user-42"] {
        for month in 1..=12 {
            let month = format!("2025-{month:02}");
            let arguments = json!({ "user_id": user_id, "month": month });
            let invoice = call("fetch_invoice", arguments).await;
            let lines = invoice["lines"].as_array().unwrap();
            let sum: f64 = lines
                .iter()
                .filter_map(|line| line["amount"].as_f64())
                .sum();
            let amount = invoice["amount"].as_f64().unwrap();
            assert!((sum - amount).abs() < 0.001, "{invoice}");
        }
    }
    for (user_id, month) in [
        ("user-1", "2024-12"),
        ("user-1", "2027-01"),
        ("user-9", "2025-01"),
    ] {
        let none = call(
            "fetch_invoice",
            json!({ "user_id": user_id, "month": month }),
        )
        .await;
        assert_eq!(none["found"], false);
    }
}

#[tokio::test]
async fn the_knowledge_base_answers_or_lists_what_it_knows() {
    let found = call("knowledge_base_lookup", json!({ "query": "LangGraph?" })).await;
    assert_eq!(found["topic"], "LangGraph");
    let nothing = call("knowledge_base_lookup", json!({ "query": "knitting" })).await;
    assert_eq!(nothing["found"], false);
    assert!(
        nothing["topics"]
            .as_array()
            .unwrap()
            .contains(&json!("weather"))
    );
}

#[tokio::test]
async fn arguments_that_the_schema_would_have_refused_are_refused() {
    let outcome = try_call("fetch_order_status", json!({})).await;
    assert!(matches!(outcome, Err(ToolError::Refused(_))), "{outcome:?}");
}
