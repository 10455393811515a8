//! Stopping: answers may finish for a while, nobody is lost, nothing ends, and nothing is left
//! running.

use std::time::Duration;

use duologue_doubles::scripted::Step;
use duologue_engine::{AttachError, store::SessionStatus};
use duologue_protocol::{ClientFrame, CloseCode, EventBody, FinishReason, ServerFrame};
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::harness::{
    World,
    client::{Client, body, errors, names},
    log::types,
    millis, pass, seconds,
    store::{Method, Weather},
    sweep_by, within,
};

async fn shut_down(world: &World) {
    let never = CancellationToken::new();
    within(
        "the engine stops",
        world.engine.shut_down(seconds(30), &never),
    )
    .await;
}

/// A token of the test's own tells that the store was closed, which is the last thing to happen.
fn is_closed(world: &World) -> bool {
    world.store.count(Method::Close) == 1
}

#[tokio::test(start_paused = true)]
async fn sessions_between_turns_are_let_go_of_at_once_and_not_ended() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    let since = Instant::now();
    shut_down(&world).await;
    assert!(since.elapsed() < seconds(1));
    let (frames, code) = client.closed().await;
    assert_eq!(names(&frames), ["goaway"]);
    assert_eq!(code, CloseCode::Restart);
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    assert_eq!(world.engine.sessions_count(), 0);
    assert!(is_closed(&world));

    let other = World::on(&world.store, "next");
    let mut client = other.resume("s", 2).await;
    let frames = client.settle().await;
    assert_eq!(names(&frames), ["resumed", "client_connected", "replayed"]);
    world.log("s").await;
}

/// The answer is complete before the client is sent away. A message that waits has no turn here any
/// more, and one that comes is not taken.
#[tokio::test(start_paused = true)]
async fn a_running_turn_may_finish() {
    let world = World::start();
    world
        .provider
        .will([Step::Hold("slow"), Step::Say("At last.".to_owned())]);
    let mut client = world.connect("s").await;
    client.say("one");
    client.say("two");
    world.provider.wait_for_requests(1).await;
    let release = async {
        pass(seconds(10)).await;
        client.say_as("m3", "three");
        pass(millis(1)).await;
        world.provider.release("slow");
    };
    let since = Instant::now();
    tokio::join!(shut_down(&world), release);
    assert_eq!(since.elapsed().as_secs(), 10);
    let (frames, code) = client.closed().await;
    assert_eq!(code, CloseCode::Restart);
    let names = names(&frames);
    assert!(
        names.ends_with(&["error", "token", "assistant_message", "goaway"]),
        "{names:?}"
    );
    assert_eq!(errors(&frames)[0].id.as_ref().unwrap().as_str(), "m3");
    let log = world.log("s").await;
    assert_eq!(
        types(&log)
            .iter()
            .filter(|name| **name == "user_message")
            .count(),
        1
    );
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_takes_too_long_is_interrupted() {
    let world = World::with(|limits| {
        limits.generation.next_token_timeout = seconds(100);
    });
    world
        .provider
        .will([Step::Say("Half".to_owned()), Step::Stall]);
    let mut client = world.connect("s").await;
    client.say("hi");
    client
        .until(|frame| matches!(frame, ServerFrame::Token { .. }))
        .await;
    let since = Instant::now();
    shut_down(&world).await;
    assert_eq!(since.elapsed().as_secs(), 30);
    let (frames, code) = client.closed().await;
    assert_eq!(names(&frames), ["assistant_message", "goaway"]);
    let Some(EventBody::AssistantMessage(done)) = body(&frames[0]) else {
        panic!("it is done");
    };
    assert_eq!(done.finish_reason, FinishReason::Interrupted);
    assert_eq!(&*done.text, "Half");
    assert_eq!(code, CloseCode::Restart);
    world.provider.wait_for_dropped(1).await;
}

/// A second signal does not wait for answers.
#[tokio::test(start_paused = true)]
async fn an_impatient_stop_interrupts_at_once() {
    let world = World::start();
    world.provider.will([Step::Stall]);
    let mut client = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    let now = CancellationToken::new();
    now.cancel();
    let since = Instant::now();
    within(
        "the engine stops",
        world.engine.shut_down(seconds(30), &now),
    )
    .await;
    assert!(since.elapsed() < seconds(1));
    let (_, code) = client.closed().await;
    assert_eq!(code, CloseCode::Restart);
    world.log("s").await;
}

/// The user cancels, and the server stops, at the same time; there is one end, and one reason.
#[tokio::test(start_paused = true)]
async fn a_turn_that_is_cancelled_and_interrupted_ends_once() {
    let world = World::start();
    world.provider.will([Step::Stall]);
    let mut client = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    client.send(ClientFrame::Cancel);
    let now = CancellationToken::new();
    now.cancel();
    world.engine.shut_down(seconds(30), &now).await;
    client.closed().await;
    let log = world.log("s").await;
    assert_eq!(
        types(&log)
            .iter()
            .filter(|name| **name == "assistant_message")
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_any_more() {
    let world = World::start();
    world.provider.will([Step::Hold("slow")]);
    let client = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    let visitors = async {
        pass(seconds(1)).await;
        assert!(world.engine.is_draining());
        for session in ["s", "new"] {
            let refused = world.attach(session, "alice", None).await;
            assert!(matches!(refused, Err(AttachError::ShuttingDown)));
        }
        world.provider.release("slow");
    };
    tokio::join!(shut_down(&world), visitors);
    assert!(is_closed(&world));
    let refused = world.attach("s", "alice", None).await;
    assert!(matches!(refused, Err(AttachError::ShuttingDown)));
}

/// The store is away for good. What cannot be stored is not waited for longer than the drain.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_does_not_keep_the_server_from_stopping() {
    let world = World::start();
    world.provider.will_say("Never stored.");
    let mut client = world.connect("s").await;
    client.settle().await;
    world.store.set_all(Weather::Away);
    client.say("hi");
    world.store.wait_for(Method::Append, 3).await;
    let since = Instant::now();
    shut_down(&world).await;
    assert!(since.elapsed() < seconds(31), "{:?}", since.elapsed());
    client.closed().await;
}

/// The drain takes longer than a lease. Another server must not take the session for lost.
#[tokio::test(start_paused = true)]
async fn leases_are_kept_while_answers_finish() {
    let world = World::with(|limits| {
        limits.generation.first_token_timeout = seconds(600);
        limits.generation.total_timeout = seconds(600);
    });
    world
        .provider
        .will([Step::Hold("slow"), Step::Say("At last.".to_owned())]);
    let mut client = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    let other = World::on(&world.store, "there");
    let never = CancellationToken::new();
    let release = async {
        pass(seconds(300)).await;
        assert_eq!(other.engine.sessions_count(), 0);
        world.provider.release("slow");
    };
    tokio::join!(world.engine.shut_down(seconds(400), &never), release);
    assert_eq!(&*client.answer().await.done.text, "At last.");
    let (_, code) = client.closed().await;
    assert_eq!(code, CloseCode::Restart);
}

/// A request at the very moment of the stop gets an answer, and leaves no task behind.
#[tokio::test(start_paused = true)]
async fn who_comes_while_the_door_closes_is_answered() {
    let world = World::start();
    world.store.set(Weather::Hanging, [Method::Claim]);
    let visitor = world.attach("s", "alice", None);
    let stop = async {
        world.store.wait_for(Method::Claim, 1).await;
        let open = async {
            pass(seconds(1)).await;
            world.store.set(Weather::Fair, [Method::Claim]);
        };
        tokio::join!(shut_down(&world), open);
    };
    let (visitor, ()) = tokio::join!(visitor, stop);
    match visitor {
        Err(AttachError::ShuttingDown) => {}
        Ok(mut client) => assert_eq!(client.closed().await.1, CloseCode::Restart),
        Err(other) => panic!("{other:?}"),
    }
    pass(seconds(1)).await;
    let lapsed = world.store.memory().claim_lapsed(&sweep_by("next")).await;
    assert!(lapsed.unwrap().len() <= 1);
    assert_eq!(world.engine.sessions_count(), 0);
}

/// Dropping the engine without waiting stops all there is, in its own time.
#[tokio::test(start_paused = true)]
async fn an_engine_that_is_dropped_stops_by_itself() {
    let world = World::start();
    world.provider.will([Step::Stall]);
    let mut client = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    let World {
        engine,
        provider,
        store,
        ..
    } = world;
    drop(engine);
    let (_, code) = client.closed().await;
    assert_eq!(code, CloseCode::Restart);
    provider.wait_for_dropped(1).await;
    let calls = store.count(Method::Heartbeat);
    pass(seconds(60)).await;
    assert_eq!(store.count(Method::Heartbeat), calls);
}

/// Idle sessions, each with its client.
async fn crowd(world: &World, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = world.connect(&format!("s{number}")).await;
        client.settle().await;
        clients.push(client);
    }
    clients
}

/// How long after `since` each client is disconnected, and how long it is asked to wait then.
async fn drain_schedule(clients: &mut [Client], since: Instant) -> Vec<(Duration, u64)> {
    let drain_schedule = clients.iter_mut().map(async |client| {
        let (frames, code) = client.closed().await;
        assert_eq!(code, CloseCode::Restart);
        let [
            ServerFrame::GoAway {
                reconnect_after_ms, ..
            },
        ] = frames[..]
        else {
            panic!("{frames:?}");
        };
        (since.elapsed(), reconnect_after_ms)
    });
    join_all(drain_schedule).await
}

/// Five hundred clients that would all reconnect in the same second are disconnected over five, and
/// come back over five more.
#[tokio::test(start_paused = true)]
async fn clients_are_sent_off_one_after_the_other() {
    let world = World::start();
    let mut clients = crowd(&world, 500).await;
    let since = Instant::now();
    let (drain_schedule, ()) = tokio::join!(drain_schedule(&mut clients, since), shut_down(&world));
    assert!(since.elapsed() <= seconds(5), "{:?}", since.elapsed());
    for second in 0..5 {
        let left = drain_schedule
            .iter()
            .filter(|(at, _)| at.as_secs() == second);
        let back = drain_schedule
            .iter()
            .filter(|(_, wait)| (wait - 500) / 1000 == second);
        for count in [left.count(), back.count()] {
            assert!((60..140).contains(&count), "{count} in second {second}");
        }
    }
    assert_eq!(world.engine.sessions_count(), 0);
    for number in 0..500 {
        let record = world.record(&format!("s{number}")).await;
        assert_eq!(record.status, SessionStatus::Active);
    }
}

/// The drain is shorter than the window would be, or the second signal comes.
#[tokio::test(start_paused = true)]
async fn nobody_is_kept_longer_than_the_drain() {
    for (drain, second_signal) in [(seconds(1), seconds(100)), (seconds(30), seconds(1))] {
        let world = World::start();
        let mut clients = crowd(&world, 500).await;
        let since = Instant::now();
        let now = CancellationToken::new();
        let impatience = async {
            pass(second_signal).await;
            now.cancel();
        };
        let stop = async {
            world.engine.shut_down(drain, &now).await;
            since.elapsed()
        };
        let (drain_schedule, took, ()) =
            tokio::join!(drain_schedule(&mut clients, since), stop, impatience);
        assert!(took <= seconds(1), "{took:?}");
        assert_eq!(drain_schedule.len(), 500);
    }
}

/// All clients are lost while the server stops, and their sessions have no grace at all; others are
/// idle for too long just then. A deploy is no reason to end a session.
#[tokio::test(start_paused = true)]
async fn nothing_ends_because_the_server_stops() {
    for grace in [Duration::ZERO, seconds(30)] {
        let world = World::with(|limits| {
            limits.session.resume_grace = grace;
            limits.session.idle_timeout = seconds(3);
        });
        let mut clients = crowd(&world, 500).await;
        let loss = async {
            pass(millis(10)).await;
            if grace.is_zero() {
                clients.clear();
            }
        };
        tokio::join!(shut_down(&world), loss);
        for number in 0..500 {
            let record = world.record(&format!("s{number}")).await;
            assert_eq!(record.status, SessionStatus::Active, "s{number}");
        }
    }
}

/// All is stored and told, and only the connection to the database does not end.
#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_close_does_not_keep_the_server_from_stopping() {
    let world = World::start();
    world.store.set(Weather::Hanging, [Method::Close]);
    let since = Instant::now();
    shut_down(&world).await;
    assert_eq!(since.elapsed().as_secs(), 5);
    assert!(is_closed(&world));
}
