//! How much a user may use, and that no detour leads around it: not another tab or session, not coming
//! back, not sending again, not another server.

use std::num::{NonZeroU32, NonZeroU64};

use duologue_doubles::scripted::Step;
use duologue_engine::{
    AttachError, Delivery, Limits,
    provider::{ModelCall, StopReason},
};
use duologue_protocol::{
    CloseCode, DisconnectReason, EndReason, ErrorCode, ErrorFrame, EventBody, FinishReason, OnBusy,
    ServerFrame, Usage,
};
use serde_json::json;

use crate::harness::{
    World,
    client::{Client, body, errors, is_done, message},
    log::types,
    millis, pass,
    provider::Paced,
    seconds,
};

/// What each answer of these tests costs, all in all.
const COST: u64 = 1000;

/// A day of 3000 tokens, and answers of at most 500.
fn small_day(limits: &mut Limits) {
    limits.tokens.user_per_day_max = 3 * COST;
    limits.turn.output_tokens_max = 500;
}

/// Scripts answers that cost [`COST`] tokens each.
fn will_answer(world: &World, count: usize) {
    for _ in 0..count {
        let usage = Usage {
            input_tokens: COST - 100,
            output_tokens: 100,
            estimated: false,
        };
        let finish = Step::Finish(StopReason::Stop, Some(usage));
        world.provider.will([Step::Say("Yes.".to_owned()), finish]);
    }
}

/// Says something, and waits for the answer or the refusal.
async fn ask(client: &mut Client, text: &str) -> Result<(), ErrorFrame> {
    client.say(text);
    let is_refusal = |frame: &ServerFrame| matches!(frame, ServerFrame::Error(_));
    let frames = client
        .until(|frame| is_done(frame) || is_refusal(frame))
        .await;
    match frames.last() {
        Some(ServerFrame::Error(error)) => Err(error.clone()),
        _ => Ok(()),
    }
}

#[track_caller]
fn assert_over_budget(answer: Result<(), ErrorFrame>) -> ErrorFrame {
    let error = answer.expect_err("it is refused");
    assert_eq!(error.code, ErrorCode::OverBudget);
    assert!(!error.code.retryable());
    error
}

/// Nothing is stored of what is refused, and at midnight there is a new day.
#[tokio::test(start_paused = true)]
async fn a_user_who_is_over_budget_is_refused_until_midnight() {
    let world = World::with(small_day);
    // Five minutes to midnight, since a day is long even where time is paused.
    world.clock.step_back(seconds(300));
    will_answer(&world, 4);
    let mut client = world.connect("s").await;
    for _ in 0..3 {
        ask(&mut client, "more").await.unwrap();
    }
    let before = world.log("s").await;
    let refused = assert_over_budget(ask(&mut client, "more").await);
    assert_eq!(world.log("s").await, before);
    let wait = refused.retry_after_ms.expect("it says when");
    assert!((290_000..=300_000).contains(&wait), "{wait}");
    pass(std::time::Duration::from_millis(wait)).await;
    let mut client = world.connect("t").await;
    ask(&mut client, "good morning").await.unwrap();
}

/// Another session, another tab, coming back, the same message again: the budget is the user's.
#[tokio::test(start_paused = true)]
async fn no_detour_leads_around_the_budget_of_a_day() {
    let world = World::with(small_day);
    will_answer(&world, 3);
    let mut one = world.connect("one").await;
    ask(&mut one, "first").await.unwrap();
    let mut two = world.connect("two").await;
    ask(&mut two, "second").await.unwrap();
    let mut tab = world.connect("two").await;
    ask(&mut tab, "third").await.unwrap();
    for client in [&mut one, &mut two, &mut tab] {
        client.settle().await;
        assert_over_budget(ask(client, "fourth").await);
        client.say_as("again", "fourth");
        client.say_as("again", "fourth");
        let frames = client.settle().await;
        assert_eq!(errors(&frames).len(), 2);
    }
    one.leave(DisconnectReason::Closed);
    let mut back = world.resume("one", 1).await;
    back.settle().await;
    assert_over_budget(ask(&mut back, "fourth").await);
    let mut new = world.connect("new").await;
    assert_over_budget(ask(&mut new, "fourth").await);
    assert_eq!(
        world
            .provider
            .requests()
            .iter()
            .filter(|r| is_turn(r))
            .count(),
        3
    );
}

fn is_turn(request: &duologue_engine::provider::Request) -> bool {
    request.purpose == duologue_engine::provider::Purpose::Turn
}

/// A server that has never seen the user learns from the log what was spent elsewhere.
#[tokio::test(start_paused = true)]
async fn another_server_knows_what_was_spent_before() {
    let world = World::with(small_day);
    will_answer(&world, 3);
    let mut client = world.connect("s").await;
    for _ in 0..3 {
        ask(&mut client, "more").await.unwrap();
    }
    let other = World::on_with(&world.store, "there", small_day);
    let mut client = other.connect("t").await;
    assert_over_budget(ask(&mut client, "more").await);
    assert_eq!(other.provider.requests().len(), 0);
}

/// Two servers at once: what is spent on one is known on the other half a minute later, after a message.
#[tokio::test(start_paused = true)]
async fn servers_learn_of_each_others_spending() {
    let here = World::with(small_day);
    let there = World::on_with(&here.store, "there", small_day);
    will_answer(&here, 3);
    will_answer(&there, 1);
    let mut a = here.connect("a").await;
    let mut b = there.connect("b").await;
    for _ in 0..3 {
        ask(&mut a, "more").await.unwrap();
    }
    pass(seconds(31)).await;
    // This message is judged by what was known, and has the rest asked for.
    ask(&mut b, "one too many").await.unwrap();
    b.settle().await;
    assert_over_budget(ask(&mut b, "and another").await);
}

/// Ten sessions at the same moment. Each turn that runs has its reserve, so that they cannot all begin
/// on the same last tokens.
#[tokio::test(start_paused = true)]
async fn turns_at_once_spend_no_more_than_the_budget_and_what_is_reserved() {
    let world = World::with(|limits| {
        limits.tokens.user_per_day_max = 1200;
        limits.turn.output_tokens_max = 500;
    });
    for _ in 0..3 {
        let usage = Usage {
            input_tokens: 0,
            output_tokens: 500,
            estimated: false,
        };
        let finish = Step::Finish(StopReason::Stop, Some(usage));
        world.provider.will([Step::Hold("go"), finish]);
    }
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(world.connect(&format!("s{number}")).await);
    }
    for client in &clients {
        client.say("go");
    }
    world.provider.wait_for_requests(3).await;
    let mut refused = 0;
    for client in &mut clients {
        let frames = client.settle().await;
        refused += errors(&frames).len();
    }
    assert_eq!(refused, 7);
    world.provider.release("go");
    // Three of 500: what was reserved when the last one began was below the budget of 1200.
    pass(seconds(1)).await;
    assert_eq!(world.provider.requests().len(), 3);
    for client in &mut clients {
        client.settle().await;
    }
    assert_over_budget(ask(&mut clients[0], "more").await);
}

/// Cancelling just before the end pays for what was said.
#[tokio::test(start_paused = true)]
async fn an_answer_that_was_cancelled_is_paid_for_by_its_size() {
    let world = World::with(|limits| limits.tokens.user_per_day_max = 1000);
    world
        .provider
        .will([Step::Say("x".repeat(8000)), Step::Stall]);
    let mut client = world.connect("s").await;
    client.say("a long story");
    client
        .until(|frame| matches!(frame, ServerFrame::Token { .. }))
        .await;
    client.send(duologue_protocol::ClientFrame::Cancel);
    let frames = client.until(is_done).await;
    let Some(EventBody::AssistantMessage(done)) = frames.last().and_then(body) else {
        panic!("the last frame is `done`");
    };
    let usage = done.usage.expect("it is estimated");
    assert!(usage.estimated);
    assert_eq!(usage.output_tokens, 2000);
    assert!(usage.input_tokens > 0);
    assert_over_budget(ask(&mut client, "another").await);
}

/// Waiting is no help: a message that waited when the tokens ran out ends at once, without the model.
#[tokio::test(start_paused = true)]
async fn a_message_that_waited_for_tokens_in_vain_ends_at_once() {
    let world = World::with(|limits| {
        limits.tokens.session_max = COST;
    });
    let usage = Usage {
        input_tokens: COST,
        output_tokens: 0,
        estimated: false,
    };
    let finish = Step::Finish(StopReason::Stop, Some(usage));
    world.provider.will([Step::Hold("go"), finish]);
    let mut client = world.connect("s").await;
    client.say("one");
    world.provider.wait_for_requests(1).await;
    client.say_with("m2", "two", OnBusy::Queue);
    client.settle().await;
    world.provider.release("go");
    client.answer().await;
    let answer = client.answer().await;
    assert_eq!(answer.done.finish_reason, FinishReason::Error);
    assert_eq!(answer.done.error, Some(ErrorCode::OverBudget));
    assert_eq!(answer.done.usage, None);
    let [error] = errors(&answer.frames)[..] else {
        panic!("one error: {:?}", answer.frames);
    };
    assert_eq!(
        (error.code, error.retry_after_ms),
        (ErrorCode::OverBudget, None)
    );
    assert_eq!(world.provider.requests().len(), 1);
    world.log("s").await;
}

/// The log remembers: another server, after an ending, knows that the session has had its share.
#[tokio::test(start_paused = true)]
async fn a_session_that_has_used_up_its_tokens_has_no_more_turns_anywhere() {
    let small = |limits: &mut Limits| limits.tokens.session_max = COST;
    let world = World::with(small);
    will_answer(&world, 1);
    let mut client = world.connect("s").await;
    ask(&mut client, "one").await.unwrap();
    let refused = assert_over_budget(ask(&mut client, "two").await);
    assert_eq!(refused.retry_after_ms, None);
    client.leave(DisconnectReason::Closed);
    let other = World::on_with(&world.store, "there", small);
    let mut client = other.connect("s").await;
    assert_over_budget(ask(&mut client, "two").await);
    will_answer(&other, 1);
    let mut fresh = other.connect("fresh").await;
    ask(&mut fresh, "one").await.unwrap();
}

/// The process has a budget too, and summaries are paid from it.
#[tokio::test(start_paused = true)]
async fn a_summary_is_paid_by_the_process_and_not_by_the_user() {
    let world = World::with(|limits| {
        limits.tokens.process_per_day_max = 3 * COST;
        limits.tokens.user_per_day_max = 2 * COST;
    });
    will_answer(&world, 1);
    let usage = Usage {
        input_tokens: 2 * COST,
        output_tokens: 0,
        estimated: false,
    };
    let finish = Step::Finish(StopReason::Stop, Some(usage));
    world
        .provider
        .will_summarize([Step::Say("Short.".to_owned()), finish]);
    let mut client = world.connect("s").await;
    ask(&mut client, "one").await.unwrap();
    client.leave(DisconnectReason::Closed);
    world
        .until_status("s", duologue_engine::store::SessionStatus::Completed)
        .await;
    let mut client = world.connect("t").await;
    let refused = assert_over_budget(ask(&mut client, "two").await);
    assert!(refused.message.contains("server"), "{}", refused.message);
    assert!(refused.retry_after_ms.is_some());
}

/// The process has used up its tokens when a session ends. Its summary waits for the next day, and uses
/// up no attempts meanwhile.
#[tokio::test(start_paused = true)]
async fn a_summary_waits_for_the_next_day_without_using_up_its_attempts() {
    let world = World::with(|limits| limits.tokens.process_per_day_max = COST);
    // The clock starts at midnight.
    world.clock.step_back(seconds(600));
    will_answer(&world, 1);
    let mut client = world.connect("s").await;
    ask(&mut client, "one").await.unwrap();
    client.leave(DisconnectReason::Closed);
    pass(seconds(540)).await;
    assert_eq!(world.record("s").await.end_reason, Some(EndReason::Closed));
    let summary = Step::Say("Short.".to_owned());
    let finish = Step::Finish(StopReason::Stop, None);
    world.provider.will_summarize([summary, finish]);
    pass(seconds(120)).await;
    assert_eq!(world.record("s").await.summary.as_deref(), Some("Short."));
}

#[tokio::test(start_paused = true)]
async fn a_user_has_so_many_turns_running_and_no_more() {
    let world = World::with(|limits| limits.user.turns_running_max = 2);
    let mut clients = Vec::new();
    for name in ["a", "b", "c"] {
        world.provider.will([Step::Hold("go")]);
        clients.push(world.connect(name).await);
    }
    clients[0].say("one");
    clients[1].say("two");
    world.provider.wait_for_requests(2).await;
    let refused = ask(&mut clients[2], "three").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooManyRequests);
    assert!(refused.retry_after_ms.is_some());
    assert!(!types(&world.log("c").await).contains(&"user_message"));
    world.provider.release("go");
    clients[0].until(is_done).await;
    ask(&mut clients[2], "three").await.unwrap();
}

/// A turn that was cut short gives its place back too.
#[tokio::test(start_paused = true)]
async fn a_cancelled_turn_gives_its_place_back() {
    let world = World::with(|limits| limits.user.turns_running_max = 1);
    for _ in 0..5 {
        world.provider.will([Step::Stall]);
    }
    let mut client = world.connect("s").await;
    for count in 1..=5 {
        client.say("go");
        world.provider.wait_for_requests(count).await;
        client.send(duologue_protocol::ClientFrame::Cancel);
        client.until(is_done).await;
    }
}

/// Sending it again is no new turn, and what waits has its turn counted when it is taken.
#[tokio::test(start_paused = true)]
async fn turns_are_counted_by_the_minute() {
    let world = World::with(|limits| {
        limits.user.turns_per_minute = NonZeroU32::new(3).expect("three");
    });
    will_answer(&world, 4);
    let mut client = world.connect("s").await;
    client.say_as("m1", "one");
    client.until(is_done).await;
    for _ in 0..10 {
        client.say_as("m1", "one");
    }
    client.settle().await;
    let mut other = world.connect("other").await;
    ask(&mut other, "two").await.unwrap();
    ask(&mut client, "three").await.unwrap();
    let refused = ask(&mut other, "four").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooManyRequests);
    let wait = refused.retry_after_ms.expect("it says when");
    assert!((1..=20_000).contains(&wait), "{wait}");
    pass(std::time::Duration::from_millis(wait + 1)).await;
    ask(&mut other, "four").await.unwrap();
}

/// A session that lives can be come back to; a new one has to wait until one is over.
#[tokio::test(start_paused = true)]
async fn a_user_has_so_many_sessions_and_no_more() {
    let world = World::with(|limits| {
        limits.user.sessions_max = NonZeroU32::new(2).expect("two");
    });
    let one = world.connect("one").await;
    let _two = world.connect("two").await;
    let refused = world.attach("three", "alice", None).await;
    assert!(matches!(refused, Err(AttachError::TooManySessions)));
    world.connect("one").await;
    assert!(world.attach("bobs", "bob", None).await.is_ok());
    one.leave(DisconnectReason::Closed);
    crate::harness::until("there is room", async || {
        world.attach("three", "alice", None).await.ok()
    })
    .await;
}

/// What every refusal leaves behind: nothing.
#[tokio::test(start_paused = true)]
async fn a_flood_of_messages_leaves_nothing_in_the_log() {
    let world = World::with(|limits| limits.tokens.session_max = 1);
    will_answer(&world, 1);
    let mut client = world.connect("s").await;
    ask(&mut client, "one").await.unwrap();
    for _ in 0..200 {
        assert_over_budget(ask(&mut client, "more").await);
    }
    let log = world.log("s").await;
    let said = log
        .iter()
        .filter(|event| matches!(event.body, EventBody::UserMessage(_)));
    assert_eq!(said.count(), 1);
}

/// Three readers take nothing, each within its own bound, and together beyond that of the process.
#[tokio::test(start_paused = true)]
async fn what_waits_for_all_readers_together_is_bounded() {
    let world = World::with_provider(Paced::boxed(200, millis(1)), |limits| {
        limits.session.reader_bytes_max = 100_000;
        limits.process.bytes_in_flight_max = NonZeroU64::new(30_000).expect("it is not zero");
    });
    let mut client = world.connect("s").await;
    let slow = [
        world.connect("s").await,
        world.connect("s").await,
        world.connect("s").await,
    ];
    client.say("count");
    assert_eq!(client.answer().await.pieces.len(), 200);

    // Until they are gone, there is no room for much else.
    let long = "x".repeat(10_000);
    let refused = client.submit(message(&long, None));
    let refused = refused.expect_err("there is no room");
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.retry_after_ms.is_some());
    for mut reader in slow {
        let mut frames = 0;
        let code = loop {
            match reader.receive().await {
                Delivery::Frame(_) | Delivery::Tokens(_) => frames += 1,
                Delivery::Close(code) => break code,
            }
        };
        assert_eq!(code, CloseCode::Slow);
        assert!(frames < 200, "{frames}");
        reader.leave(DisconnectReason::Slow);
    }
    ask(&mut client, &long).await.expect("now there is");
}

/// A model that calls one tool after the other asks for more each time. It gets no further than the
/// tokens do, and what it used is booked.
#[tokio::test(start_paused = true)]
async fn a_turn_asks_its_model_again_only_while_there_are_tokens() {
    let limited: [fn(&mut Limits); 3] = [
        |limits| limits.tokens.session_max = COST,
        |limits| limits.tokens.user_per_day_max = COST,
        |limits| limits.tokens.process_per_day_max = COST,
    ];
    for limit in limited {
        let world = World::with_model_tools(limit);
        let usage = Usage {
            input_tokens: COST,
            output_tokens: 0,
            estimated: false,
        };
        let call = Step::Call(ModelCall {
            id: "call".to_owned(),
            name: "weather".to_owned(),
            arguments: json!({ "city": "Oslo" }),
        });
        let finish = Step::Finish(StopReason::Stop, Some(usage));
        world.provider.will([call, finish]);
        let mut client = world.connect("s").await;
        client.say("what is the weather?");
        let answer = client.answer().await;
        assert_eq!(answer.done.finish_reason, FinishReason::Error);
        assert_eq!(answer.done.error, Some(ErrorCode::OverBudget));
        assert_eq!(answer.done.usage, Some(usage));
        assert_eq!(world.provider.requests().len(), 1);
        assert_eq!(world.tools.uses().len(), 1);
        world.log("s").await;
    }
}
