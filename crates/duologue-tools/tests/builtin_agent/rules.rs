//! What each message leads to where the agent's rules decide.

use super::*;

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
                "`{given}` is not a valid user ID. It is `user-` and a number, or a UUID. For example: \
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
        "Hello, explain what this system does",
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
        "^(user-[0-9]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    );
    assert!(follow_up.schema["properties"].get("month").is_none());
}
