//! A store that fails: what is retried, what is given up, and what is true afterwards.

use duologue_doubles::{memory::Fault, scripted::Step};
use duologue_engine::{
    AttachError,
    provider::StopReason,
    store::{SessionStatus, StoreError},
};
use duologue_protocol::{
    ClientFrame, CloseCode, DisconnectReason, EndReason, ErrorCode, EventBody, FinishReason,
    ServerFrame, Usage,
};
use tokio::time::Instant;

use crate::harness::{
    World,
    client::{body, errors, is_done, names},
    log::{drain_schedule, types},
    millis, pass, seconds,
    store::{Method, Weather},
    until,
};

/// The first writes of the turn fail: once nothing was written, once all was but the answer is
/// lost. The log must have everything once.
#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_repeated_without_gap_or_double() {
    for fault in [Fault::BeforeEffect, Fault::AfterEffect] {
        let world = World::start();
        world.provider.will_say("Hello.");
        let mut client = world.connect("s").await;
        client.settle().await;
        world.store.fail_next_writes(3, fault);
        client.say("hi");
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
        let repeated = world.store.count(Method::Append) - 1;
        assert!(repeated >= 3, "one moment is no repetition");
        let log = world.log("s").await;
        assert_eq!(types(&log).len(), 5);
    }
}

/// The same for the ending: one `session_ended`, one job, one summary.
#[tokio::test(start_paused = true)]
async fn an_ending_that_fails_is_repeated_without_double() {
    for fault in [Fault::BeforeEffect, Fault::AfterEffect] {
        let world = World::start();
        let mut client = world.connect("s").await;
        client.settle().await;
        world.store.fail_next_writes(3, fault);
        client.send(ClientFrame::End);
        let (frames, code) = client.closed().await;
        assert_eq!(names(&frames), ["session_ended"]);
        assert_eq!(code, CloseCode::Ended);
        world.until_status("s", SessionStatus::Completed).await;
        pass(seconds(600)).await;
        let log = world.log("s").await;
        assert!(types(&log).ends_with(&[
            "client_connected",
            "session_ended",
            "session_summarized"
        ]));
    }
}

/// The model is asked while the message is being stored. If that fails for too long, the message is nowhere, its
/// client sends it again, and the model is asked again. Both requests are charged, so a client that repeats its
/// message through every outage spends its own budget and not more.
#[tokio::test(start_paused = true)]
async fn a_request_for_a_message_that_was_not_stored_is_charged_and_repeated() {
    let usage = Usage {
        input_tokens: 900,
        output_tokens: 100,
        estimated: false,
    };
    let world = World::with(|limits| limits.tokens.user_per_day_max = 2000);
    for _ in 0..2 {
        world
            .provider
            .will([Step::Finish(StopReason::Stop, Some(usage))]);
    }
    let mut client = world.connect("s").await;
    client.settle().await;
    world.store.set_all(Weather::Away);
    client.say("hi");
    let (frames, code) = client.closed().await;
    assert_eq!(code, CloseCode::TryAgainLater);
    assert_eq!(frames.iter().filter_map(body).count(), 0);
    assert_eq!(world.provider.requests().len(), 1);

    world.store.set_all(Weather::Fair);
    let mut client = world.connect("s").await;
    client.say("hi");
    client.answer().await;
    assert_eq!(world.provider.requests().len(), 2);
    client.say("once more");
    let frames = client.settle().await;
    let refused: Vec<_> = errors(&frames).iter().map(|error| error.code).collect();
    assert_eq!(refused, [ErrorCode::OverBudget]);
    assert_eq!(world.provider.requests().len(), 2);
}

/// The store goes away in mid-answer and stays away too long. The clients are disconnected, to come
/// back; the first one finds the turn closed, with what was kept of its answer.
#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_costs_the_turn_and_not_the_session() {
    let world = World::start();
    world.provider.will([
        Step::Say("Half".to_owned()),
        Step::Hold("half-way"),
        Step::Say(" more.".to_owned()),
    ]);
    let mut client = world.connect("s").await;
    client.say("hi");
    world.store.wait_for(Method::SaveDrafts, 1).await;
    client
        .until(|frame| matches!(frame, ServerFrame::Token { .. }))
        .await;
    world.store.set_all(Weather::Away);
    let since = Instant::now();
    world.provider.release("half-way");
    let (frames, code) = client.closed().await;
    let told = frames.iter().filter_map(body).count();
    assert_eq!(told, 0, "nothing is sent that is not stored");
    assert_eq!(code, CloseCode::TryAgainLater);
    let took = since.elapsed();
    assert!((seconds(60)..seconds(62)).contains(&took), "{took:?}");
    let refused = world.attach("s", "alice", Some(4)).await;
    assert!(matches!(
        refused,
        Err(AttachError::Store(StoreError::Unavailable(_)))
    ));

    world.store.set_all(Weather::Fair);
    let mut client = world.resume("s", 4).await;
    let frames = client.settle().await;
    assert_eq!(
        names(&frames),
        [
            "resumed",
            "assistant_message",
            "client_connected",
            "replayed"
        ]
    );
    let Some(EventBody::AssistantMessage(done)) = body(&frames[1]) else {
        panic!("the turn is closed");
    };
    assert_eq!(done.finish_reason, FinishReason::Interrupted);
    assert_eq!(&*done.text, "Half");
    world.provider.will_say("Again.");
    client.say("again?");
    assert_eq!(&*client.answer().await.done.text, "Again.");
    world.log("s").await;
}

/// Nobody comes back after the outage. The session must end all the same, although its server lives
/// and renews what it holds.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_given_up_is_ended_when_the_store_is_back() {
    let world = World::start();
    world.provider.will([Step::Stall]);
    let mut client = world.connect("s").await;
    client.say("hi");
    client
        .until(|frame| matches!(frame, ServerFrame::Start { .. }))
        .await;
    world.store.set_all(Weather::Away);
    client.send(ClientFrame::End);
    let (_, code) = client.closed().await;
    assert_eq!(code, CloseCode::TryAgainLater);
    drop(client);
    pass(seconds(300)).await;
    world.store.set_all(Weather::Fair);
    let since = Instant::now();
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.end_reason, Some(EndReason::Abandoned));
    assert!(since.elapsed() < seconds(120), "{:?}", since.elapsed());
    world.log("s").await;
}

/// The session was claimed, but its log could not be read. Nobody asks for it again.
#[tokio::test(start_paused = true)]
async fn a_session_that_could_not_be_opened_is_not_held_for_ever() {
    let world = World::start();
    let other = World::on(&world.store, "there");
    drop(other.connect("s").await);
    until("it is on record", async || {
        (world.log("s").await.len() == 3).then_some(())
    })
    .await;
    world.store.set(Weather::Away, [Method::Read]);
    let refused = world.attach("s", "alice", None).await;
    assert!(matches!(refused, Err(AttachError::Store(_))));
    world.store.set(Weather::Fair, [Method::Read]);
    world.until_status("s", SessionStatus::Completed).await;
    world.log("s").await;
}

/// The session lives, but waits for its store; a new client is refused in time.
#[tokio::test(start_paused = true)]
async fn nobody_is_kept_waiting_at_the_door_while_the_store_is_away() {
    for weather in [Weather::Away, Weather::Hanging] {
        let world = World::start();
        let client = world.connect("s").await;
        world.store.set_all(weather);
        client.say("hi");
        for session in ["s", "new"] {
            let since = Instant::now();
            let refused = world.attach(session, "alice", None).await;
            assert!(matches!(
                refused,
                Err(AttachError::Store(StoreError::Unavailable(_)))
            ));
            assert!(since.elapsed() <= millis(2500), "{:?}", since.elapsed());
        }
    }
}

/// All clients that wait for the same session are refused together, not one after the other.
#[tokio::test(start_paused = true)]
async fn a_failed_opening_is_told_to_all_who_wait() {
    let world = World::start();
    world.store.set(Weather::Hanging, [Method::Claim]);
    let crowd = futures_util::future::join_all((0..50).map(|_| world.attach("s", "alice", None)));
    let storm = async {
        world.store.wait_for(Method::Claim, 1).await;
        world.store.set(Weather::Away, [Method::Claim]);
    };
    let (crowd, ()) = tokio::join!(crowd, storm);
    assert!(
        crowd
            .iter()
            .all(|refused| matches!(refused, Err(AttachError::Store(StoreError::Unavailable(_)))))
    );
    assert_eq!(world.store.count(Method::Claim), 1);
}

/// Another server takes the session over; the first one notices with its next write.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_taken_over_is_let_go_of() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    let other = World::on(&world.store, "there");
    let mut there = other.connect("s").await;
    there.settle().await;
    world.provider.will_say("Never told.");
    client.say("hi");
    let (frames, code) = client.closed().await;
    assert_eq!(frames, []);
    assert_eq!(code, CloseCode::TakenOver);
    drop(client);

    other.provider.will_say("Hello.");
    there.say("hi");
    assert_eq!(&*there.answer().await.done.text, "Hello.");
    let log = world.log("s").await;
    assert_eq!(
        types(&log)
            .iter()
            .filter(|name| **name == "user_message")
            .count(),
        1
    );
    assert_eq!(drain_schedule(&log), []);
    pass(seconds(300)).await;
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
}

/// Drafts are written without being waited for, and still tell that the session is another's now.
#[tokio::test(start_paused = true)]
async fn a_takeover_in_mid_answer_stops_the_answer() {
    let world = World::start();
    world.provider.will([
        Step::Say("Half".to_owned()),
        Step::Hold("half-way"),
        Step::Stall,
    ]);
    let mut client = world.connect("s").await;
    client.say("hi");
    client
        .until(|frame| matches!(frame, ServerFrame::Token { .. }))
        .await;
    let other = World::on(&world.store, "there");
    let mut there = other.resume("s", 0).await;
    let since = Instant::now();
    let (_, code) = client.closed().await;
    assert_eq!(code, CloseCode::TakenOver);
    assert!(since.elapsed() < seconds(1), "{:?}", since.elapsed());
    world.provider.wait_for_dropped(1).await;
    let frames = there.until(is_done).await;
    let Some(EventBody::AssistantMessage(done)) = frames.last().and_then(body) else {
        panic!("the turn is closed");
    };
    assert_eq!(done.finish_reason, FinishReason::Interrupted);
    client.leave(DisconnectReason::Lost);
    world.log("s").await;
}

/// Drafts fail and fail; the answer is none the worse for it.
#[tokio::test(start_paused = true)]
async fn a_draft_that_cannot_be_kept_costs_nothing() {
    let world = World::start();
    world.provider.will([
        Step::Say("Half".to_owned()),
        Step::Hold("half-way"),
        Step::Say(" and half.".to_owned()),
    ]);
    world.store.set(Weather::Away, [Method::SaveDrafts]);
    let mut client = world.connect("s").await;
    client.say("hi");
    world.store.wait_for(Method::SaveDrafts, 1).await;
    world.provider.release("half-way");
    assert_eq!(&*client.answer().await.done.text, "Half and half.");
}

/// A panic in the session's own task is a bug, and costs this one session its readers. The session
/// is not lost: the next client opens it again, and if none comes, it ends.
#[tokio::test(start_paused = true)]
async fn a_session_whose_task_panics_is_opened_anew() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    world.store.set(Weather::Buggy, [Method::Append]);
    client.say("hi");
    let (_, code) = client.closed().await;
    assert_eq!(code, CloseCode::Internal);
    assert_eq!(world.engine.sessions_count(), 0);
    client.leave(DisconnectReason::Lost);

    world.store.set(Weather::Fair, [Method::Append]);
    let mut client = world.resume("s", 2).await;
    let frames = client.settle().await;
    assert_eq!(names(&frames), ["resumed", "client_connected", "replayed"]);
    world.store.set(Weather::Buggy, [Method::Append]);
    client.say("hi");
    client.closed().await;
    world.store.set(Weather::Fair, [Method::Append]);
    world.until_status("s", SessionStatus::Completed).await;
    world.log("s").await;
}

/// What keeps all sessions must not be ended by one panic.
#[tokio::test(start_paused = true)]
async fn the_heartbeat_the_sweeper_and_the_workers_survive_panics() {
    let world = World::start();
    let calls = [Method::Heartbeat, Method::ClaimLapsed, Method::ClaimJob];
    world.store.set(Weather::Buggy, calls);
    pass(seconds(60)).await;
    world.store.set(Weather::Fair, calls);
    let heartbeats = world.store.count(Method::Heartbeat);
    world
        .store
        .wait_for(Method::Heartbeat, heartbeats + 2)
        .await;
    let client = world.connect("s").await;
    client.send(ClientFrame::End);
    world.until_status("s", SessionStatus::Completed).await;
}
