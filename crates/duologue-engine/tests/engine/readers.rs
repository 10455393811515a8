//! Readers: served alike, each at its own risk.

use duologue_doubles::scripted::Step;
use duologue_engine::{Delivery, Position};
use duologue_protocol::{
    CloseCode, ConnectionId, DisconnectReason, ErrorCode, EventBody, LogId, Seq, ServerFrame,
    SessionOpened,
};

use crate::harness::{
    World,
    client::{Client, body, errors, is_done, names},
    log::drain_schedule,
    millis,
    provider::Paced,
    until,
};

/// All readers get the very same bytes, not equal ones.
#[tokio::test(start_paused = true)]
async fn a_frame_is_serialised_once_for_all_readers() {
    let world = World::start();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = world.connect("s").await;
        client.settle().await;
        clients.push(client);
    }
    for client in &mut clients {
        client.settle().await;
    }
    world
        .provider
        .will([Step::Say("Hel".to_owned()), Step::Say("lo.".to_owned())]);
    clients[0].say("hi");
    for _ in 0..6 {
        let mut places = Vec::new();
        for client in &mut clients {
            let json = client.shared().await.json();
            places.push((json.as_ptr(), json.len()));
        }
        places.dedup();
        assert_eq!(places.len(), 1);
    }
    let requests = world.provider.requests();
    assert_eq!(requests.len(), 1);
}

/// Reads what is queued for a reader that was cut off, says why it leaves, and returns how much
/// there was.
async fn leave_slowly(mut client: Client) -> usize {
    let mut count = 0;
    loop {
        match client.receive().await {
            Delivery::Frame(_) | Delivery::Tokens(_) => count += 1,
            Delivery::Close(code) => {
                assert_eq!(code, CloseCode::Slow);
                client.leave(DisconnectReason::Slow);
                return count;
            }
        }
    }
}

async fn departs_once(world: &World) {
    let reasons = until("the slow reader left", async || {
        let reasons = drain_schedule(&world.log("s").await);
        (!reasons.is_empty()).then_some(reasons)
    })
    .await;
    assert_eq!(reasons, [DisconnectReason::Slow]);
}

/// One reader does not read, until more frames wait for it than may. The other one misses nothing.
#[tokio::test(start_paused = true)]
async fn a_reader_that_lets_too_many_frames_wait_is_cut_off() {
    let change = |limits: &mut duologue_engine::Limits| limits.session.reader_frames_max = 50;
    let world = World::with_provider(Paced::boxed(200, millis(1)), change);
    let mut client = world.connect("s").await;
    let slow = world.connect("s").await;
    client.say("count");
    let answer = client.answer().await;
    assert_eq!(answer.pieces.len(), 200);
    assert!(leave_slowly(slow).await < 60);
    departs_once(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lets_too_many_bytes_wait_is_cut_off() {
    let change = |limits: &mut duologue_engine::Limits| limits.session.reader_bytes_max = 10_000;
    let world = World::with_provider(Paced::boxed(200, millis(1)), change);
    let mut client = world.connect("s").await;
    let slow = world.connect("s").await;
    client.say("count");
    let answer = client.answer().await;
    assert_eq!(answer.pieces.len(), 200);
    assert!(leave_slowly(slow).await < 100);
    departs_once(&world).await;
}

/// A reader that reads in time may be sent far more than may wait for it.
#[tokio::test(start_paused = true)]
async fn the_limits_are_about_what_waits_and_not_about_what_is_sent() {
    let world = World::with_provider(Paced::boxed(500, millis(1)), |limits| {
        limits.session.reader_bytes_max = 10_000;
        limits.session.reader_frames_max = 50;
    });
    let mut client = world.connect("s").await;
    for _ in 0..3 {
        client.say("count");
        assert_eq!(client.answer().await.pieces.len(), 500);
    }
}

/// The log is longer than one page, and longer than what may wait for a reader.
#[tokio::test(start_paused = true)]
async fn a_long_log_is_replayed_in_order_and_each_event_once() {
    let world = World::with(|limits| limits.session.reader_frames_max = 50);
    let mut client = world.connect("s").await;
    for _ in 0..150 {
        world.provider.will_say("Yes.");
        client.say("hi");
        client.answer().await;
    }
    let log = world.log("s").await;
    assert!(log.len() > 450);
    let mut returning = world.resume("s", 3).await;
    let frames = returning
        .until(|frame| matches!(frame, ServerFrame::Replayed { .. }))
        .await;
    let Some((ServerFrame::Opened(opened), rest)) = frames.split_first() else {
        panic!("the first frame restates the session");
    };
    assert!(opened.resumed);
    assert_eq!(opened.last_seq, log.last().unwrap().seq);
    let log = world.log("s").await;
    let (replayed, events) = rest.split_last().unwrap();
    let expected: Vec<ServerFrame> = log[3..].iter().cloned().map(ServerFrame::Event).collect();
    assert_eq!(events, expected);
    let seq = log.last().unwrap().seq;
    assert_eq!(*replayed, ServerFrame::Replayed { seq });
    assert_eq!(returning.settle().await, []);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_missed_nothing_is_replayed_its_own_coming_only() {
    let world = World::start();
    drop(world.connect("s").await);
    until("the departure is on record", async || {
        (world.log("s").await.len() == 3).then_some(())
    })
    .await;
    let mut client = world.resume("s", 3).await;
    let frames = client.settle().await;
    assert_eq!(names(&frames), ["resumed", "client_connected", "replayed"]);
}

#[tokio::test(start_paused = true)]
async fn a_position_beyond_the_log_is_refused_and_the_reader_goes_live() {
    let world = World::start();
    let mut first = world.connect("s").await;
    for after in [3, u64::MAX] {
        let mut client = world.resume("s", after).await;
        let frames = client.settle().await;
        assert_eq!(names(&frames), ["resumed", "error", "client_connected"]);
        assert_eq!(errors(&frames)[0].code, ErrorCode::UnknownPosition);
        client.leave(DisconnectReason::Lost);
        first
            .until(|frame| names(std::slice::from_ref(frame)) == ["client_disconnected"])
            .await;
    }
}

/// The log's id decides, whatever the number is; the id comes with the first frame of every connection.
#[tokio::test(start_paused = true)]
async fn a_position_in_another_history_is_refused() {
    let world = World::start();
    let mut first = world.connect("s").await;
    let log_id = opened(&first.settle().await).log_id.clone();
    let other = LogId::new("another-history").expect("a log id");
    for (known, after, is_known) in [
        (&log_id, 0, true),
        (&log_id, 1, true),
        (&log_id, u64::MAX, false),
        (&other, 0, false),
        (&other, 1, false),
        (&other, u64::MAX, false),
    ] {
        let position = Position {
            after: Seq(after),
            log_id: Some(known.clone()),
        };
        let mut client = world.attach_at("s", position).await;
        let frames = client.settle().await;
        assert_eq!(opened(&frames).log_id, log_id);
        let refused = errors(&frames)
            .iter()
            .any(|error| error.code == ErrorCode::UnknownPosition);
        assert_eq!(refused, !is_known, "{after} in {known}");
        assert_eq!(names(&frames).contains(&"replayed"), is_known);
        client.leave(DisconnectReason::Lost);
        first
            .until(|frame| names(std::slice::from_ref(frame)) == ["client_disconnected"])
            .await;
    }
}

/// A session that was erased is created again under the same id; its client must not go on from its number.
#[tokio::test(start_paused = true)]
async fn a_position_in_a_session_that_does_not_exist_is_refused() {
    let world = World::start();
    let mut client = world.resume("s", 7).await;
    let frames = client.settle().await;
    assert_eq!(
        names(&frames),
        ["session_started", "error", "client_connected"]
    );
    assert_eq!(errors(&frames)[0].code, ErrorCode::UnknownPosition);
    // Zero is before every log.
    let mut client = world.resume("t", 0).await;
    let frames = client.settle().await;
    assert_eq!(names(&frames), ["session_started", "client_connected"]);
}

fn opened(frames: &[ServerFrame]) -> &SessionOpened {
    match &frames[0] {
        ServerFrame::Opened(opened) => opened,
        other => panic!("the first frame is {other:?}"),
    }
}

/// The reader has not read its replay when the answer is over; what was live meanwhile follows.
#[tokio::test(start_paused = true)]
async fn what_happens_during_a_replay_follows_it() {
    let world = World::start();
    world.provider.will([
        Step::Say("Half".to_owned()),
        Step::Hold("half-way"),
        Step::Say(" and half.".to_owned()),
    ]);
    let mut client = world.connect("s").await;
    client.say("hi");
    client
        .until(|frame| matches!(frame, ServerFrame::Token { .. }))
        .await;
    let mut late = world.resume("s", 0).await;
    world.provider.release("half-way");
    client.until(is_done).await;
    let answer = late.answer().await;
    assert_eq!(
        names(&answer.frames),
        [
            "resumed",
            "session_started",
            "client_connected",
            "user_message",
            "routed",
            "client_connected",
            "replayed",
            "draft",
            "token",
            "assistant_message"
        ]
    );
    assert_eq!(&*answer.done.text, "Half and half.");
}

/// The readers' own comings and goings are events as all others.
#[tokio::test(start_paused = true)]
async fn readers_hear_of_each_other() {
    let world = World::start();
    let mut first = world.connect("s").await;
    let second = world.connect("s").await;
    second.leave(DisconnectReason::Unresponsive);
    let frames = first
        .until(|frame| names(std::slice::from_ref(frame)) == ["client_disconnected"])
        .await;
    let Some(EventBody::ClientDisconnected(left)) = frames.last().and_then(body) else {
        panic!("it left");
    };
    assert_eq!(left.connection, ConnectionId(2));
    assert_eq!(left.reason, DisconnectReason::Unresponsive);
    assert!(!frames.iter().any(is_done));
}
