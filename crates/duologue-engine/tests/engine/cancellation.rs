//! A turn can be cancelled at every moment, and ends exactly once.

use duologue_doubles::scripted::Step;
use duologue_engine::provider::{ModelCall, ProviderError, StopReason};
use duologue_protocol::{
    ClientFrame, DisconnectReason, ErrorCode, EventBody, FinishReason, ServerFrame, ToolOutcome,
    Usage,
};
use serde_json::json;

use crate::harness::{
    World,
    client::{Answer, Client, body, errors, is_done},
    tool::Act,
};

fn stalling(text: &str) -> [Step; 2] {
    [Step::Say(text.to_owned()), Step::Stall]
}

/// Awaits the end of the cancelled turn, makes sure that there is only one, and that the session
/// goes on.
async fn cancelled(world: &World, client: &mut Client) -> Answer {
    let answer = client.answer().await;
    assert_eq!(answer.done.finish_reason, FinishReason::Cancelled);
    assert_eq!(answer.done.error, None);
    assert!(errors(&answer.frames).is_empty());
    assert!(!client.settle().await.iter().any(is_done));
    world.log("s").await;

    world.provider.will_say("Here I am.");
    client.say("are you there?");
    let next = client.answer().await;
    assert_eq!(next.done.finish_reason, FinishReason::Stop);
    assert_eq!(next.turn_id.0, answer.turn_id.0 + 1);
    answer
}

/// Both requests wait in the inbox, so the turn has not run at all when it is cancelled.
#[tokio::test(start_paused = true)]
async fn before_the_model_is_asked() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.say("hi");
    client.send(ClientFrame::Cancel);
    let answer = cancelled(&world, &mut client).await;
    assert_eq!(&*answer.done.text, "");
    assert_eq!(world.provider.requests().len(), 1, "only the next turn's");
}

#[tokio::test(start_paused = true)]
async fn before_the_first_piece() {
    let world = World::start();
    world.provider.will([Step::Stall]);
    let mut client = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    client.send(ClientFrame::Cancel);
    world.provider.wait_for_dropped(1).await;
    cancelled(&world, &mut client).await;
}

/// The upstream connection is closed at once, not when its next piece comes.
#[tokio::test(start_paused = true)]
async fn in_mid_answer() {
    let world = World::start();
    world.provider.will(stalling("Half of "));
    let mut client = world.connect("s").await;
    client.say("hi");
    client
        .until(|frame| matches!(frame, ServerFrame::Token { .. }))
        .await;
    client.send(ClientFrame::Cancel);
    world.provider.wait_for_dropped(1).await;
    let done = client.until(is_done).await;
    let Some(EventBody::AssistantMessage(done)) = done.last().and_then(body) else {
        panic!("it is done");
    };
    assert_eq!(&*done.text, "Half of ");
    assert_eq!(done.finish_reason, FinishReason::Cancelled);
    assert!(done.duration_ms < 1000);
    assert!(!client.settle().await.iter().any(is_done));
    world.log("s").await;
}

/// The call has begun, so it gets a result that says why there is none.
#[tokio::test(start_paused = true)]
async fn while_a_tool_runs() {
    let world = World::start();
    world.tools.will("fetch_order", Act::Hang);
    let mut client = world.connect("s").await;
    client.say("where is my order ORD-1");
    world.tools.wait_for_uses(1).await;
    client.send(ClientFrame::Cancel);
    let answer = cancelled(&world, &mut client).await;
    let result = answer.frames.iter().find_map(|frame| match body(frame) {
        Some(EventBody::ToolResult(result)) => Some(result),
        _ => None,
    });
    let outcome = &result.expect("the call has a result").outcome;
    assert!(matches!(outcome, ToolOutcome::Error(_)), "{outcome:?}");
    assert!(answer.done.duration_ms < 1000);
}

/// The first request of the turn was counted by the endpoint before the second one is cancelled.
#[tokio::test(start_paused = true)]
async fn what_was_counted_until_then_is_kept() {
    let world = World::with_model_tools(|_| {});
    let usage = Usage {
        input_tokens: 100,
        output_tokens: 7,
        estimated: false,
    };
    let call = ModelCall {
        id: "a".to_owned(),
        name: "fetch_order".to_owned(),
        arguments: json!({ "order_id": "ORD-1" }),
    };
    world.provider.will([
        Step::Say("Let me see. ".to_owned()),
        Step::Call(call),
        Step::Finish(StopReason::Stop, Some(usage)),
    ]);
    world.provider.will(stalling("It is "));
    let mut client = world.connect("s").await;
    client.say("where is ORD-1?");
    world.provider.wait_for_requests(2).await;
    client
        .until(|frame| matches!(frame, ServerFrame::Token { index: 1, .. }))
        .await;
    client.send(ClientFrame::Cancel);
    world.provider.wait_for_dropped(1).await;
    let frames = client.until(is_done).await;
    let Some(EventBody::AssistantMessage(done)) = frames.last().and_then(body) else {
        panic!("it is done");
    };
    assert_eq!(done.finish_reason, FinishReason::Cancelled);
    let kept = done.usage.expect("a model was asked");
    assert!(kept.estimated, "the second request was not counted");
    assert!(kept.input_tokens > usage.input_tokens);
    assert!(kept.output_tokens >= usage.output_tokens);
    assert_eq!(&*done.text, "Let me see. It is ");
    world.log("s").await;
}

/// A socket that is lost is no cancel: the answer goes on, and its upstream connection stays open.
#[tokio::test(start_paused = true)]
async fn the_loss_of_the_socket_is_none() {
    let world = World::start();
    world.provider.will([
        Step::Say("Half".to_owned()),
        Step::Hold("half-way"),
        Step::Say(" and half.".to_owned()),
    ]);
    let mut client = world.connect("s").await;
    client.say("hi");
    client
        .until(|frame| matches!(frame, ServerFrame::Token { .. }))
        .await;
    client.leave(DisconnectReason::Lost);
    let mut client = world.resume("s", 0).await;
    client.settle().await;
    assert_eq!(world.provider.streams_dropped(), 0);
    assert_eq!(world.provider.streams_open(), 1);
    world.provider.release("half-way");
    let frames = client.until(is_done).await;
    let Some(EventBody::AssistantMessage(done)) = frames.last().and_then(body) else {
        panic!("it is done");
    };
    assert_eq!(&*done.text, "Half and half.");
}

/// Who reads may cancel, also where another one asked.
#[tokio::test(start_paused = true)]
async fn from_any_reader() {
    let world = World::start();
    world.provider.will([Step::Stall]);
    let mut client = world.connect("s").await;
    let other = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    other.send(ClientFrame::Cancel);
    world.provider.wait_for_dropped(1).await;
    cancelled(&world, &mut client).await;
}

/// The wait between two attempts is long; a cancel must not wait for it.
#[tokio::test(start_paused = true)]
async fn between_two_attempts_at_the_model() {
    let world = World::with(|limits| {
        limits.generation.retry_delay = std::time::Duration::from_secs(50);
    });
    let away = ProviderError::Unavailable("away".into());
    world.provider.will([Step::Fail(away)]);
    let mut client = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    client.send(ClientFrame::Cancel);
    let answer = cancelled(&world, &mut client).await;
    assert!(answer.done.duration_ms < 1000);
}

#[tokio::test(start_paused = true)]
async fn with_nothing_to_cancel_nothing_happens() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    client.send(ClientFrame::Cancel);
    assert_eq!(client.settle().await, []);
    world.provider.will_say("Hello.");
    client.say("hi");
    assert_eq!(client.answer().await.done.finish_reason, FinishReason::Stop);
}

/// A message that waits was not meant by the cancel.
#[tokio::test(start_paused = true)]
async fn messages_that_wait_have_their_turns_all_the_same() {
    let world = World::start();
    world.provider.will([Step::Stall]);
    world.provider.will_say("Second.");
    let mut client = world.connect("s").await;
    client.say("one");
    client.say("two");
    world.provider.wait_for_requests(1).await;
    client.send(ClientFrame::Cancel);
    assert_eq!(
        client.answer().await.done.finish_reason,
        FinishReason::Cancelled
    );
    assert_eq!(&*client.answer().await.done.text, "Second.");
    world.log("s").await;
}

/// The scripted provider panics when it has no script.
#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_turn_and_the_session_goes_on() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.say("hi");
    let answer = client.answer().await;
    assert_eq!(answer.done.finish_reason, FinishReason::Error);
    assert_eq!(answer.done.error, Some(ErrorCode::Internal));
    world.provider.will_say("Hello.");
    client.say("hi again");
    assert_eq!(&*client.answer().await.done.text, "Hello.");
    world.log("s").await;
}

/// What was shown stays; the turn says that it failed, and the client what it may do.
#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_keeps_what_was_shown() {
    let world = World::start();
    world
        .provider
        .will([Step::Say("Half".to_owned()), Step::BreakOff]);
    let mut client = world.connect("s").await;
    client.say("hi");
    let answer = client.answer().await;
    assert_eq!(&*answer.done.text, "Half");
    assert_eq!(answer.done.error, Some(ErrorCode::UpstreamUnavailable));
    assert_eq!(errors(&answer.frames).len(), 1);
    assert_eq!(world.provider.requests().len(), 1);
}
