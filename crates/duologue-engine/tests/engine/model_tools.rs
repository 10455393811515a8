//! Models that call tools by themselves: what they may do, and what becomes of nonsense.

use std::sync::Arc;

use duologue_doubles::scripted::{ScriptedProvider, Step};
use duologue_engine::provider::{Message, ModelCall, StopReason};
use duologue_protocol::{ErrorCode, EventBody, FinishReason, Usage};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::harness::{World, client::Answer, log::types, tool::Act};

fn call(name: &str, arguments: Value) -> Step {
    Step::Call(ModelCall {
        // Models are free to repeat their ids, or to give none.
        id: "same".to_owned(),
        name: name.to_owned(),
        arguments,
    })
}

fn order(id: &str) -> Step {
    call("fetch_order", json!({ "order_id": id }))
}

fn weather(city: &str) -> Step {
    call("weather", json!({ "city": city }))
}

async fn ask(world: &World, text: &str) -> Answer {
    let mut client = world.connect("s").await;
    client.say(text);
    let answer = client.answer().await;
    world.log("s").await;
    answer
}

/// The results of its calls that the model received in the `index`th request.
fn results(provider: &ScriptedProvider, index: usize) -> Vec<String> {
    let request = &provider.requests()[index];
    let results = request.messages.iter().filter_map(|message| match message {
        Message::Tool { content, .. } => Some(content.to_string()),
        _ => None,
    });
    results.collect()
}

/// Each tool waits for the other, so one after the other they would both time out.
#[tokio::test(start_paused = true)]
async fn calls_of_one_answer_run_at_once() {
    let world = World::with_model_tools(|_| {});
    let barrier = Arc::new(Barrier::new(2));
    world
        .tools
        .will("fetch_order", Act::Meet(Arc::clone(&barrier)));
    world.tools.will("weather", Act::Meet(barrier));
    world.provider.will([order("ORD-1"), weather("Oslo")]);
    world.provider.will_say("Both are fine.");
    let answer = ask(&world, "order and weather, please").await;
    assert_eq!(&*answer.done.text, "Both are fine.");
    assert_eq!(results(&world.provider, 1), [r#"{"met":true}"#; 2]);
    for used in world.tools.uses() {
        assert!(
            used.log.ends_with(&["tool_call", "tool_call"]),
            "{:?}",
            used.log
        );
    }
}

/// An unknown tool, arguments that the schema refuses, and arguments that are no JSON: the model
/// hears what was wrong with each, and the one good call is made.
#[tokio::test(start_paused = true)]
async fn calls_that_make_no_sense_are_told_to_the_model() {
    let world = World::with_model_tools(|_| {});
    world.provider.will([
        call("launch", json!({})),
        order("1"),
        call("weather", Value::Null),
        weather("Oslo"),
    ]);
    world.provider.will_say("It is sunny.");
    ask(&world, "launch it").await;
    let results = results(&world.provider, 1);
    assert!(results[0].contains("no tool `launch`"), "{results:?}");
    assert!(results[1].contains("`order_id` cannot be"), "{results:?}");
    assert!(results[2].contains("JSON object"), "{results:?}");
    assert_eq!(results[3], r#"{"ok":true}"#);
    assert_eq!(world.tools.uses().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_single_call_that_lacks_a_parameter_leads_to_a_question() {
    let world = World::with_model_tools(|_| {});
    world.provider.will([call("fetch_order", json!({}))]);
    let answer = ask(&world, "what about my parcel?").await;
    assert_eq!(answer.done.finish_reason, FinishReason::FollowUp);
    let log = world.log("s").await;
    let asked = log.iter().find_map(|event| match &event.body {
        EventBody::FollowUp(follow_up) => Some(follow_up),
        _ => None,
    });
    let asked = asked.expect("the question is on record");
    assert_eq!(asked.missing, ["order_id"]);
    assert_eq!(*asked.question, *answer.done.text);
    assert!(world.tools.uses().is_empty());
}

/// Of several calls, the incomplete one is not made, and the model is asked to request it.
#[tokio::test(start_paused = true)]
async fn among_several_calls_one_that_lacks_a_parameter_is_refused() {
    let world = World::with_model_tools(|_| {});
    world
        .provider
        .will([call("fetch_order", json!({})), weather("Oslo")]);
    world.provider.will_say("Which order?");
    ask(&world, "what about my parcel?").await;
    let results = results(&world.provider, 1);
    assert!(results[0].contains("missing: order_id"), "{results:?}");
    assert_eq!(results[1], r#"{"ok":true}"#);
}

/// The model calls one tool after the other and would never stop.
#[tokio::test(start_paused = true)]
async fn a_model_that_goes_in_circles_is_stopped() {
    let world = World::with_model_tools(|limits| limits.turn.steps_max = 7);
    for _ in 0..10 {
        world.provider.will([weather("Oslo")]);
    }
    let answer = ask(&world, "weather?").await;
    assert_eq!(answer.done.error, Some(ErrorCode::TurnTooLong));
    assert!(world.provider.requests().len() <= 3);
}

/// With its calls used up, the model is offered no tools, and is stopped if it calls one anyway.
#[tokio::test(start_paused = true)]
async fn no_tools_are_offered_when_the_calls_are_used_up() {
    let world = World::with_model_tools(|limits| limits.turn.tool_calls_max = 2);
    world.provider.will([weather("Oslo"), weather("Rome")]);
    world.provider.will([weather("Bonn")]);
    let answer = ask(&world, "weather?").await;
    let requests = world.provider.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].tools.len(), 2);
    assert!(requests[1].tools.is_empty());
    assert_eq!(answer.done.error, Some(ErrorCode::TurnTooLong));
    assert_eq!(world.tools.uses().len(), 2);
}

/// An endpoint that asks for tools without end is cut off at once, not when it has finished.
#[tokio::test(start_paused = true)]
async fn too_many_calls_in_one_answer_end_the_turn_as_they_come() {
    let world = World::with_model_tools(|limits| limits.turn.tool_calls_max = 2);
    world.provider.will([
        weather("Oslo"),
        weather("Rome"),
        weather("Bonn"),
        Step::Stall,
    ]);
    let answer = ask(&world, "weather?").await;
    assert_eq!(answer.done.error, Some(ErrorCode::TurnTooLong));
    assert!(answer.done.duration_ms < 1000);
    world.provider.wait_for_dropped(1).await;
    assert!(world.tools.uses().is_empty());
}

/// What the model said before it called a tool is part of the answer, and all requests are counted.
#[tokio::test(start_paused = true)]
async fn an_answer_is_all_that_was_said_and_its_usage_all_that_was_counted() {
    let world = World::with_model_tools(|_| {});
    let usage = |output_tokens| {
        let input_tokens = 10;
        Some(Usage {
            input_tokens,
            output_tokens,
            estimated: false,
        })
    };
    world.provider.will([
        Step::Say("Let me look. ".to_owned()),
        weather("Oslo"),
        Step::Finish(StopReason::Stop, usage(3)),
    ]);
    world.provider.will([
        Step::Say("Sunny.".to_owned()),
        Step::Finish(StopReason::Stop, usage(4)),
    ]);
    let answer = ask(&world, "weather?").await;
    assert_eq!(&*answer.done.text, "Let me look. Sunny.");
    let total = Usage {
        input_tokens: 20,
        output_tokens: 7,
        estimated: false,
    };
    assert_eq!(answer.done.usage, Some(total));
    assert_eq!(answer.done.model, "scripted");
}

/// The next turn's conversation has the tools' part of this one, as endpoints want it; the scripted
/// provider refuses any other.
#[tokio::test(start_paused = true)]
async fn later_turns_remember_the_calls_of_earlier_ones() {
    let world = World::with_model_tools(|_| {});
    let mut client = world.connect("s").await;
    world.provider.will([weather("Oslo"), order("X")]);
    world.provider.will_say("Sunny.");
    client.say("weather?");
    client.answer().await;
    world.provider.will_say("You are welcome.");
    client.say("thanks");
    client.answer().await;
    assert_eq!(results(&world.provider, 2).len(), 2);
    let log = world.log("s").await;
    let calls = types(&log)
        .iter()
        .filter(|name| **name == "tool_call")
        .count();
    assert_eq!(calls, 2);
}

/// The limit in bytes holds to the byte, whatever the size of the pieces, and between characters.
#[tokio::test(start_paused = true)]
async fn an_answer_beyond_its_limit_is_cut_and_the_upstream_closed() {
    let world = World::with_model_tools(|limits| limits.turn.answer_bytes_max = 11);
    world.provider.will([
        Step::Say("0123456".to_owned()),
        Step::Say("ééé".repeat(1000)),
        Step::Stall,
    ]);
    let answer = ask(&world, "go on").await;
    assert_eq!(&*answer.done.text, "0123456éé");
    assert_eq!(answer.done.finish_reason, FinishReason::Length);
    world.provider.wait_for_dropped(1).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_just_within_its_limit_is_whole() {
    let world = World::with_model_tools(|limits| limits.turn.answer_bytes_max = 7);
    world.provider.will_say("0123456");
    let answer = ask(&world, "go on").await;
    assert_eq!(answer.done.finish_reason, FinishReason::Stop);
}
