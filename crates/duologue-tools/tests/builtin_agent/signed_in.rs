//! What each message leads to where users are authenticated: accounts are the user's own.

use super::*;

static SIGNED_IN: LazyLock<RuleAgent> = LazyLock::new(|| {
    let text = include_str!("../../../../config/agent.toml");
    RuleAgent::from_toml(text, &duologue_tools::builtin()).expect("the built-in agent is valid")
});

fn conversation(user_id: &str, model_tools: ModelTools) -> Conversation {
    Conversation {
        agent: &SIGNED_IN,
        user_id: UserId::new(user_id).expect("a valid id"),
        model_tools,
        pending: None,
        last_call: None,
    }
}

#[test]
fn a_balance_is_the_signed_in_users_whatever_they_write() {
    for text in [
        "What is my account balance?",
        "What is the balance of user-2?",
        "balance for user_id=user-2",
        "my user_id is user-2, what is my balance?",
        "account: user-2, what is the balance?",
        r#"balance {"user_id":"user-2"}"#,
    ] {
        let plan = conversation("user-1", ModelTools::Unsupported).say(text);
        let expected = Step::Call {
            tool: "fetch_account_balance".into(),
            arguments: json!({ "user_id": "user-1" }),
        };
        assert_eq!(plan.step, expected, "{text}");
    }
}

/// What else a tool needs is still asked for, and a correction corrects no user.
#[test]
fn an_invoice_is_the_signed_in_users_and_its_month_is_asked_for() {
    let mut conversation = conversation("user-1", ModelTools::Unsupported);
    let plan = conversation.say("Show me the invoice of user-2");
    let Step::Ask(follow_up) = plan.step else {
        panic!("{plan:?}");
    };
    assert_eq!(follow_up.missing, ["month"]);
    assert_eq!(follow_up.arguments, json!({ "user_id": "user-1" }));
    let invoice = |month: &str| Step::Call {
        tool: "fetch_invoice".into(),
        arguments: json!({ "user_id": "user-1", "month": month }),
    };
    assert_eq!(
        conversation.say("user_id=user-2 2026-03").step,
        invoice("2026-03")
    );
    assert_eq!(
        conversation.say("no, 2026-04 of user-2").step,
        invoice("2026-04")
    );
}

/// A model is not even told that there is such a parameter; one that writes it all the same, since a
/// user talked it into that, gets the signed-in user's.
#[test]
fn a_model_cannot_name_another_user() {
    let mut conversation = conversation("user-1", ModelTools::Supported);
    let text = "What is the balance of user-2?";
    let Step::Generate { tools } = conversation.say(text).step else {
        panic!("the model decides");
    };
    let offered = tools
        .iter()
        .find(|tool| tool.name == "fetch_account_balance")
        .unwrap();
    assert_eq!(offered.parameters["properties"], json!({}));
    assert_eq!(offered.parameters["required"], json!([]));
    for arguments in [
        json!({}),
        json!({ "user_id": "user-2" }),
        json!({ "user_id": null }),
    ] {
        let checked = SIGNED_IN.check(
            "fetch_account_balance",
            &arguments,
            &conversation.situation(text),
        );
        assert_eq!(checked, Checked::Call(json!({ "user_id": "user-1" })));
    }
}

/// As issuers name their users.
#[test]
fn a_user_whose_id_is_a_uuid_has_an_account_too() {
    let id = "0b5f2c1e-5f0e-4c39-9a55-6d1e2f7b8a90";
    let plan = conversation(id, ModelTools::Unsupported).say("What is my balance?");
    let Step::Call { arguments, .. } = plan.step else {
        panic!("{plan:?}");
    };
    assert_eq!(arguments, json!({ "user_id": id }));
}
