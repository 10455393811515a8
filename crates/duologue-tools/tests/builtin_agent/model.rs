//! What each message leads to where a model calls tools by itself.

use super::*;

#[test]
fn a_model_that_calls_tools_is_offered_all_and_decides() {
    let mut conversation = Conversation::with_model();
    let plan = conversation.say("What is my account balance?");
    let Step::Generate { tools } = plan.step else {
        panic!("{plan:?}");
    };
    assert_eq!((plan.route.as_str(), plan.tool), ("answer", None));
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    let all = [
        "fetch_account_balance",
        "fetch_invoice",
        "fetch_order_status",
        "knowledge_base_lookup",
    ];
    assert_eq!(names, all);
}

/// The model calls a tool without a value that only the user knows; the answer to the question
/// leads to the call without asking the model again, and anything else goes to the model.
#[test]
fn a_question_that_a_models_call_led_to_is_answered_without_the_model() {
    let mut conversation = Conversation::with_model();
    let text = "What is my account balance?";
    let checked = conversation.agent.check(
        "fetch_account_balance",
        &json!({}),
        &conversation.situation(text),
    );
    let Checked::Ask(follow_up) = checked else {
        panic!("{checked:?}");
    };
    assert_eq!(follow_up.missing, ["user_id"]);
    conversation.pending = Some(follow_up.clone());
    let plan = conversation.say("user-1");
    assert_eq!(
        plan.step,
        Step::Call {
            tool: "fetch_account_balance".into(),
            arguments: json!({ "user_id": "user-1" }),
        }
    );
    for text in ["why?", "bob", "never mind"] {
        conversation.pending = Some(follow_up.clone());
        let plan = conversation.say(text);
        let Step::Generate { tools } = plan.step else {
            panic!("{plan:?}");
        };
        assert_eq!(tools.len(), 4, "{text}");
    }
}

#[test]
fn a_models_call_is_made_refused_or_completed() {
    let conversation = Conversation::with_model();
    let check = |tool: &str, arguments: Value, text: &str| {
        conversation
            .agent
            .check(tool, &arguments, &conversation.situation(text))
    };
    let order = json!({ "order_id": "ORD-1001" });
    assert_eq!(
        check("fetch_order_status", order.clone(), "my order"),
        Checked::Call(order.clone())
    );
    // What it left out is in the text.
    for left_out in [
        json!({}),
        json!({ "order_id": null }),
        json!({ "order_id": "" }),
    ] {
        let checked = check("fetch_order_status", left_out, "status of ORD-1001");
        assert_eq!(checked, Checked::Call(order.clone()));
    }
    for (tool, arguments, reason) in [
        (
            "fetch_order_status",
            json!({ "order_id": "1001" }),
            "`order_id` cannot be \"1001\". It is `ORD-` and at least four digits. For example: \
             ORD-1001.",
        ),
        (
            "fetch_order_status",
            json!({ "order_id": 1001 }),
            "`order_id` cannot be 1001. It is `ORD-` and at least four digits. For example: \
             ORD-1001.",
        ),
        (
            "fetch_order_status",
            json!({ "order_id": "ORD-1001", "fast": true }),
            "There is no parameter `fast`. There are: order_id.",
        ),
        (
            "fetch_order_status",
            Value::Null,
            "The arguments of `fetch_order_status` must be a JSON object.",
        ),
        (
            "delete_order",
            json!({}),
            "There is no tool `delete_order` that can be called now. There are: \
             fetch_account_balance, fetch_invoice, fetch_order_status, knowledge_base_lookup.",
        ),
    ] {
        assert_eq!(
            check(tool, arguments, "my order"),
            Checked::Refused(reason.into())
        );
    }
}
