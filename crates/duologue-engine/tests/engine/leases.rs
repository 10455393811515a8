//! Sessions whose server was lost are ended by another, and no others are. Servers hold their sessions by
//! heartbeats.

use duologue_doubles::{memory::Fault, scripted::Step};
use duologue_engine::{
    AttachError,
    store::{Claim, Lease, ServerId, SessionStatus},
};
use duologue_protocol::{
    CloseCode, EndReason, ErrorCode, Event, EventBody, FinishReason, OnBusy, Seq, SessionStarted,
    TurnId, UserMessage,
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::harness::{
    World, alice,
    client::{errors, names},
    log::types,
    millis, pass, seconds, session_id,
    store::{Method, WatchedStore, Weather},
    sweep_by,
};

/// What a server that is lost leaves behind: a session that it holds, with an empty log.
async fn claim(store: &WatchedStore, name: &str) -> Lease {
    let claim = Claim {
        session_id: session_id(name),
        user_id: alice(),
        agent: "test".to_owned(),
        server: ServerId("lost".to_owned()),
        lease_duration: seconds(3),
        now: Timestamp::from_second(1_767_225_600).expect("2026 is in range"),
        first_events: Vec::new(),
        spent_since: None,
    };
    let claimed = store.memory().claim(&claim).await;
    claimed
        .expect("the store answers")
        .expect("it is Alice's")
        .lease
}

/// The same, where a question is still being answered.
async fn leave_unanswered(store: &WatchedStore, name: &str) {
    let lease = claim(store, name).await;
    let event = |seq, turn_id, body| Event {
        seq: Seq(seq),
        occurred_at: Timestamp::from_second(1_767_225_600).expect("2026 is in range"),
        turn_id,
        body,
    };
    let started = SessionStarted {
        session_id: session_id(name),
        user_id: alice(),
        agent: "test".to_owned(),
    };
    let asked = UserMessage {
        text: "Is anybody there?".into(),
        id: None,
        queued_seq: None,
    };
    let events = [
        event(1, None, EventBody::SessionStarted(started)),
        event(2, Some(TurnId(1)), EventBody::UserMessage(asked)),
    ];
    let stored = store.memory().append(&lease, Seq::ZERO, &events).await;
    stored.expect("the store answers");
}

/// The lease (3 s) and the grace (30 s) must have passed in this server's own sight.
#[tokio::test(start_paused = true)]
async fn a_lost_servers_session_is_ended_after_the_hold_off() {
    let world = World::start();
    leave_unanswered(&world.store, "s").await;
    pass(seconds(32)).await;
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    assert_eq!(world.store.count(Method::ClaimLapsed), 0);
    pass(seconds(8)).await;
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.end_reason, Some(EndReason::Abandoned));
    let log = world.log("s").await;
    assert_eq!(types(&log)[2..4], ["assistant_message", "session_ended"]);
    let EventBody::AssistantMessage(done) = &log[2].body else {
        panic!("the open turn is closed");
    };
    assert_eq!(done.finish_reason, FinishReason::Interrupted);
    assert_eq!(world.engine.sessions_count(), 0);
}

/// The server was lost between the claim and the first event. Every log begins with the start.
#[tokio::test(start_paused = true)]
async fn a_session_that_never_got_its_first_event_gets_it_with_its_last() {
    let world = World::start();
    claim(&world.store, "s").await;
    world.until_status("s", SessionStatus::Completed).await;
    let log = world.log("s").await;
    assert_eq!(
        types(&log),
        ["session_started", "session_ended", "session_summarized"]
    );
}

/// Its user comes back just as the session is taken up, and keeps it.
#[tokio::test(start_paused = true)]
async fn a_lost_servers_session_goes_on_if_its_user_comes() {
    let world = World::start();
    leave_unanswered(&world.store, "s").await;
    pass(seconds(32)).await;
    let mut client = world.resume("s", 2).await;
    client.settle().await;
    pass(seconds(120)).await;
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
}

/// Two servers for ten minutes: neither ends, nor takes, what the other one holds.
#[tokio::test(start_paused = true)]
async fn a_server_keeps_its_own_sessions() {
    let world = World::start();
    let other = World::on(&world.store, "there");
    let mut client = world.connect("s").await;
    client.settle().await;
    pass(seconds(600)).await;
    assert!(world.store.count(Method::ClaimLapsed) > 100);
    world.provider.will_say("Hello.");
    client.say("hi");
    assert_eq!(&*client.answer().await.done.text, "Hello.");
    assert_eq!(other.engine.sessions_count(), 0);
}

/// While the store is away all leases expire, and the users are only about to come back.
#[tokio::test(start_paused = true)]
async fn after_an_outage_the_hold_off_begins_again() {
    let world = World::start();
    pass(seconds(60)).await;
    leave_unanswered(&world.store, "s").await;
    world.store.set_all(Weather::Away);
    pass(seconds(300)).await;
    let sweeps = world.store.count(Method::ClaimLapsed);
    world.store.set_all(Weather::Fair);
    let back = Instant::now();
    pass(seconds(32)).await;
    assert_eq!(world.store.count(Method::ClaimLapsed), sweeps);
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    world.until_status("s", SessionStatus::Completed).await;
    assert!(back.elapsed() < seconds(50), "{:?}", back.elapsed());
}

/// A whole server that stood still, as a paused virtual machine does, has seen nothing of the time
/// that passed. Everything is due at once when it wakes, and the hold-off must start again.
#[tokio::test(start_paused = true)]
async fn a_server_that_stood_still_ends_nothing_when_it_wakes() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    pass(seconds(120)).await;
    leave_unanswered(&world.store, "lost").await;
    let sweeps = world.store.count(Method::ClaimLapsed);
    // Unlike `pass`, this moves the clock in one step, past everything that was due.
    tokio::time::advance(seconds(300)).await;
    pass(seconds(30)).await;
    assert_eq!(world.store.count(Method::ClaimLapsed), sweeps);
    assert_eq!(world.record("lost").await.status, SessionStatus::Active);
    world.provider.will_say("Hello.");
    client.say("hi");
    assert_eq!(&*client.answer().await.done.text, "Hello.");
    world.until_status("lost", SessionStatus::Completed).await;
}

/// A crowd of lost sessions is taken up in portions, all of it in the end.
#[tokio::test(start_paused = true)]
async fn a_great_many_lost_sessions_are_all_ended() {
    let world = World::start();
    let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
    for name in &names {
        leave_unanswered(&world.store, name).await;
    }
    for name in &names {
        world.until_status(name, SessionStatus::Completed).await;
    }
}

/// A claim took effect, but its answer was lost, and its user never asks again. The server, whose lease does not
/// lapse, must not hold a session without a task.
#[tokio::test(start_paused = true)]
async fn a_session_whose_claim_got_no_answer_is_ended() {
    let world = World::start();
    // Between two heartbeats.
    pass(millis(500)).await;
    world.store.fail_next_writes(1, Fault::AfterEffect);
    let refused = world.attach("s", "alice", None).await;
    assert!(matches!(refused, Err(AttachError::Store(_))));
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.end_reason, Some(EndReason::Abandoned));
    world.log("s").await;
}

/// Nothing is said in a session when another server takes it over. Its readers here must not wait
/// for what they will never receive.
#[tokio::test(start_paused = true)]
async fn an_idle_session_that_was_taken_over_sends_its_readers_off() {
    let world = World::start();
    let mut client = world.connect("s").await;
    let mut unmoved = world.connect("other").await;
    client.settle().await;
    let other = World::on(&world.store, "there");
    let mut there = other.connect("s").await;
    let since = Instant::now();
    let (frames, code) = client.closed().await;
    assert_eq!(frames, []);
    assert_eq!(code, CloseCode::TakenOver);
    assert!(since.elapsed() <= seconds(1), "{:?}", since.elapsed());
    pass(seconds(60)).await;
    there.settle().await;
    unmoved.settle().await;
    assert_eq!(world.engine.sessions_count(), 1);
    world.log("s").await;
}

/// A claim that had no effect either leaves no session behind: the sweep that looks for it makes none.
#[tokio::test(start_paused = true)]
async fn a_claim_that_failed_leaves_no_session() {
    let world = World::start();
    // Between two heartbeats.
    pass(millis(500)).await;
    world.store.fail_next_writes(1, Fault::BeforeEffect);
    let refused = world.attach("s", "alice", None).await;
    assert!(matches!(refused, Err(AttachError::Store(_))));
    pass(seconds(120)).await;
    let memory = world.store.memory();
    let record = memory.session(&alice(), &session_id("s")).await;
    assert_eq!(record.expect("the store answers"), None);
}

/// A server that stops cannot release its session, since the store does not answer. It is ended by the next one.
#[tokio::test(start_paused = true)]
async fn a_session_that_could_not_be_released_is_ended() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    world.store.set(Weather::Away, [Method::Release]);
    let never = tokio_util::sync::CancellationToken::new();
    world.engine.shut_down(seconds(30), &never).await;
    client.closed().await;
    world.store.set(Weather::Fair, [Method::Release]);
    let next = world.next("next");
    next.until_status("s", SessionStatus::Completed).await;
}

/// Another server has taken the session over and ended its turn, and this one does not know yet. A client that
/// repeats its message here must not be sent the end: it has not received what came before it.
#[tokio::test(start_paused = true)]
async fn a_receipt_shows_nothing_that_another_server_has_written() {
    let world = World::start();
    world.provider.will([Step::Stall]);
    let mut client = world.connect("s").await;
    client.say_as("m", "hi");
    world.provider.wait_for_requests(1).await;
    client.settle().await;
    world.store.set(Weather::Hanging, [Method::Heartbeat]);
    let other = World::on(&world.store, "there");
    let mut there = other.connect("s").await;
    there.settle().await;
    client.say_as("m", "hi");
    let (frames, code) = client.closed().await;
    assert_eq!(code, CloseCode::TakenOver);
    assert_eq!(names(&frames), [""; 0]);
}

/// A message that is refused while no turn may start leaves nothing to look for. A session that looked again and
/// again, without a pause, would stop the test's clock, and this test would not end.
#[tokio::test(start_paused = true)]
async fn a_session_that_has_nothing_to_start_does_not_look_again() {
    let world = World::with(|limits| limits.tokens.session_max = 0);
    let mut client = world.connect("s").await;
    client.settle().await;
    world.store.set(Weather::Away, [Method::Heartbeat]);
    pass(seconds(4)).await;
    client.say("hi");
    let refused = client.settle().await;
    assert_eq!(errors(&refused)[0].code, ErrorCode::OverBudget);
    pass(seconds(60)).await;
    client.settle().await;
}

/// More sessions than one heartbeat asks for: the last one learns with the second heartbeat that it was taken
/// over.
#[tokio::test(start_paused = true)]
async fn a_great_many_sessions_take_turns_in_heartbeats() {
    let world = World::start();
    let mut clients = Vec::new();
    for number in 0..501 {
        clients.push(world.connect(&format!("s{number:04}")).await);
    }
    let other = World::on(&world.store, "there");
    let _there = other.connect("s0500").await;
    let since = Instant::now();
    let (_, code) = clients.last_mut().expect("there are many").closed().await;
    assert_eq!(code, CloseCode::TakenOver);
    assert!(since.elapsed() <= seconds(2), "{:?}", since.elapsed());
    pass(seconds(120)).await;
    assert_eq!(world.engine.sessions_count(), 500);
    let lapsed = world.store.memory().claim_lapsed(&sweep_by("third")).await;
    assert_eq!(lapsed.expect("the store answers").len(), 0);
}

/// Sessions cost the database nothing while nobody says anything.
#[tokio::test(start_paused = true)]
async fn an_idle_server_writes_nothing_but_its_heartbeat() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    let before = world.store.session_calls().len();
    let beats = world.store.count(Method::Heartbeat);
    pass(seconds(600)).await;
    assert_eq!(world.store.session_calls().len(), before);
    let beats = world.store.count(Method::Heartbeat) - beats;
    assert!((599..=601).contains(&beats), "{beats}");
}

/// Nobody else has claimed the sessions of a server whose heartbeats failed for a while: they go on.
#[tokio::test(start_paused = true)]
async fn a_lapsed_lease_alone_loses_nothing() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    world.store.set(Weather::Away, [Method::Heartbeat]);
    pass(seconds(60)).await;
    world.store.set(Weather::Fair, [Method::Heartbeat]);
    pass(seconds(2)).await;
    world.provider.will_say("Hello.");
    client.say("hi");
    assert_eq!(&*client.answer().await.done.text, "Hello.");
    world.log("s").await;
}

/// Another server may be about to take over the sessions of a server that cannot renew its lease. So it starts no
/// turn until it can, neither of a new message nor of one that waits. Both are kept, in their order.
#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_renew_its_lease_starts_no_turn() {
    let world = World::start();
    world
        .provider
        .will([Step::Hold("first"), Step::Say("One.".to_owned())]);
    let mut busy = world.connect("busy").await;
    let mut idle = world.connect("idle").await;
    idle.settle().await;
    busy.say("one");
    busy.say("two");
    world.provider.wait_for_requests(1).await;
    world.store.set(Weather::Away, [Method::Heartbeat]);
    pass(seconds(4)).await;

    idle.say_with("a", "hi", OnBusy::Reject);
    idle.say("are you there?");
    let receipts = idle.settle().await;
    assert_eq!(names(&receipts), ["message_queued", "message_queued"]);
    world.provider.release("first");
    assert_eq!(&*busy.answer().await.done.text, "One.");
    pass(seconds(10)).await;
    assert_eq!(world.provider.requests().len(), 1);

    for answer in ["Two.", "Hello.", "Yes."] {
        world.provider.will_say(answer);
    }
    world.store.set(Weather::Fair, [Method::Heartbeat]);
    let back = Instant::now();
    for answer in [
        busy.answer().await,
        idle.answer().await,
        idle.answer().await,
    ] {
        assert_eq!(answer.done.finish_reason, FinishReason::Stop);
    }
    assert!(back.elapsed() <= seconds(3), "{:?}", back.elapsed());
    for session in ["busy", "idle"] {
        world.log(session).await;
    }
    let asked = world.store.log("idle").await.into_iter();
    let asked = asked.filter_map(|event| match event.body {
        EventBody::UserMessage(message) => Some(message.text.to_string()),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), ["hi", "are you there?"]);
}
