//! The built-in agent with the built-in tools: what each message of a conversation leads to.

use std::sync::LazyLock;

use duologue_engine::agent::{Agent, Checked, ModelTools, Plan, Situation, Step};
use duologue_protocol::{FollowUp, UserId};
use serde_json::{Value, json};

static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    let text = include_str!("../../../config/agent.toml");
    Agent::from_toml(text, &duologue_tools::builtin()).expect("the built-in agent is valid")
});

/// A conversation as the engine would keep it: each plan becomes what the next message meets.
struct Conversation {
    agent: &'static Agent,
    user_id: UserId,
    model_tools: ModelTools,
    pending: Option<FollowUp>,
    last_call: Option<(String, Value)>,
}

impl Conversation {
    fn start() -> Self {
        Self {
            agent: &AGENT,
            user_id: UserId::anonymous(),
            model_tools: ModelTools::Rules,
            pending: None,
            last_call: None,
        }
    }

    fn with_model() -> Self {
        Self {
            model_tools: ModelTools::Model,
            ..Self::start()
        }
    }

    fn situation<'a>(&'a self, text: &'a str) -> Situation<'a> {
        Situation {
            text,
            user_id: &self.user_id,
            pending: self.pending.as_ref(),
            last_call: self
                .last_call
                .as_ref()
                .map(|(name, arguments)| (name.as_str(), arguments)),
        }
    }

    fn say(&mut self, text: &str) -> Plan {
        let plan = self.agent.route(&self.situation(text), self.model_tools);
        self.pending = None;
        match &plan.step {
            Step::Call { tool, arguments } => {
                self.last_call = Some((tool.clone(), arguments.clone()));
            }
            Step::Ask(follow_up) => self.pending = Some(follow_up.clone()),
            Step::Generate { .. } => {}
        }
        plan
    }
}

/// What a message is expected to lead to.
enum Leads {
    /// By this route, to a call of this tool with these arguments.
    Call(&'static str, &'static str, Value),
    /// By this route, to a question of this tool for these parameters.
    Ask(&'static str, &'static str, &'static [&'static str]),
    /// By this route, to the model.
    Generate(&'static str),
}

use Leads::{Ask, Call, Generate};

#[track_caller]
fn talk(messages: impl IntoIterator<Item = (&'static str, Leads)>) {
    let mut conversation = Conversation::start();
    for (text, leads) in messages {
        let plan = conversation.say(text);
        match (&plan.step, leads) {
            (Step::Call { tool, arguments }, Call(route, name, expected)) => {
                let found = (plan.route.as_str(), tool.as_str(), arguments);
                assert_eq!(found, (route, name, &expected), "{text}");
                assert_eq!(plan.tool.as_deref(), Some(name), "{text}");
            }
            (Step::Ask(follow_up), Ask(route, name, missing)) => {
                let names: Vec<&str> = follow_up.missing.iter().map(String::as_str).collect();
                let found = (
                    plan.route.as_str(),
                    follow_up.tool.as_str(),
                    names.as_slice(),
                );
                assert_eq!(found, (route, name, missing), "{text}");
                assert_eq!(plan.tool.as_deref(), Some(name), "{text}");
            }
            (Step::Generate { tools }, Generate(route)) => {
                assert_eq!(plan.route, route, "{text}");
                assert!(tools.is_empty(), "the mock is offered no tools: {text}");
            }
            _ => panic!("{text:?} led to {plan:?}"),
        }
    }
}

fn balance(user_id: &str) -> Leads {
    Call(
        "follow_up",
        "fetch_account_balance",
        json!({ "user_id": user_id }),
    )
}

fn order(route: &'static str, order_id: &str) -> Leads {
    Call(route, "fetch_order_status", json!({ "order_id": order_id }))
}

fn asks_for_user_id() -> Leads {
    Ask("account_balance", "fetch_account_balance", &["user_id"])
}

#[test]
fn a_balance_is_asked_for_and_the_answer_completes_the_call() {
    for answer in [
        "My user_id is user-1",
        "user_id=user-1",
        "user id: user-1",
        "User-ID is \"user-1\".",
        "it's user-1",
        "user-1",
        "USER-1!",
        "account: user-1, please",
        "I think that should be user-1?",
        r#"{"user_id":"user-1"}"#,
    ] {
        talk([
            ("What is my account balance?", asks_for_user_id()),
            (answer, balance("user-1")),
        ]);
    }
}

#[test]
fn a_message_that_says_it_all_is_acted_on_at_once() {
    for text in [
        "Check order status for order_id=ORD-1001",
        "check ORDER STATUS of ORD-1001.",
        "order id: ORD-1001",
        "Where is my order ord-1001?",
        "Is the package of order (ORD-1001) on its way?",
    ] {
        talk([(text, order("order_status", "ORD-1001"))]);
    }
    talk([(
        "Show me the invoice of user-2 for 2026-03.",
        Call(
            "invoice",
            "fetch_invoice",
            json!({ "user_id": "user-2", "month": "2026-03" }),
        ),
    )]);
}

#[test]
fn the_knowledge_base_is_asked_with_the_whole_message() {
    for text in [
        "What's the weather like?",
        "pricing",
        "How much CO2 is in the air?",
        "How does this compare to LangGraph",
        "What is Duologue?",
        "can I use Supabase",
        "what is a WebSocket?",
    ] {
        let lookup = Call(
            "knowledge_base",
            "knowledge_base_lookup",
            json!({ "query": text }),
        );
        talk([(text, lookup)]);
    }
}

#[test]
fn a_correction_after_a_call_repeats_it_with_the_new_value() {
    for correction in [
        "no, ORD-1002",
        "sorry, I meant ORD-1002",
        "Actually ORD-1002.",
        "No wait, not ORD-1001 but ORD-1002!",
        "oops, order_id=ORD-1002",
        "what about ord-1002?",
    ] {
        talk([
            (
                "Check order status for ORD-1001",
                order("order_status", "ORD-1001"),
            ),
            (correction, order("correction", "ORD-1002")),
        ]);
    }
    // It keeps what it does not replace.
    let invoice = |route, month| {
        Call(
            route,
            "fetch_invoice",
            json!({ "user_id": "user-1", "month": month }),
        )
    };
    talk([
        ("invoice for user-1, 2026-01", invoice("invoice", "2026-01")),
        ("no, 2026-02", invoice("correction", "2026-02")),
    ]);
}

#[test]
fn a_correction_while_something_is_pending_replaces_what_was_given() {
    talk([
        (
            "I need the invoice of user-1",
            Ask("invoice", "fetch_invoice", &["month"]),
        ),
        (
            "sorry, user-2",
            Ask("follow_up", "fetch_invoice", &["month"]),
        ),
        (
            "2026-05",
            Call(
                "follow_up",
                "fetch_invoice",
                json!({ "user_id": "user-2", "month": "2026-05" }),
            ),
        ),
    ]);
    // Even one that belongs to the call before the question.
    talk([
        ("order_id=ORD-1001", order("order_status", "ORD-1001")),
        ("and my balance?", asks_for_user_id()),
        ("no, ORD-1002", order("correction", "ORD-1002")),
    ]);
}

#[test]
fn thanks_after_a_no_corrects_nothing() {
    talk([
        ("order_id=ORD-1001", order("order_status", "ORD-1001")),
        ("no, thanks", Generate("answer")),
        ("No, that is all for today.", Generate("answer")),
    ]);
}

#[test]
fn a_question_that_waits_can_be_dropped() {
    for drop in [
        "never mind",
        "Forget it.",
        "please cancel that",
        "cancel",
        "no need!",
    ] {
        talk([
            ("What is my balance?", asks_for_user_id()),
            (drop, Generate("dropped")),
            ("user-1", Generate("answer")),
        ]);
    }
    // Without one, there is nothing to drop.
    talk([("never mind", Generate("answer"))]);
}

#[test]
fn another_request_takes_the_place_of_the_question() {
    talk([
        ("What is my balance?", asks_for_user_id()),
        (
            "Check order status for order_id=ORD-1001",
            order("order_status", "ORD-1001"),
        ),
        ("user-1", Generate("answer")),
    ]);
    talk([
        ("What is my balance?", asks_for_user_id()),
        (
            "Never mind, what's the weather?",
            Call(
                "knowledge_base",
                "knowledge_base_lookup",
                json!({ "query": "Never mind, what's the weather?" }),
            ),
        ),
    ]);
    // It names all that it needs, the answer's value among it.
    talk([
        ("What is my balance?", asks_for_user_id()),
        (
            "the invoice of user-1 for 2026-01",
            Call(
                "invoice",
                "fetch_invoice",
                json!({ "user_id": "user-1", "month": "2026-01" }),
            ),
        ),
    ]);
}

#[test]
fn an_answer_that_mentions_another_request_is_still_an_answer() {
    talk([
        ("What is my balance?", asks_for_user_id()),
        ("user-1, it is on the invoice", balance("user-1")),
    ]);
}

#[test]
fn two_missing_values_are_asked_for_in_one_question_and_may_come_one_by_one() {
    let both = Ask("invoice", "fetch_invoice", &["user_id", "month"]);
    talk([
        ("Can I have my invoice?", both),
        (
            "for 2026-04",
            Ask("follow_up", "fetch_invoice", &["user_id"]),
        ),
        (
            "user-42",
            Call(
                "follow_up",
                "fetch_invoice",
                json!({ "user_id": "user-42", "month": "2026-04" }),
            ),
        ),
    ]);
    let mut conversation = Conversation::start();
    conversation.say("Can I have my invoice?");
    let question = conversation.pending.take().unwrap().question;
    assert_eq!(
        question,
        "What are the user ID (for example user-1) and the month (for example 2026-01)?"
    );
}

#[test]
fn a_value_that_does_not_suit_is_named_and_asked_for_again() {
    let mut conversation = Conversation::start();
    conversation.say("What is my account balance?");
    let first = conversation.pending.clone().unwrap();
    assert_eq!(
        first.question,
        "Sure, which user ID should I check (for example user-1)?"
    );
    for attempt in ["user_id=bob", "user1", "4711", "user_17."] {
        conversation.say(attempt);
        let again = conversation.pending.clone().unwrap();
        let given = attempt.trim_start_matches("user_id=").trim_end_matches('.');
        assert_eq!(
            again.question,
            format!(
                "`{given}` is not a valid user ID. It is `user-` and a number. For example: \
                 user-1. What is the user ID?"
            )
        );
        assert_eq!(again.schema, first.schema);
    }
    // Even when nothing was asked yet.
    talk([(
        "order_id=1001",
        Ask("order_status", "fetch_order_status", &["order_id"]),
    )]);
    talk([
        ("order_id=ORD-1001", order("order_status", "ORD-1001")),
        (
            "no, ORD-1",
            Ask("correction", "fetch_order_status", &["order_id"]),
        ),
        ("ORD-1003", order("follow_up", "ORD-1003")),
    ]);
}

#[test]
fn a_single_word_may_be_an_attempt_once_and_more_words_are_a_new_message() {
    let again = || Ask("follow_up", "fetch_account_balance", &["user_id"]);
    talk([
        ("balance", asks_for_user_id()),
        ("bob", again()),
        ("hm", Generate("answer")),
    ]);
    for message in [
        "why?",
        "why do you need that",
        "I do not know it",
        "no",
        "?",
    ] {
        talk([
            ("balance", asks_for_user_id()),
            (message, Generate("answer")),
        ]);
    }
}

#[test]
fn the_same_request_again_asks_the_same_question_again() {
    talk([
        ("What is my balance?", asks_for_user_id()),
        ("What is my account balance?", asks_for_user_id()),
    ]);
}

#[test]
fn what_matches_nothing_is_for_the_model() {
    for text in [
        "hello",
        "What can you do?",
        "tell me a joke",
        "\u{1f600}",
        "In order to win",
    ] {
        talk([(text, Generate("answer"))]);
    }
}

#[test]
fn a_follow_up_tells_a_client_what_to_show() {
    let mut conversation = Conversation::start();
    conversation.say("invoice for 2026-04, please");
    let follow_up = conversation.pending.unwrap();
    assert_eq!(follow_up.arguments, json!({ "month": "2026-04" }));
    assert_eq!(follow_up.schema["required"], json!(["user_id"]));
    assert_eq!(
        follow_up.schema["properties"]["user_id"]["pattern"],
        "^user-[0-9]+$"
    );
    assert!(follow_up.schema["properties"].get("month").is_none());
}

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
