//! A turn costs a fixed number of commits, and nothing is sent before it is stored.

use duologue_doubles::scripted::Step;
use duologue_protocol::ServerFrame;

use crate::harness::{
    World,
    client::{Client, names},
    millis,
    provider::Paced,
    store::{Method, Weather},
};

/// The store's calls that a turn on `text` costs, once the client is there.
async fn calls_of_turn(world: &World, text: &str) -> Vec<Method> {
    let mut client = world.connect("s").await;
    let before = world.store.session_calls().len();
    client.say(text);
    client.answer().await;
    world.log("s").await;
    world.store.session_calls().split_off(before)
}

/// The claim starts the log and returns what the user has used, so nothing is read and nothing appended.
#[tokio::test(start_paused = true)]
async fn a_new_session_is_opened_by_one_operation() {
    let world = World::start();
    let mut client = world.connect("s").await;
    let frames = client.settle().await;
    assert_eq!(names(&frames), ["session_started", "client_connected"]);
    assert_eq!(world.store.session_calls(), [Method::Claim]);
    assert_eq!(world.store.count(Method::TokensSpent), 0);
    world.log("s").await;
}

#[tokio::test(start_paused = true)]
async fn a_plain_turn_costs_two_commits() {
    let world = World::with_provider(Paced::boxed(3, millis(10)), |_| {});
    let calls = calls_of_turn(&world, "hi").await;
    assert_eq!(calls, [Method::Append, Method::Append]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_with_a_tool_costs_three_commits() {
    let world = World::with_provider(Paced::boxed(3, millis(10)), |_| {});
    let calls = calls_of_turn(&world, "where is my order ORD-1").await;
    assert_eq!(calls, [Method::Append, Method::Append, Method::Append]);
}

/// Nothing outside is asked for a follow-up, so all of it is one moment.
#[tokio::test(start_paused = true)]
async fn a_question_to_the_user_costs_one_commit() {
    let world = World::start();
    let calls = calls_of_turn(&world, "where is my order").await;
    assert_eq!(calls, [Method::Append]);
}

/// The pieces come all at once, so there is no time for a draft either.
#[tokio::test(start_paused = true)]
async fn an_answer_of_five_hundred_tokens_costs_two_commits() {
    let world = World::start();
    let pieces = (0..500).map(|number| Step::Say(format!("{number} ")));
    world.provider.will(pieces);
    let calls = calls_of_turn(&world, "count").await;
    assert_eq!(calls, [Method::Append, Method::Append]);
}

/// An answer takes ten seconds, a piece every 20 ms. The drafts are counted, and the times between
/// them measured.
#[tokio::test(start_paused = true)]
async fn a_forming_answer_is_kept_at_most_once_per_interval() {
    let world = World::with_provider(Paced::boxed(500, millis(20)), |_| {});
    let mut client = world.connect("s").await;
    client.say("count");
    client.answer().await;
    let drafts = world.store.times(Method::SaveDrafts);
    assert!((15..=20).contains(&drafts.len()), "{} drafts", drafts.len());
    assert!(
        drafts
            .windows(2)
            .all(|pair| pair[1] - pair[0] >= millis(500))
    );
    assert_eq!(world.store.count(Method::Append), 2);
}

/// Two answers are in progress, and both are saved by the same operations.
#[tokio::test(start_paused = true)]
async fn the_answers_of_all_sessions_are_saved_together() {
    let world = World::with_provider(Paced::boxed(500, millis(20)), |_| {});
    let (mut one, mut other) = (world.connect("s").await, world.connect("t").await);
    one.say("count");
    other.say("count");
    one.answer().await;
    other.answer().await;
    let drafts = world.store.count(Method::SaveDrafts);
    assert!((15..=20).contains(&drafts), "{drafts} saves");
}

/// The store is held while the user's message is on its way into it. The model is called meanwhile
/// and answers; but the client receives neither until both are stored.
#[tokio::test(start_paused = true)]
async fn the_model_is_asked_while_the_message_is_being_stored_and_held_back_until_it_is() {
    let world = World::start();
    world.provider.will_say("Hello.");
    let mut client = world.connect("s").await;
    client.settle().await;
    world.store.set(Weather::Hanging, [Method::Append]);
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    world.store.wait_for(Method::Append, 1).await;
    assert_eq!(client.ready(), []);

    world.store.set(Weather::Fair, [Method::Append]);
    let answer = client.answer().await;
    assert_eq!(
        names(&answer.frames),
        [
            "user_message",
            "start",
            "routed",
            "token",
            "assistant_message"
        ]
    );
}

/// A draft is only a precaution. While the store takes its time with one, the answer goes on.
#[tokio::test(start_paused = true)]
async fn a_draft_that_the_store_is_slow_to_keep_does_not_hold_up_the_answer() {
    let world = World::with_provider(Paced::boxed(100, millis(20)), |_| {});
    let mut client = world.connect("s").await;
    world.store.set(Weather::Hanging, [Method::SaveDrafts]);
    client.say("count");
    let answer = client.answer().await;
    assert_eq!(answer.pieces.len(), 100);
    assert_eq!(world.store.count(Method::SaveDrafts), 1, "one at a time");
    world.log("s").await;
}

/// A reader that attaches while a message is being stored must not receive its turn before the message
/// itself.
#[tokio::test(start_paused = true)]
async fn a_turn_is_not_told_to_a_newcomer_before_its_message_is() {
    let world = World::start();
    world.provider.will_say("Hello.");
    let first = world.connect("s").await;
    first.say("hi");
    let mut second: Client = world.connect("s").await;
    let answer = second.answer().await;
    let message = position(&answer.frames, "user_message");
    let of_the_turn = answer.frames.iter().position(|frame| {
        matches!(
            frame,
            ServerFrame::Draft { .. } | ServerFrame::Start { .. } | ServerFrame::Token { .. }
        )
    });
    assert!(Some(message) < of_the_turn, "{:?}", names(&answer.frames));
}

fn position(frames: &[ServerFrame], name: &str) -> usize {
    let names = names(frames);
    let found = names.iter().position(|found| *found == name);
    found.unwrap_or_else(|| panic!("no {name} in {names:?}"))
}
