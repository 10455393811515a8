//! The scripted provider keeps to its script, and notices a conversation that no model would take.

use futures_util::FutureExt;
use serde_json::json;

use super::*;
use duologue_engine::provider::Message;

fn request(messages: Vec<Message>) -> Request {
    Request {
        purpose: Purpose::Turn,
        system: "".into(),
        messages,
        tools: Vec::new(),
        output_tokens_max: 100,
    }
}

fn user(text: &str) -> Message {
    Message::User(text.into())
}

fn calls<const N: usize>(ids: [&str; N]) -> Message {
    let calls = ids.map(|id| ModelCall {
        id: id.to_owned(),
        name: "get_order".to_owned(),
        arguments: json!({}),
    });
    Message::Assistant {
        text: "".into(),
        calls: calls.into(),
    }
}

fn answer(call_id: &str) -> Message {
    Message::Tool {
        call_id: call_id.to_owned(),
        name: "get_order".to_owned(),
        content: "{}".into(),
    }
}

/// What the check says about a conversation, if it objects.
fn objection(messages: Vec<Message>) -> Option<String> {
    let checked = std::panic::catch_unwind(|| conversation::check(&request(messages)));
    let panic = checked.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
}

#[test]
fn a_conversation_is_refused_unless_its_calls_and_answers_match() {
    let good = vec![
        user("hi"),
        calls(["a", "b"]),
        answer("b"),
        answer("a"),
        calls(["c"]),
        answer("c"),
    ];
    assert_eq!(objection(good), None);

    let table = [
        (vec![user("hi"), answer("a")], "no such call is open"),
        (
            vec![user("hi"), calls(["a"]), answer("a"), answer("a")],
            "no such call is open",
        ),
        (
            vec![user("hi"), calls(["a"]), user("well?")],
            "calls are still open",
        ),
        (vec![user("hi"), calls(["a"])], "calls are still open"),
        (vec![user("hi"), calls([""])], "has no id"),
        (
            vec![user("hi"), calls(["a"]), answer("a"), calls(["a"])],
            "again",
        ),
        (vec![user("hi"), calls([])], "calls nothing"),
        (vec![], "neither a user's nor a tool's"),
    ];
    for (messages, expected) in table {
        let said = objection(messages.clone()).unwrap_or_else(|| panic!("accepted {messages:?}"));
        assert!(said.contains(expected), "{said:?} lacks {expected:?}");
    }
}

/// A summary must not take the script that was meant for a turn, since jobs run when they like.
#[tokio::test]
async fn summaries_have_scripts_of_their_own() {
    let provider = ScriptedProvider::following_rules();
    provider.will_say("for the user");
    let summary = Request {
        purpose: Purpose::Summary,
        ..request(vec![user("sum this up")])
    };
    let first = provider.generate(summary).next().await.unwrap().unwrap();
    assert_eq!(first, Chunk::Text(SUMMARY.into()));
    let turn = request(vec![user("hi")]);
    let first = provider.generate(turn).next().await.unwrap().unwrap();
    assert_eq!(first, Chunk::Text("for the user".into()));
}

#[tokio::test]
async fn an_answer_holds_until_it_is_released() {
    let provider = ScriptedProvider::calling_tools();
    provider.will([Step::Hold("gate"), Step::Say("through".to_owned())]);
    let mut chunks = provider.generate(request(vec![user("hi")]));
    assert!(
        provider.requests().is_empty(),
        "it starts when it is polled"
    );
    assert!(chunks.next().now_or_never().is_none());
    assert_eq!(provider.streams_open(), 1);
    provider.release("gate");
    let first = chunks.next().await.unwrap().unwrap();
    assert_eq!(first, Chunk::Text("through".into()));
    assert!(matches!(
        chunks.next().await,
        Some(Ok(Chunk::Finished { .. }))
    ));
    assert!(chunks.next().await.is_none());
    drop(chunks);
    assert_eq!(
        (provider.streams_open(), provider.streams_dropped()),
        (0, 0)
    );
}
