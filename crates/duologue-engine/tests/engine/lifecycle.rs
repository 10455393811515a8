//! How sessions begin, end, and begin again; and whose they are.

use duologue_doubles::scripted::Step;
use duologue_engine::{AttachError, provider::ProviderError, store::SessionStatus};
use duologue_protocol::{
    ClientFrame, CloseCode, ConnectionId, DisconnectReason, EndReason, ErrorCode, EventBody,
    FinishReason, MessageId, Seq, ServerFrame, SummaryStatus, UserId,
};

use crate::harness::{
    World,
    client::{body, errors, names},
    log::{drain_schedule, types},
    millis, pass, seconds, session_id,
    store::{Method, Weather},
    until,
};

#[tokio::test(start_paused = true)]
async fn a_session_begins_with_its_start_and_its_readers_coming() {
    let world = World::start();
    let mut client = world.connect("s").await;
    let frames = client.settle().await;
    assert_eq!(names(&frames), ["session_started", "client_connected"]);
    let ServerFrame::Opened(started) = &frames[0] else {
        panic!("it starts");
    };
    assert_eq!(started.agent, "test");
    assert_eq!(started.user_id.as_str(), "alice");
}

/// The reader is lost; nobody comes back within the grace.
#[tokio::test(start_paused = true)]
async fn a_session_whose_last_reader_was_lost_ends_after_the_grace() {
    let world = World::start();
    let client = world.connect("s").await;
    drop(client);
    pass(seconds(29)).await;
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    pass(seconds(2)).await;
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.end_reason, Some(EndReason::Abandoned));
    assert_eq!(record.duration_seconds, Some(30.0));
    assert_eq!(
        drain_schedule(&world.log("s").await),
        [DisconnectReason::Lost]
    );
    assert_eq!(world.engine.sessions_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_back_within_the_grace_keeps_the_session() {
    let world = World::start();
    drop(world.connect("s").await);
    pass(seconds(29)).await;
    let client = world.resume("s", 2).await;
    pass(seconds(300)).await;
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    drop(client);
    pass(seconds(31)).await;
    world.until_status("s", SessionStatus::Completed).await;
}

/// The reader is lost, and then the store is: nobody can come back for longer than the grace. It
/// restarts when the store is back.
#[tokio::test(start_paused = true)]
async fn the_grace_does_not_pass_while_the_store_is_away() {
    let world = World::start();
    drop(world.connect("s").await);
    pass(seconds(2)).await;
    world.store.set_all(Weather::Away);
    pass(seconds(60)).await;
    world.store.set_all(Weather::Fair);
    pass(seconds(29)).await;
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    let client = world.resume("s", 2).await;
    pass(seconds(120)).await;
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    drop(client);
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.end_reason, Some(EndReason::Abandoned));
    world.log("s").await;
}

#[tokio::test(start_paused = true)]
async fn as_long_as_one_reader_is_there_the_loss_of_others_ends_nothing() {
    let world = World::start();
    let mut first = world.connect("s").await;
    let second = world.connect("s").await;
    drop(second);
    pass(seconds(120)).await;
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    let names = names(&first.settle().await);
    assert!(names.ends_with(&["client_connected", "client_disconnected"]));
}

/// The grace is over while the answer is still forming. The turn has its end first.
#[tokio::test(start_paused = true)]
async fn the_loss_of_all_readers_does_not_cut_an_answer_short() {
    let world = World::start();
    world
        .provider
        .will([Step::Hold("slow"), Step::Say("At last.".to_owned())]);
    world
        .provider
        .will_summarize([Step::Say("Done.".to_owned())]);
    let client = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    drop(client);
    pass(seconds(15)).await;
    world.provider.release("slow");
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary.as_deref(), Some("Done."));
    let log = world.log("s").await;
    let done = log.iter().find_map(|event| match &event.body {
        EventBody::AssistantMessage(done) => Some(done),
        _ => None,
    });
    assert_eq!(done.unwrap().finish_reason, FinishReason::Stop);
}

/// A client is connected, but sends nothing. A message restarts the time; a ping does not.
#[tokio::test(start_paused = true)]
async fn a_session_in_which_nobody_speaks_ends_as_idle() {
    let world = World::start();
    world.provider.will_say("Hello.");
    let mut client = world.connect("s").await;
    pass(seconds(14 * 60)).await;
    client.say("hi");
    client.answer().await;
    pass(seconds(14 * 60)).await;
    client.settle().await;
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    let (frames, code) = client.closed().await;
    assert_eq!(names(&frames), ["session_ended"]);
    assert_eq!(code, CloseCode::Ended);
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.end_reason, Some(EndReason::Idle));
    assert_eq!(record.duration_seconds, Some(29.0 * 60.0));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_takes_long_is_not_idle() {
    let world = World::with(|limits| limits.session.idle_timeout = seconds(10));
    world.provider.will([Step::Stall]);
    world.provider.will([Step::Stall]);
    world.provider.will([Step::Stall]);
    let mut client = world.connect("s").await;
    client.say("hi");
    let answer = client.answer().await;
    assert!(answer.done.duration_ms > 60_000, "all attempts timed out");
}

#[tokio::test(start_paused = true)]
async fn a_request_to_end_ends_the_session_at_once() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    client.send(ClientFrame::End);
    let (frames, code) = client.closed().await;
    assert_eq!(names(&frames), ["session_ended"]);
    assert_eq!(code, CloseCode::Ended);
    assert_eq!(
        world.record("s").await.end_reason,
        Some(EndReason::Requested)
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_in_mid_turn_cancels_the_turn_first() {
    let world = World::start();
    world
        .provider
        .will([Step::Say("Half".to_owned()), Step::Stall]);
    let mut client = world.connect("s").await;
    client.say("hi");
    client
        .until(|frame| matches!(frame, ServerFrame::Token { .. }))
        .await;
    client.send(ClientFrame::End);
    client.send(ClientFrame::End);
    let (frames, code) = client.closed().await;
    assert_eq!(names(&frames), ["assistant_message", "session_ended"]);
    let Some(EventBody::AssistantMessage(done)) = body(&frames[0]) else {
        panic!("it is done");
    };
    assert_eq!(done.finish_reason, FinishReason::Cancelled);
    assert_eq!(code, CloseCode::Ended);
    world.provider.wait_for_dropped(1).await;
    world.log("s").await;
}

/// 1000 means that the user is done with the session, in all tabs.
#[tokio::test(start_paused = true)]
async fn a_reader_that_closes_cleanly_ends_the_session_for_all() {
    let world = World::start();
    let mut first = world.connect("s").await;
    let second = world.connect("s").await;
    second.leave(DisconnectReason::Closed);
    let (frames, code) = first.closed().await;
    assert!(names(&frames).ends_with(&["client_disconnected", "session_ended"]));
    assert_eq!(code, CloseCode::Ended);
    let record = world.record("s").await;
    assert_eq!(record.end_reason, Some(EndReason::Closed));
}

/// The log goes on where it was, and the next end makes a new summary of the whole.
#[tokio::test(start_paused = true)]
async fn an_ended_session_is_reopened_by_whoever_connects_again() {
    let world = World::start();
    let first = world.connect("s").await;
    first.send(ClientFrame::End);
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary_status, Some(SummaryStatus::Done));

    let mut again = world.connect("s").await;
    let record = world.record("s").await;
    assert_eq!(record.status, SessionStatus::Active);
    assert_eq!(record.end_time, None);
    let frames = again.settle().await;
    assert_eq!(names(&frames), ["resumed", "client_connected"]);
    let Some(EventBody::ClientConnected(connected)) = body(&frames[1]) else {
        panic!("it is connected");
    };
    assert!(connected.reopened);
    assert_eq!(connected.connection, ConnectionId(2));

    world.provider.will_say("Hello.");
    world
        .provider
        .will_summarize([Step::Say("They met.".to_owned())]);
    again.say("hi");
    again.answer().await;
    again.send(ClientFrame::End);
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary.as_deref(), Some("They met."));
    let log = world.log("s").await;
    let endings = types(&log)
        .iter()
        .filter(|name| **name == "session_ended")
        .count();
    assert_eq!(endings, 2);
}

/// Alice's session is looked for by Bob: while it lives here, and when it has ended.
#[tokio::test(start_paused = true)]
async fn another_users_session_does_not_exist() {
    let world = World::start();
    let client = world.connect("s").await;
    let bob = world.attach("s", "bob", None).await;
    assert!(matches!(bob, Err(AttachError::NotFound)));
    client.send(ClientFrame::End);
    world.until_status("s", SessionStatus::Completed).await;
    let bob = world.attach("s", "bob", Some(0)).await;
    assert!(matches!(bob, Err(AttachError::NotFound)));
    let bob = UserId::new("bob").unwrap();
    let found = world.engine.session(&session_id("s"), &bob).await;
    assert_eq!(found.unwrap(), None);
    assert_eq!(world.record("s").await.status, SessionStatus::Completed);
    let events = world
        .store
        .memory()
        .read(&bob, &session_id("s"), Seq::ZERO, 10)
        .await;
    assert_eq!(events.unwrap(), []);
}

/// Bob asks for Alice's session without end, while the store takes its time to answer. Alice must
/// find neither the door blocked nor a crowd before it.
#[tokio::test(start_paused = true)]
async fn another_users_crowd_does_not_keep_the_owner_out() {
    let world = World::start();
    drop(world.connect("s").await);
    world.store.set(Weather::Hanging, [Method::Claim]);
    let crowd = futures_util::future::join_all((0..500).map(|_| world.attach("s", "bob", None)));
    let owner = world.attach("s", "alice", Some(0));
    let calm = async {
        world.store.wait_for(Method::Claim, 2).await;
        world.store.set(Weather::Fair, [Method::Claim]);
    };
    let (crowd, owner, ()) = tokio::join!(crowd, owner, calm);
    assert!(crowd.iter().all(Result::is_err));
    owner.expect("Alice is let in").settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_has_only_so_many_readers() {
    let world = World::with(|limits| limits.session.readers_max = 2);
    let mut first = world.connect("s").await;
    let second = world.connect("s").await;
    let third = world.attach("s", "alice", None).await;
    assert!(matches!(third, Err(AttachError::Busy)));
    let log = world.log("s").await;
    let came = types(&log)
        .iter()
        .filter(|name| **name == "client_connected")
        .count();
    assert_eq!(came, 2, "a refused reader is never recorded");
    drop(second);
    first
        .until(|frame| names(std::slice::from_ref(frame)) == ["client_disconnected"])
        .await;
    world.connect("s").await;
}

/// The one who asked has gone before the session was open. The session must not count a reader that
/// nobody holds.
#[tokio::test(start_paused = true)]
async fn whoever_gives_up_while_waiting_was_never_there() {
    let world = World::start();
    let mut first = world.connect("s").await;
    world.store.set(Weather::Hanging, [Method::Append]);
    let busy = world.connect("s");
    let impatient = tokio::time::timeout(millis(400), busy).await;
    assert!(impatient.is_err());
    let never_read = tokio::time::timeout(millis(400), world.connect("s")).await;
    assert!(never_read.is_err());
    world.store.set(Weather::Fair, [Method::Append]);
    first.settle().await;
    let log = until("the impatient reader left", async || {
        let log = world.log("s").await;
        (!drain_schedule(&log).is_empty()).then_some(log)
    })
    .await;
    let came = types(&log)
        .iter()
        .filter(|name| **name == "client_connected")
        .count();
    assert_eq!(came, 2, "{:?}", types(&log));
}

/// The message was on its way when the session ended. It is refused, so that nobody waits for its
/// receipt.
#[tokio::test(start_paused = true)]
async fn a_message_that_comes_after_the_end_is_refused() {
    let world = World::start();
    let mut client = world.connect("s").await;
    client.settle().await;
    client.send(ClientFrame::End);
    client.say_as("late", "wait!");
    let (frames, code) = client.closed().await;
    assert_eq!(names(&frames), ["session_ended", "error"]);
    assert_eq!(errors(&frames)[0].code, ErrorCode::Busy);
    let id = errors(&frames)[0].id.as_ref().map(MessageId::as_str);
    assert_eq!(id, Some("late"));
    assert_eq!(code, CloseCode::Ended);
}

/// The end waits for the running turn to stop. Who comes meanwhile must not be shown in, only to be
/// sent away at once.
#[tokio::test(start_paused = true)]
async fn whoever_comes_while_the_session_ends_reopens_it() {
    let world = World::start();
    world.provider.will([Step::Stall]);
    let mut client = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    client.send(ClientFrame::End);
    let mut next = world.connect("s").await;
    assert_eq!(client.closed().await.1, CloseCode::Ended);
    let frames = next.settle().await;
    assert_eq!(names(&frames), ["resumed", "client_connected"]);
    let Some(EventBody::ClientConnected(connected)) = body(&frames[1]) else {
        panic!("it is connected");
    };
    assert!(connected.reopened);
    assert_eq!(world.record("s").await.status, SessionStatus::Active);
    world.log("s").await;
}

/// The clock is set back by an hour in the middle of a turn, and by another one before the summary
/// has failed for good. The log's own time stands still meanwhile.
#[tokio::test(start_paused = true)]
async fn a_logs_time_does_not_go_back_when_the_clock_does() {
    let world = World::with(|limits| limits.jobs.retry_delays.clear());
    world
        .provider
        .will([Step::Hold("half-way"), Step::Say("Hello.".to_owned())]);
    let refusal = ProviderError::Refused("the test refuses".into());
    world
        .provider
        .will_summarize([Step::Hold("summary"), Step::Fail(refusal)]);
    pass(seconds(10)).await;
    let mut client = world.connect("s").await;
    client.say("hi");
    world.provider.wait_for_requests(1).await;
    world.clock.step_back(seconds(3600));
    world.provider.release("half-way");
    client.answer().await;
    client.send(ClientFrame::End);
    world.provider.wait_for_requests(2).await;
    world.clock.step_back(seconds(3600));
    world.provider.release("summary");
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary_status, Some(SummaryStatus::Failed));
    let log = world.log("s").await;
    assert_eq!(
        log.first().unwrap().occurred_at,
        log.last().unwrap().occurred_at
    );
}
