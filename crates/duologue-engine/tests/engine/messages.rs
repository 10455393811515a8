//! Messages: each is stored once and answered once, and a flood of them is refused, not suffered.

use duologue_doubles::scripted::Step;
use duologue_protocol::{ClientFrame, ErrorCode, FinishReason, ServerFrame};

use crate::harness::{
    World,
    client::{errors, is_done, message, names},
    log::types,
    pass, seconds,
    store::{Method, Weather},
};

#[tokio::test(start_paused = true)]
async fn messages_have_their_turns_one_after_the_other() {
    let world = World::start();
    for text in ["One.", "Two.", "Three."] {
        world.provider.will_say(text);
    }
    let mut client = world.connect("s").await;
    for text in ["1", "2", "3"] {
        client.say(text);
    }
    for text in ["One.", "Two.", "Three."] {
        assert_eq!(&*client.answer().await.done.text, text);
    }
    world.log("s").await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_messages_wait_for_the_running_turn() {
    let world = World::start();
    world.provider.will([Step::Hold("first")]);
    let mut client = world.connect("s").await;
    for number in 0..6 {
        client.say_as(&format!("m{number}"), "hi");
    }
    let frames = client.settle().await;
    let [refused] = errors(&frames)[..] else {
        panic!("one message is too many: {:?}", names(&frames));
    };
    assert_eq!(refused.code, ErrorCode::Busy);
    assert_eq!(refused.id.as_ref().unwrap().as_str(), "m5");
    for _ in 0..4 {
        world.provider.will_say("Yes.");
    }
    world.provider.release("first");
    for _ in 0..5 {
        client.answer().await;
    }
}

/// The session waits for its store, and so reads nothing. A client that goes on sending is refused
/// at once; its departure is heard all the same.
#[tokio::test(start_paused = true)]
async fn a_flood_of_requests_is_refused_and_drowns_no_departure() {
    let world = World::start();
    let mut client = world.connect("s").await;
    let other = world.connect("s").await;
    client.settle().await;
    world.store.set(Weather::Hanging, [Method::Append]);
    let before = world.store.count(Method::Append);
    client.say("hi");
    world.provider.will_say("Hello.");
    world.store.wait_for(Method::Append, before + 1).await;
    let accepted = (0..1000).take_while(|_| client.submit(ClientFrame::Ping).is_ok());
    let accepted = accepted.count();
    assert!((64..=74).contains(&accepted), "{accepted}");
    let refused = client.submit(message("more", Some("m1"))).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert_eq!(refused.id.unwrap().as_str(), "m1");
    drop(other);

    world.store.set(Weather::Fair, [Method::Append]);
    let frames = client
        .until(|frame| names(std::slice::from_ref(frame)) == ["client_disconnected"])
        .await;
    let pongs = frames
        .iter()
        .filter(|frame| **frame == ServerFrame::Pong)
        .count();
    assert_eq!(pongs, accepted);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_sent_again_gets_its_receipt_and_its_end_again() {
    let world = World::start();
    world.provider.will_say("Hello.");
    let mut client = world.connect("s").await;
    client.say_as("m1", "hi");
    client.answer().await;
    world.provider.will_say("Bye.");
    client.say_as("m2", "bye");
    client.answer().await;
    let before = world.log("s").await;

    client.say_as("m1", "hi");
    let frames = client.settle().await;
    assert_eq!(names(&frames), ["user_message", "assistant_message"]);
    let seqs: Vec<u64> = frames
        .iter()
        .filter_map(|frame| match frame {
            ServerFrame::Event(event) => Some(event.seq.0),
            _ => None,
        })
        .collect();
    assert_eq!(seqs, [3, 5], "under their first numbers");
    assert_eq!(world.log("s").await, before);

    drop(client);
    let mut client = world.connect("s").await;
    client.say_as("m2", "bye");
    let names = names(&client.settle().await);
    assert!(names.ends_with(&["user_message", "assistant_message"]));
}

/// Only the message's own turn is read, however long the log has become since.
#[tokio::test(start_paused = true)]
async fn the_receipt_of_an_old_message_costs_no_more_than_that_of_a_new_one() {
    let world = World::start();
    let mut client = world.connect("s").await;
    for number in 0..400 {
        world.provider.will_say("Yes.");
        client.say_as(&format!("m{number}"), "hi");
        client.answer().await;
    }
    let before = world.store.count(Method::Read);
    client.say_as("m0", "hi");
    let frames = client.settle().await;
    assert_eq!(names(&frames), ["user_message", "assistant_message"]);
    assert_eq!(world.store.count(Method::Read), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_id_stands_for_one_text() {
    let world = World::start();
    world.provider.will_say("Hello.");
    world.provider.will([Step::Stall]);
    let mut client = world.connect("s").await;
    client.say_as("answered", "one");
    client.answer().await;
    client.say_as("running", "two");
    world.provider.wait_for_requests(2).await;
    client.say_as("waiting", "three");
    for id in ["answered", "running", "waiting"] {
        client.settle().await;
        client.say_as(id, "other");
        let frames = client.settle().await;
        let [error] = errors(&frames)[..] else {
            panic!("`{id}` is refused once");
        };
        assert_eq!(error.code, ErrorCode::IdempotencyMismatch);
        assert_eq!(error.id.as_ref().unwrap().as_str(), id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_sent_again_while_it_waits_is_answered_once() {
    let world = World::start();
    world.provider.will([Step::Hold("first")]);
    world.provider.will_say("Two.");
    let mut client = world.connect("s").await;
    client.say_as("m1", "one");
    client.say_as("m1", "one");
    client.say_as("m2", "two");
    client.say_as("m2", "two");
    client.settle().await;
    world.provider.release("first");
    client.answer().await;
    assert_eq!(&*client.answer().await.done.text, "Two.");
    assert!(!client.settle().await.iter().any(is_done));
    let log = world.log("s").await;
    let messages = types(&log)
        .iter()
        .filter(|name| **name == "user_message")
        .count();
    assert_eq!(messages, 2);
}

/// Looking an old message up fails. That concerns this one request, not the session.
#[tokio::test(start_paused = true)]
async fn a_receipt_that_cannot_be_read_is_refused_and_no_more() {
    let world = World::start();
    world.provider.will_say("Hello.");
    let mut client = world.connect("s").await;
    client.say_as("m1", "hi");
    client.answer().await;
    world.store.set(Weather::Away, [Method::Read]);
    client.say_as("m1", "hi");
    let frames = client.settle().await;
    let [error] = errors(&frames)[..] else {
        panic!("one refusal: {:?}", names(&frames));
    };
    assert_eq!(error.code, ErrorCode::StorageUnavailable);
    assert_eq!(error.id.as_ref().unwrap().as_str(), "m1");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refused_where_there_is_no_authentication() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    client.send(ClientFrame::Auth {
        token: "secret".to_owned(),
    });
    let frames = client.settle().await;
    assert_eq!(errors(&frames)[0].code, ErrorCode::Unsupported);
}

/// A hundred long messages, each of which a model could read only one of.
#[tokio::test(start_paused = true)]
async fn a_model_is_shown_the_end_of_a_long_conversation() {
    let world = World::with(|limits| limits.turn.prompt_bytes_max = 1000);
    let mut client = world.connect("s").await;
    for number in 0..100 {
        world.provider.will_say("Go on.");
        client.say(&format!("{number} {}", "x".repeat(400)));
        let answer = client.answer().await;
        assert_eq!(answer.done.finish_reason, FinishReason::Stop);
    }
    let requests = world.provider.requests();
    let last = &requests.last().unwrap().messages;
    assert_eq!(last.len(), 5, "two earlier turns and the message");
    pass(seconds(1)).await;
}
