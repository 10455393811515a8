//! While storage is unavailable: what clients receive, and what a session still does for them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use duologue_doubles::scripted::Step;
use duologue_engine::{
    AttachError,
    provider::{Chunk, Provider, ProviderError, Request, StopReason},
    store::{SessionStatus, StoreError},
};
use duologue_protocol::{
    ClientFrame, CloseCode, DegradedReason, DisconnectReason, ErrorCode, EventBody, FinishReason,
    MessageId, ServerFrame, TurnId,
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::Instant;

use crate::harness::{
    World,
    client::{body, errors, is_done, names},
    log::types,
    pass,
    provider::Paced,
    seconds,
    store::{Method, Weather},
};

const DEGRADED: ServerFrame = ServerFrame::Degraded {
    reason: DegradedReason::Storage,
};

fn is_degraded(frame: &ServerFrame) -> bool {
    *frame == DEGRADED
}

/// The user's message cannot be stored for a while. Nothing is acknowledged before it is.
#[tokio::test(start_paused = true)]
async fn clients_are_told_once_that_the_store_is_away_and_once_that_it_is_back() {
    for weather in [Weather::Away, Weather::Hanging] {
        let world = World::start();
        world.provider.will_say("Hello.");
        let mut client = world.connect("s").await;
        client.settle().await;
        world.store.set(weather, [Method::Append]);
        let since = Instant::now();
        client.say("hi");
        assert_eq!(client.frame().await, DEGRADED);
        assert!(since.elapsed() <= seconds(1), "{:?}", since.elapsed());
        pass(seconds(20)).await;
        assert_eq!(client.settle().await, []);
        world.store.set(Weather::Fair, [Method::Append]);
        let answer = client.answer().await;
        assert_eq!(
            names(&answer.frames),
            [
                "recovered",
                "user_message",
                "start",
                "routed",
                "token",
                "assistant_message"
            ]
        );
        world.log("s").await;
    }
}

/// A message is sent again, and its receipt cannot be read for a while. The session waits for it as for a
/// write: it answers pings, readers are notified, and the wait is bounded.
#[tokio::test(start_paused = true)]
async fn a_receipt_that_cannot_be_read_does_not_stop_the_session() {
    let world = World::start();
    world.provider.will_say("Hello.");
    let mut client = world.connect("s").await;
    client.say_as("m1", "hi");
    client.answer().await;
    world.store.set(Weather::Hanging, [Method::Read]);
    client.say_as("m1", "hi");
    assert_eq!(client.frame().await, DEGRADED);
    assert_eq!(client.settle().await, []);
    world.store.set(Weather::Fair, [Method::Read]);
    let frames = client.until(is_done).await;
    assert_eq!(
        names(&frames),
        ["recovered", "user_message", "assistant_message"]
    );

    world.store.set(Weather::Hanging, [Method::Read]);
    client.say_as("m1", "hi");
    let since = Instant::now();
    assert_eq!(client.frame().await, DEGRADED);
    let refused = client.frame().await;
    let refusal = errors(std::slice::from_ref(&refused))[0];
    assert_eq!(refusal.code, ErrorCode::StorageUnavailable);
    assert_eq!(refusal.id.as_ref().map(MessageId::as_str), Some("m1"));
    assert!(since.elapsed() <= seconds(60), "{:?}", since.elapsed());
    world.provider.will_say("I am back.");
    client.say("and this");
    let answer = client.answer().await;
    assert_eq!(names(&answer.frames)[0], "recovered");
    world.store.set(Weather::Fair, [Method::Read]);
    world.log("s").await;
}

/// A request that needs storage is refused at once, and does not wait for a minute.
#[tokio::test(start_paused = true)]
async fn what_needs_the_store_is_refused_while_it_is_away() {
    let world = World::start();
    world.provider.will_say("Hello.");
    let mut client = world.connect("s").await;
    client.settle().await;
    world.store.set_all(Weather::Away);
    client.say("hi");
    client.until(is_degraded).await;
    let since = Instant::now();
    client.say_as("m2", "and this");
    let refused = client.frame().await;
    let refusal = errors(std::slice::from_ref(&refused))[0];
    assert_eq!(refusal.code, ErrorCode::StorageUnavailable);
    assert_eq!(refusal.id.as_ref().map(MessageId::as_str), Some("m2"));
    let visitor = world.attach("s", "alice", None).await;
    assert!(matches!(
        visitor,
        Err(AttachError::Store(StoreError::Unavailable(_)))
    ));
    assert_eq!(since.elapsed(), Duration::ZERO);
    world.store.set_all(Weather::Fair);
    client.answer().await;
    world.provider.will_say("Now I hear you.");
    client.say_as("m2", "and this");
    assert_eq!(&*client.answer().await.done.text, "Now I hear you.");
    world.log("s").await;
}

/// A reader's departure cannot be stored, in the middle of an answer. The user need not wait for the
/// store to stop it.
#[tokio::test(start_paused = true)]
async fn a_cancel_is_heard_while_the_store_is_away() {
    let world = World::start();
    world
        .provider
        .will([Step::Say("Half".to_owned()), Step::Stall]);
    let mut client = world.connect("s").await;
    let other = world.connect("s").await;
    client.say("hi");
    client
        .until(|frame| matches!(frame, ServerFrame::Token { .. }))
        .await;
    world.store.set(Weather::Away, [Method::Append]);
    other.leave(DisconnectReason::Lost);
    client.until(is_degraded).await;
    client.send(ClientFrame::Cancel);
    world.provider.wait_for_dropped(1).await;
    assert_eq!(client.settle().await, []);
    world.store.set(Weather::Fair, [Method::Append]);
    let frames = client.until(is_done).await;
    assert_eq!(
        names(&frames),
        ["recovered", "client_disconnected", "assistant_message"]
    );
    let Some(EventBody::AssistantMessage(done)) = frames.last().and_then(body) else {
        panic!("it is done");
    };
    assert_eq!(done.finish_reason, FinishReason::Cancelled);
    assert_eq!(&*done.text, "Half");
    world.log("s").await;
}

/// Readers leave, and one of them asks for the end again and again. All of it takes effect, once,
/// when the store is back.
#[tokio::test(start_paused = true)]
async fn an_end_that_is_asked_for_while_the_store_is_away_comes_when_it_is_back() {
    let world = World::start();
    world.provider.will_say("Hello.");
    let mut client = world.connect("s").await;
    let other = world.connect("s").await;
    client.settle().await;
    world.store.set_all(Weather::Away);
    client.say("hi");
    client.until(is_degraded).await;
    other.leave(DisconnectReason::Lost);
    for _ in 0..5 {
        client.send(ClientFrame::End);
    }
    client.settle().await;
    world.store.set_all(Weather::Fair);
    let (_, code) = client.closed().await;
    assert_eq!(code, CloseCode::Ended);
    world.until_status("s", SessionStatus::Completed).await;
    let log = world.log("s").await;
    let log = types(&log);
    let count = |name| log.iter().filter(|other| **other == name).count();
    assert_eq!(count("client_disconnected"), 1, "{log:?}");
    assert_eq!(count("session_ended"), 1, "{log:?}");
}

/// Pieces are not stored, so the answer goes on. But its end will have to be, so its readers are
/// warned as soon as a draft cannot be kept.
#[tokio::test(start_paused = true)]
async fn an_answer_goes_on_while_the_store_is_away() {
    let world = World::with_provider(Paced::boxed(30, seconds(1)), |_| {});
    let mut client = world.connect("s").await;
    client.say("hi");
    client
        .until(|frame| matches!(frame, ServerFrame::Token { index: 4, .. }))
        .await;
    world.store.set_all(Weather::Away);
    let frames = client
        .until(|frame| matches!(frame, ServerFrame::Token { index: 20, .. }))
        .await;
    let told = frames.iter().filter(|frame| is_degraded(frame)).count();
    assert_eq!(told, 1, "{:?}", names(&frames));
    world.store.set_all(Weather::Fair);
    let frames = client.until(is_done).await;
    let names = names(&frames);
    assert_eq!(names.iter().filter(|name| **name == "recovered").count(), 1);
    let (token, end) = (names[names.len() - 2], names[names.len() - 1]);
    assert_eq!([token, end], ["token", "assistant_message"], "{names:?}");
}

/// Answers without end, as fast as it is asked, and counts.
struct Flood(Arc<AtomicUsize>);

impl Provider for Flood {
    fn model(&self) -> &'static str {
        "flood"
    }

    fn calls_tools(&self) -> bool {
        false
    }

    fn generate(&self, _request: Request) -> BoxStream<'static, Result<Chunk, ProviderError>> {
        let drawn = Arc::clone(&self.0);
        let finished = Chunk::Finished {
            reason: StopReason::Stop,
            usage: None,
        };
        stream::iter(0..5000)
            .map(move |_| {
                drawn.fetch_add(1, Ordering::Relaxed);
                Ok(Chunk::Text("piece ".into()))
            })
            .chain(stream::iter([Ok(finished)]))
            .boxed()
    }
}

/// What the model says before its question is stored waits in the turn's queue of 256 outputs, and
/// then in the connection to the model. It does not gather in the session.
#[tokio::test(start_paused = true)]
async fn a_model_that_is_faster_than_the_store_waits_for_it() {
    let drawn = Arc::new(AtomicUsize::new(0));
    let world = World::with_provider(Arc::new(Flood(Arc::clone(&drawn))), |_| {});
    let mut client = world.connect("s").await;
    client.settle().await;
    world.store.set(Weather::Away, [Method::Append]);
    client.say("hi");
    client.until(is_degraded).await;
    pass(seconds(15)).await;
    let waiting = drawn.load(Ordering::Relaxed);
    assert!((200..400).contains(&waiting), "{waiting} pieces wait");
    world.store.set(Weather::Fair, [Method::Append]);
    assert_eq!(client.answer().await.pieces.len(), 5000);
}

/// The time of retrying is over, whether the store refuses or is silent. The clients receive the reason,
/// and which turn has no end yet.
#[tokio::test(start_paused = true)]
async fn clients_are_told_which_turn_the_store_has_cost_them() {
    for weather in [Weather::Away, Weather::Hanging] {
        let world = World::start();
        world
            .provider
            .will([Step::Hold("a while"), Step::Say("Never stored.".to_owned())]);
        let mut client = world.connect("s").await;
        client.say("hi");
        client
            .until(|frame| matches!(frame, ServerFrame::Event(event) if event.turn_id.is_some()))
            .await;
        client.settle().await;
        world.store.set_all(weather);
        let since = Instant::now();
        world.provider.release("a while");
        let (frames, code) = client.closed().await;
        assert_eq!(code, CloseCode::TryAgainLater);
        assert!((seconds(60)..seconds(63)).contains(&since.elapsed()));
        let errors = errors(&frames);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].code, ErrorCode::StorageUnavailable);
        assert_eq!(errors[0].turn_id, Some(TurnId(1)));
        assert!(is_degraded(&frames[0]) || is_degraded(&frames[1]));
        // Requests that still hang fail before the store is back, so they have no effect.
        world.store.set_all(Weather::Away);
        pass(Duration::from_millis(1)).await;
        world.store.set_all(Weather::Fair);
        let mut client = world.resume("s", 0).await;
        let frames = client.until(is_done).await;
        let Some(EventBody::AssistantMessage(done)) = frames.last().and_then(body) else {
            panic!("the turn is closed");
        };
        assert_eq!(done.finish_reason, FinishReason::Interrupted);
    }
}
