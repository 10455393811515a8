//! A message that comes while a turn runs: it waits, is refused, or takes the turn's place, as it
//! wants, or as the server is set.

use duologue_doubles::scripted::Step;
use duologue_protocol::{ErrorCode, EventBody, FinishReason, OnBusy, ServerFrame};

use crate::harness::{
    World,
    client::{Client, body, errors, is_done, names},
    log::types,
    millis, pass,
    provider::Paced,
    tool::Act,
};

/// A world where the first answer says half of what it has to say, and then holds at `first`.
async fn half_way() -> (World, Client) {
    let world = World::start();
    world
        .provider
        .will([Step::Say("Half".to_owned()), Step::Hold("first")]);
    let mut client = world.connect("s").await;
    client.say_as("m1", "one");
    client
        .until(|frame| matches!(frame, ServerFrame::Token { .. }))
        .await;
    (world, client)
}

/// The texts and ends of the next turns, in their order.
async fn turns(client: &mut Client, count: usize) -> Vec<(String, FinishReason)> {
    let mut turns = Vec::new();
    let mut said = String::new();
    while turns.len() < count {
        match body(&client.frame().await) {
            Some(EventBody::UserMessage(message)) => said = message.text.to_string(),
            Some(EventBody::AssistantMessage(done)) => {
                turns.push((std::mem::take(&mut said), done.finish_reason));
            }
            _ => {}
        }
    }
    turns
}

fn stopped(text: &str) -> (String, FinishReason) {
    (text.to_owned(), FinishReason::Cancelled)
}

fn answered(text: &str) -> (String, FinishReason) {
    (text.to_owned(), FinishReason::Stop)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_waits_is_stored_and_acknowledged_at_once() {
    let (world, mut client) = half_way().await;
    client.say_as("m2", "two");
    let frames = client.settle().await;
    let [ServerFrame::Event(receipt)] = &frames[..] else {
        panic!("a receipt and no more: {:?}", names(&frames));
    };
    assert_eq!(receipt.turn_id, None);
    let EventBody::MessageQueued(queued) = &receipt.body else {
        panic!("{receipt:?}");
    };
    assert_eq!(&*queued.text, "two");
    assert_eq!(queued.id.as_ref().unwrap().as_str(), "m2");
    assert_eq!(queued.on_busy, OnBusy::Queue);
    assert_eq!(world.log("s").await.last(), Some(receipt));

    world.provider.will_say("Two.");
    world.provider.release("first");
    client.until(is_done).await;
    let answer = client.answer().await;
    let Some(EventBody::UserMessage(said)) = body(&answer.frames[0]) else {
        panic!("its turn begins: {:?}", names(&answer.frames));
    };
    assert_eq!(said.queued_seq, Some(receipt.seq));
    assert_eq!(said.id, queued.id);
    assert_eq!(&*answer.done.text, "Two.");
    world.log("s").await;
}

/// The first message is still on its way into the log when the second one comes. The log has them
/// in the order in which they came.
#[tokio::test(start_paused = true)]
async fn the_message_of_the_running_turn_is_stored_before_those_that_wait() {
    let world = World::start();
    world.provider.will_say("One.");
    world.provider.will_say("Two.");
    let mut client = world.connect("s").await;
    client.settle().await;
    client.say("one");
    client.say("two");
    let frames = client.until(is_done).await;
    let begins = ["user_message", "start", "message_queued", "routed"];
    assert_eq!(names(&frames)[..4], begins);
    assert_eq!(&*client.answer().await.done.text, "Two.");
    world.log("s").await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_want_to_wait_is_refused_and_not_stored() {
    let (world, mut client) = half_way().await;
    let before = world.log("s").await;
    client.say_with("m2", "two", OnBusy::Reject);
    let frames = client.settle().await;
    let [refused] = errors(&frames)[..] else {
        panic!("one refusal: {:?}", names(&frames));
    };
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.code.retryable());
    assert_eq!(refused.id.as_ref().unwrap().as_str(), "m2");
    assert_eq!(world.log("s").await, before);

    world.provider.release("first");
    client.until(is_done).await;
    world.provider.will_say("Two.");
    client.say_with("m2", "two", OnBusy::Reject);
    assert_eq!(&*client.answer().await.done.text, "Two.");
    assert!(!types(&world.log("s").await).contains(&"message_queued"));
}

/// Without a wish of the message's own, the server's setting holds; with one, it does not.
#[tokio::test(start_paused = true)]
async fn the_setting_holds_unless_the_message_says_otherwise() {
    for (setting, budget_query, expected) in [
        (OnBusy::Queue, None, "queued"),
        (OnBusy::Reject, None, "refused"),
        (OnBusy::Interrupt, None, "interrupts"),
        (OnBusy::Reject, Some(OnBusy::Queue), "queued"),
        (OnBusy::Interrupt, Some(OnBusy::Reject), "refused"),
        (OnBusy::Queue, Some(OnBusy::Interrupt), "interrupts"),
    ] {
        let world = World::with(|limits| limits.session.on_busy = setting);
        world.provider.will([Step::Hold("first")]);
        world.provider.will([Step::Hold("second")]);
        let mut client = world.connect("s").await;
        client.say("one");
        world.provider.wait_for_requests(1).await;
        client.settle().await;
        match budget_query {
            Some(on_busy) => client.say_with("m2", "two", on_busy),
            None => client.say_as("m2", "two"),
        }
        client.settle().await;
        let log = world.log("s").await;
        let is_stored = types(&log).contains(&"message_queued");
        let became = match (is_stored, world.provider.streams_dropped()) {
            (true, 0) => "queued",
            (false, 0) => "refused",
            (true, 1) => "interrupts",
            other => panic!("{other:?}"),
        };
        assert_eq!(became, expected, "{setting:?}, {budget_query:?}");
    }
}

/// The upstream connection is closed at once, and what was said until then stays.
#[tokio::test(start_paused = true)]
async fn a_message_that_interrupts_takes_the_place_of_the_running_turn() {
    let (world, mut client) = half_way().await;
    client.say_as("m2", "two");
    client.settle().await;
    for text in ["Three.", "Two."] {
        world.provider.will_say(text);
    }
    client.say_with("m3", "three", OnBusy::Interrupt);
    let frames = client.until(is_done).await;
    assert_eq!(names(&frames), ["message_queued", "assistant_message"]);
    let Some(EventBody::AssistantMessage(done)) = frames.last().and_then(body) else {
        panic!("it is done");
    };
    assert_eq!(&*done.text, "Half");
    assert_eq!(done.finish_reason, FinishReason::Cancelled);
    assert!(done.duration_ms < 1000);
    assert_eq!(world.provider.streams_dropped(), 1);
    assert_eq!(&*client.answer().await.done.text, "Three.");
    assert_eq!(&*client.answer().await.done.text, "Two.");
    // What the model received of the first answer is what the user saw of it.
    let messages = format!("{:?}", world.provider.requests()[1].messages);
    assert!(messages.contains("Half"), "{messages}");
    world.log("s").await;
}

/// The second one comes while the turn is being stopped for the first.
#[tokio::test(start_paused = true)]
async fn messages_that_interrupt_run_in_their_order_and_before_those_that_wait() {
    let (world, mut client) = half_way().await;
    client.say("waits");
    client.say_with("i1", "now", OnBusy::Interrupt);
    client.say_with("i2", "now too", OnBusy::Interrupt);
    // It must not stop the turn of an earlier one that had to wait as well, but the one that runs.
    for _ in 0..3 {
        world.provider.will_say("Yes.");
    }
    let turns = turns(&mut client, 4).await;
    assert_eq!(turns[0].1, FinishReason::Cancelled);
    assert_eq!(turns[1..], ["now", "now too", "waits"].map(answered));
    world.log("s").await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupting_message_may_be_interrupted_itself() {
    let (world, mut client) = half_way().await;
    world.provider.will([Step::Stall]);
    client.say_with("i1", "two", OnBusy::Interrupt);
    world.provider.wait_for_requests(2).await;
    world.provider.will_say("Yes.");
    client.say_with("i2", "three", OnBusy::Interrupt);
    let turns = turns(&mut client, 3).await;
    assert_eq!(turns[1..], [stopped("two"), answered("three")]);
    world.log("s").await;
}

#[tokio::test(start_paused = true)]
async fn where_nothing_runs_nothing_is_interrupted() {
    let world = World::start();
    world.provider.will_say("Hello.");
    let mut client = world.connect("s").await;
    client.say_with("m1", "hi", OnBusy::Interrupt);
    assert_eq!(client.answer().await.done.finish_reason, FinishReason::Stop);
    assert!(!types(&world.log("s").await).contains(&"message_queued"));
}

/// It could not wait until the turn is stopped, so the turn is not stopped for it.
#[tokio::test(start_paused = true)]
async fn a_message_that_finds_no_room_interrupts_nothing() {
    let (world, mut client) = half_way().await;
    for number in 0..4 {
        client.say(&format!("waits {number}"));
    }
    client.say_with("m9", "now", OnBusy::Interrupt);
    let frames = client.settle().await;
    let [refused] = errors(&frames)[..] else {
        panic!("one refusal: {:?}", names(&frames));
    };
    assert_eq!(refused.code, ErrorCode::Busy);
    assert_eq!(refused.id.as_ref().unwrap().as_str(), "m9");
    assert_eq!(world.provider.streams_dropped(), 0);
    for _ in 0..4 {
        world.provider.will_say("Yes.");
    }
    world.provider.release("first");
    let turns = turns(&mut client, 5).await;
    assert!(turns.iter().all(|(_, end)| *end == FinishReason::Stop));
}

/// The turn's own message counts until it is on record; then there is room for as many as there
/// was before.
#[tokio::test(start_paused = true)]
async fn a_message_whose_turn_begins_makes_room_for_another() {
    let (world, mut client) = half_way().await;
    for number in 0..4 {
        client.say(&format!("waits {number}"));
    }
    client.settle().await;
    world.provider.will([Step::Hold("second")]);
    world.provider.release("first");
    client.until(is_done).await;
    client.say_as("m9", "last");
    let frames = client.settle().await;
    assert!(errors(&frames).is_empty(), "{:?}", names(&frames));
    assert!(names(&frames).contains(&"message_queued"));
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_interrupted_like_an_answer() {
    let world = World::start();
    world.tools.will("fetch_order", Act::Hang);
    let mut client = world.connect("s").await;
    client.say("where is my order ORD-1");
    world.tools.wait_for_uses(1).await;
    world.provider.will_say("Gladly.");
    client.say_with("m2", "something else", OnBusy::Interrupt);
    let turns = turns(&mut client, 2).await;
    assert_eq!(
        turns,
        [
            stopped("where is my order ORD-1"),
            answered("something else")
        ]
    );
    world.log("s").await;
}

/// Both messages are in the inbox before the first turn starts, so the second interrupts a turn whose
/// message is not yet stored. It is stored all the same, and its turn gets its end.
#[tokio::test(start_paused = true)]
async fn a_turn_that_has_hardly_begun_is_interrupted_all_the_same() {
    let world = World::start();
    world.provider.will([Step::Hold("first")]);
    world.provider.will_say("Two.");
    let mut client = world.connect("s").await;
    client.say("one");
    client.say_with("m2", "two", OnBusy::Interrupt);
    let turns = turns(&mut client, 2).await;
    assert_eq!(turns, [stopped("one"), answered("two")]);
    assert_eq!(world.provider.streams_dropped(), 1);
    world.log("s").await;
}

/// Another message comes at every millisecond around the end of a turn. Whether it waits, interrupts
/// or starts at once, both are answered, once.
#[tokio::test(start_paused = true)]
async fn a_message_may_come_in_the_very_moment_in_which_a_turn_ends() {
    for on_busy in [OnBusy::Queue, OnBusy::Interrupt] {
        for moment in 25..35 {
            let world = World::with_provider(Paced::boxed(3, millis(10)), |_| {});
            let mut client = world.connect("s").await;
            client.say("one");
            pass(millis(moment)).await;
            client.say_with("m2", "two", on_busy);
            let turns = turns(&mut client, 2).await;
            assert_eq!(turns[0].0, "one");
            assert_eq!(turns[1], answered("two"));
            assert!(!client.settle().await.iter().any(is_done));
            world.log("s").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_readers_see_what_waits_and_their_order_is_the_sessions() {
    let (world, mut client) = half_way().await;
    let mut other = world.connect("s").await;
    other.settle().await;
    client.settle().await;
    for _ in 0..3 {
        world.provider.will_say("Yes.");
    }
    client.say("from the first");
    client.settle().await;
    other.say("from the second");
    other.settle().await;
    client.say("from the first again");
    world.provider.release("first");
    let expected = ["from the first", "from the second", "from the first again"];
    let seen = turns(&mut client, 4).await;
    assert_eq!(seen[1..], expected.map(answered));
    assert_eq!(turns(&mut other, 4).await[1..], expected.map(answered));
}
