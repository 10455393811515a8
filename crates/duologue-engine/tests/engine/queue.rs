//! A message that waits is in the log: nothing that happens to readers or servers loses it, and it
//! has one end, whatever it is.

use duologue_doubles::{memory::Fault, scripted::Step};
use duologue_engine::store::SessionStatus;
use duologue_protocol::{
    AssistantMessage, ClientFrame, CloseCode, DisconnectReason, EndReason, ErrorCode, Event,
    EventBody, FinishReason, ServerFrame,
};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    World,
    client::{Client, body, errors, is_done, names},
    log::types,
    seconds,
    store::Method,
    within,
};

/// A world where one answer holds at `first`, and `m2` and `m3` wait for it.
async fn two_waiting() -> (World, Client) {
    let world = World::with(|limits| {
        limits.generation.first_token_timeout = seconds(600);
        limits.generation.total_timeout = seconds(600);
    });
    world.provider.will([Step::Hold("first")]);
    let mut client = world.connect("s").await;
    client.say_as("m1", "one");
    client.say_as("m2", "two");
    client.say_as("m3", "three");
    world.provider.wait_for_requests(1).await;
    client.settle().await;
    (world, client)
}

/// The turns of a log: what was said, and how it ended.
fn turns(log: &[Event]) -> Vec<(&str, &AssistantMessage)> {
    let mut said = None;
    let mut turns = Vec::new();
    for event in log {
        match &event.body {
            EventBody::UserMessage(message) => said = Some(&*message.text),
            EventBody::AssistantMessage(done) => turns.extend(said.take().map(|said| (said, done))),
            _ => {}
        }
    }
    turns
}

fn ends(log: &[Event]) -> Vec<(&str, FinishReason)> {
    let turns = turns(log).into_iter();
    turns
        .map(|(said, done)| (said, done.finish_reason))
        .collect()
}

async fn drain(world: &World) {
    let never = CancellationToken::new();
    let stopping = world.engine.shut_down(seconds(30), &never);
    within("the engine stops", stopping).await;
}

/// The server releases the session between two turns. The next one begins where it stopped.
#[tokio::test(start_paused = true)]
async fn what_waits_while_a_server_stops_is_answered_by_the_next_one() {
    let (world, mut client) = two_waiting().await;
    world.provider.release("first");
    drain(&world).await;
    let (frames, code) = client.closed().await;
    assert_eq!(code, CloseCode::Restart);
    assert_eq!(frames.iter().filter(|frame| is_done(frame)).count(), 1);
    assert!(errors(&frames).is_empty());
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    let last_seq = world.log("s").await.len() as u64;

    let next = World::on(&world.store, "next");
    next.provider.will_say("Two.");
    next.provider.will_say("Three.");
    let mut client = next.resume("s", last_seq).await;
    assert_eq!(&*client.answer().await.done.text, "Two.");
    assert_eq!(&*client.answer().await.done.text, "Three.");
    assert_eq!(
        ends(&next.log("s").await),
        ["one", "two", "three"].map(|text| (text, FinishReason::Stop))
    );
}

/// The first server still runs, but its clients have moved. Its turn is closed as interrupted, and
/// what waited for it goes on elsewhere.
#[tokio::test(start_paused = true)]
async fn what_waits_moves_with_the_session_to_another_server() {
    let (world, mut client) = two_waiting().await;
    let other = World::on(&world.store, "there");
    other.provider.will_say("Two.");
    other.provider.will_say("Three.");
    let mut there = other.resume("s", 0).await;
    let (_, code) = client.closed().await;
    assert_eq!(code, CloseCode::TakenOver);
    let seen = there
        .until(|frame| *frame == ServerFrame::Replayed { seq: last(frame) })
        .await;
    let replayed = names(&seen);
    let waiting = replayed.iter().filter(|name| **name == "message_queued");
    assert_eq!(waiting.count(), 2, "{replayed:?}");
    assert_eq!(&*there.answer().await.done.text, "Two.");
    assert_eq!(&*there.answer().await.done.text, "Three.");
    let expected = [
        ("one", FinishReason::Interrupted),
        ("two", FinishReason::Stop),
        ("three", FinishReason::Stop),
    ];
    assert_eq!(ends(&other.log("s").await), expected);
}

/// Where a frame is the end of a replay, its position.
fn last(frame: &ServerFrame) -> duologue_protocol::Seq {
    match frame {
        ServerFrame::Replayed { seq } => *seq,
        _ => duologue_protocol::Seq::ZERO,
    }
}

/// A server is lost after a turn's end, when the next turn's message is on its way into the log and
/// has not arrived. It is stored once, by the next holder.
#[tokio::test(start_paused = true)]
async fn a_message_is_not_lost_between_its_waiting_and_its_turn() {
    let (world, mut client) = two_waiting().await;
    world.provider.will([Step::Stall]);
    // The next one is the running turn's end.
    let begins = world.store.count(Method::Append) + 2;
    world.store.hang_at(Method::Append, begins);
    world.provider.release("first");
    world.store.wait_for(Method::Append, begins).await;

    let other = World::on(&world.store, "there");
    other.provider.will_say("Two.");
    other.provider.will_say("Three.");
    let mut there = other.resume("s", 0).await;
    while &*there.answer().await.done.text != "Three." {}
    world.store.hang_no_more();
    let (_, code) = client.closed().await;
    assert_eq!(code, CloseCode::TakenOver);
    assert_eq!(
        ends(&other.log("s").await),
        ["one", "two", "three"].map(|text| (text, FinishReason::Stop))
    );
}

/// The store keeps the message, but says that it failed.
#[tokio::test(start_paused = true)]
async fn a_message_whose_storing_is_uncertain_waits_once() {
    for fault in [Fault::BeforeEffect, Fault::AfterEffect] {
        let (world, mut client) = two_waiting().await;
        world.store.fail_next_writes(3, fault);
        client.say_as("m4", "four");
        let frames = client.settle().await;
        assert_eq!(names(&frames), ["message_queued"]);
        let log = world.log("s").await;
        let waiting = types(&log);
        let waiting = waiting.iter().filter(|name| **name == "message_queued");
        assert_eq!(waiting.count(), 3);
    }
}

/// The store keeps the message, and says for so long that it failed that the session is given up.
/// The client has no receipt, and so sends again.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_sent_again_after_an_outage_is_answered_once() {
    let (world, mut client) = two_waiting().await;
    world.store.fail_next_writes(1000, Fault::AfterEffect);
    client.say_as("m4", "four");
    let (frames, code) = client.closed().await;
    assert_eq!(code, CloseCode::TryAgainLater);
    assert!(!names(&frames).contains(&"message_queued"));
    client.leave(DisconnectReason::Lost);
    world.store.fail_next_writes(0, Fault::AfterEffect);

    for text in ["Two.", "Three.", "Four."] {
        world.provider.will_say(text);
    }
    let mut client = world.resume("s", 0).await;
    client.say_as("m4", "four");
    while &*client.answer().await.done.text != "Four." {}
    client.settle().await;
    let log = world.log("s").await;
    let said = turns(&log).into_iter().filter(|(said, _)| *said == "four");
    assert_eq!(said.count(), 1);
}

/// Each gets its end with the session's, in one transaction.
#[tokio::test(start_paused = true)]
async fn an_end_cancels_the_messages_that_wait() {
    for by_closing in [false, true] {
        let (world, mut client) = two_waiting().await;
        let mut other = world.connect("s").await;
        other.settle().await;
        client.settle().await;
        let ends_before = world.store.count(Method::End);
        let reason = if by_closing {
            client.leave(DisconnectReason::Closed);
            EndReason::Closed
        } else {
            client.send(ClientFrame::End);
            EndReason::Requested
        };
        let (frames, code) = other.closed().await;
        assert_eq!(code, CloseCode::Ended);
        let told = names(&frames);
        let turn = ["user_message", "assistant_message"];
        let expected = [&["assistant_message"], &turn[..], &turn, &["session_ended"]].concat();
        assert!(told.ends_with(&expected), "{told:?}");
        assert!(errors(&frames).is_empty());
        assert_eq!(world.store.count(Method::End), ends_before + 1);
        let log = world.log("s").await;
        assert_eq!(
            ends(&log),
            ["one", "two", "three"].map(|text| (text, FinishReason::Cancelled))
        );
        let turns = turns(&log);
        assert!(turns.iter().all(|(_, done)| done.text.is_empty()));
        let record = world.record("s").await;
        assert_eq!(record.end_reason, Some(reason));
    }
}

/// The server is lost, and nobody comes back. Another one ends the session.
#[tokio::test(start_paused = true)]
async fn what_nobody_came_back_for_is_closed_as_interrupted() {
    let (world, mut client) = two_waiting().await;
    world.provider.release("first");
    drain(&world).await;
    client.closed().await;

    let next = World::on(&world.store, "next");
    let record = next.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.end_reason, Some(EndReason::Abandoned));
    let log = next.log("s").await;
    let expected = [
        ("one", FinishReason::Stop),
        ("two", FinishReason::Interrupted),
        ("three", FinishReason::Interrupted),
    ];
    assert_eq!(ends(&log), expected);
    assert!(turns(&log)[1].1.text.is_empty());
    assert!(
        next.provider
            .requests()
            .iter()
            .all(|request| { request.purpose == duologue_engine::provider::Purpose::Summary })
    );
    // A client that comes later finds a session in which nothing waits.
    let mut client = next.resume("s", log.len() as u64).await;
    client.settle().await;
    next.provider.will_say("Hello.");
    client.say("hi");
    assert_eq!(&*client.answer().await.done.text, "Hello.");
    next.log("s").await;
}

/// Its sender is gone for good, and so is everybody else. What was acknowledged is answered before
/// the session ends.
#[tokio::test(start_paused = true)]
async fn the_loss_of_all_readers_does_not_lose_what_waits() {
    let (world, client) = two_waiting().await;
    client.leave(DisconnectReason::Lost);
    world.provider.will_say("Two.");
    world.provider.will_say("Three.");
    tokio::time::sleep(seconds(15)).await;
    world.provider.release("first");
    world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(
        ends(&world.log("s").await),
        ["one", "two", "three"].map(|text| (text, FinishReason::Stop))
    );
}

/// Before its turn, in its turn and after it: each time all there is of it, and nothing is stored.
#[tokio::test(start_paused = true)]
async fn a_message_that_waited_is_answered_from_the_log_when_it_is_sent_again() {
    let (world, mut client) = two_waiting().await;
    client.say_as("m2", "two");
    let waiting = client.settle().await;
    assert_eq!(names(&waiting), ["message_queued"]);

    world.provider.will([Step::Hold("second")]);
    world.provider.release("first");
    world.provider.wait_for_requests(2).await;
    client.settle().await;
    client.say_as("m2", "two");
    let running = client.settle().await;
    assert_eq!(names(&running), ["message_queued", "user_message"]);

    world.provider.will_say("Three.");
    world.provider.release("second");
    client.answer().await;
    client.answer().await;
    let before = world.log("s").await;
    client.say_as("m2", "two");
    let over = client.settle().await;
    let all = ["message_queued", "user_message", "assistant_message"];
    assert_eq!(names(&over), all);
    assert_eq!(over[0], waiting[0], "under its first number");
    assert_eq!(over[..2], running);
    client.say_as("m2", "other");
    let frames = client.settle().await;
    assert_eq!(errors(&frames)[0].code, ErrorCode::IdempotencyMismatch);
    assert_eq!(world.log("s").await, before);
}

/// A server that stops takes nothing new, but tells what became of what it has.
#[tokio::test(start_paused = true)]
async fn a_server_that_stops_still_repeats_its_receipts() {
    let (world, mut client) = two_waiting().await;
    let again = async {
        tokio::time::sleep(seconds(1)).await;
        client.say_as("m2", "two");
        client.say_as("m9", "new");
        let frames = client.settle().await;
        assert_eq!(names(&frames), ["message_queued", "error"]);
        assert_eq!(errors(&frames)[0].id.as_ref().unwrap().as_str(), "m9");
        world.provider.release("first");
    };
    tokio::join!(drain(&world), again);
}

/// A cancel is about the turn that runs, at whatever moment it comes, and never about what waits.
#[tokio::test(start_paused = true)]
async fn each_cancel_stops_one_turn() {
    let (world, mut client) = two_waiting().await;
    world.provider.will([Step::Stall]);
    world.provider.will_say("Three.");
    for requests in [1, 2] {
        world.provider.wait_for_requests(requests).await;
        client.send(ClientFrame::Cancel);
        let done = client.until(is_done).await;
        let Some(EventBody::AssistantMessage(done)) = done.last().and_then(body) else {
            panic!("it is done");
        };
        assert_eq!(done.finish_reason, FinishReason::Cancelled);
        world.provider.wait_for_dropped(requests).await;
    }
    assert_eq!(&*client.answer().await.done.text, "Three.");
    world.log("s").await;
}
