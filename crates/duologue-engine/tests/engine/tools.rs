//! Tools: on record before they run, bounded, and unable to break more than their turn.

use duologue_engine::provider::Message;
use duologue_protocol::{ErrorCode, EventBody, FinishReason, ServerFrame, ToolOutcome, ToolResult};
use serde_json::{Value, json};

use crate::harness::{
    World,
    client::{Answer, body, errors, names},
    log::types,
    seconds,
    tool::Act,
};

const REQUEST: &str = "where is my order ORD-1";

async fn ask(world: &World) -> Answer {
    let mut client = world.connect("s").await;
    client.say(REQUEST);
    let answer = client.answer().await;
    world.log("s").await;
    answer
}

fn result(answer: &Answer) -> &ToolResult {
    let mut results = answer.frames.iter().filter_map(|frame| match body(frame) {
        Some(EventBody::ToolResult(result)) => Some(result),
        _ => None,
    });
    results.next().expect("the tool has a result")
}

/// What the model received about the tool, in the tool's role.
fn told(world: &World) -> String {
    let requests = world.provider.requests();
    match requests[0].messages.last() {
        Some(Message::Tool { content, name, .. }) if name == "fetch_order" => content.to_string(),
        other => panic!("the tool's result comes last, not {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_on_record_before_the_tool_runs() {
    let world = World::start();
    world.provider.will_say("It is on its way.");
    ask(&world).await;
    let uses = world.tools.uses();
    assert_eq!(uses.len(), 1);
    assert_eq!(uses[0].log.last(), Some(&"tool_call"));
    assert_eq!(uses[0].arguments, json!({ "order_id": "ORD-1" }));
    assert_eq!(uses[0].call_id.0, "call-1-1");
}

#[tokio::test(start_paused = true)]
async fn the_model_is_told_the_result_in_the_tools_role() {
    let world = World::start();
    let status = json!({ "status": "shipped" });
    world.tools.will("fetch_order", Act::Answer(status.clone()));
    world.provider.will_say("It is on its way.");
    let answer = ask(&world).await;
    assert_eq!(
        names(&answer.frames)[2..],
        [
            "user_message",
            "start",
            "routed",
            "tool_call",
            "tool_result",
            "token",
            "assistant_message"
        ]
    );
    assert_eq!(told(&world), status.to_string());
    let request = &world.provider.requests()[0];
    assert!(!request.system.contains("shipped"));
    assert!(request.tools.is_empty(), "the rules have decided");
}

/// In the log as well as before the model: a result must not fill the prompts of all later turns.
#[tokio::test(start_paused = true)]
async fn a_result_beyond_the_limit_is_cut_and_says_so() {
    let world = World::with(|limits| limits.turn.tool_result_bytes_max = 100);
    let long = Value::String("long ".repeat(100));
    world.tools.will("fetch_order", Act::Answer(long));
    world.provider.will_say("It is long.");
    let answer = ask(&world).await;
    let ToolOutcome::Result(Value::String(cut)) = &result(&answer).outcome else {
        panic!("the result is text, and has not failed");
    };
    assert!(cut.ends_with("(cut: 100 of 502 bytes)"), "{cut}");
    assert!(told(&world).len() < 200);
}

/// A refusal comes from outside just as a result does.
#[tokio::test(start_paused = true)]
async fn a_refusal_beyond_the_limit_is_cut_too() {
    let world = World::with(|limits| limits.turn.tool_result_bytes_max = 100);
    world
        .tools
        .will("fetch_order", Act::Refuse("no ".repeat(1000)));
    world.provider.will_say("No.");
    let answer = ask(&world).await;
    let ToolOutcome::Error(why) = &result(&answer).outcome else {
        panic!("the tool has refused");
    };
    assert!(why.len() < 200 && why.contains("cut"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_refuses_leaves_the_answer_to_the_model() {
    let world = World::start();
    let refusal = Act::Refuse("no such order".to_owned());
    world.tools.will("fetch_order", refusal);
    world.provider.will_say("I cannot find it.");
    let answer = ask(&world).await;
    assert_eq!(
        told(&world),
        json!({ "error": "no such order" }).to_string()
    );
    assert_eq!(answer.done.finish_reason, FinishReason::Stop);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_takes_too_long_is_given_up_and_the_model_told() {
    let world = World::start();
    world.tools.will("fetch_order", Act::Hang);
    world.provider.will_say("It takes too long.");
    let answer = ask(&world).await;
    assert!(told(&world).contains("took longer than 10 seconds"));
    assert_eq!(result(&answer).duration_ms, 10_000);
    assert_eq!(answer.done.finish_reason, FinishReason::Stop);
}

/// The turn ends without asking the model, says why, and the next turn is unaffected.
#[tokio::test(start_paused = true)]
async fn a_tool_that_breaks_ends_its_turn_and_nothing_else() {
    for act in [Act::Fail, Act::Panic] {
        let world = World::start();
        world.tools.will("fetch_order", act);
        let mut client = world.connect("s").await;
        client.say(REQUEST);
        let answer = client.answer().await;
        assert_eq!(answer.done.finish_reason, FinishReason::Error);
        assert_eq!(answer.done.error, Some(ErrorCode::ToolFailed));
        let [error] = errors(&answer.frames)[..] else {
            panic!("one error tells why the turn fails");
        };
        assert_eq!(error.code, ErrorCode::ToolFailed);
        assert_eq!(error.turn_id, Some(answer.turn_id));
        assert!(!error.message.contains("test"), "a client sees no cause");
        assert_eq!(world.provider.requests().len(), 0);

        world.provider.will_say("Hello.");
        client.say("hi");
        let answer = client.answer().await;
        assert_eq!(answer.done.finish_reason, FinishReason::Stop);
        let log = world.log("s").await;
        assert!(
            types(&log).contains(&"tool_result"),
            "the call has a result"
        );
    }
}

/// A tool that never releases its thread is a mistake, but only its own session's: others are answered
/// meanwhile. Threads and time are real here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_holds_its_thread_does_not_hold_up_others() {
    let world = World::start();
    let (release, released) = std::sync::mpsc::channel();
    world.tools.will("fetch_order", Act::Block(released));
    let mut held = world.connect("held").await;
    held.say(REQUEST);
    world.tools.wait_for_uses(1).await;
    let others = async {
        for n in 0..5 {
            world.provider.will_say("Hello.");
            let mut other = world.connect(&format!("other-{n}")).await;
            other.say("hi");
            let answer = other.answer().await;
            assert_eq!(answer.done.finish_reason, FinishReason::Stop);
        }
    };
    // Less than the harness's patience, which is for paused time.
    let answered = tokio::time::timeout(seconds(30), others).await;
    answered.expect("others are answered meanwhile");
    world.provider.will_say("Here it is.");
    drop(release);
    let answer = held.answer().await;
    assert_eq!(answer.done.finish_reason, FinishReason::Stop);
}

/// A NUL cannot be stored. If it were sent, and another character were stored, replay and live would
/// differ; so it is replaced before either.
#[tokio::test(start_paused = true)]
async fn what_comes_from_outside_is_told_as_it_is_kept() {
    let world = World::start();
    let status = json!({ "a\0b": ["\0", { "deep": "c\0" }] });
    world.tools.will("fetch_order", Act::Answer(status));
    world.provider.will_say("An\0swer");
    let mut client = world.connect("s").await;
    client.say(REQUEST);
    let answer = client.answer().await;
    assert_eq!(answer.pieces, ["An\u{fffd}swer"]);
    let told = answer.frames.iter().filter_map(|frame| match frame {
        ServerFrame::Opened(opened) => opened.event().map(|event| event.body),
        other => body(other).cloned(),
    });
    let told: Vec<EventBody> = told.collect();
    let kept = world.log("s").await;
    let kept: Vec<EventBody> = kept.into_iter().map(|event| event.body).collect();
    assert_eq!(told, kept);
}
