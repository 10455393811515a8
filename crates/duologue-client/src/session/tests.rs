//! Each rule of a session by itself.

use serde_json::json;

use super::*;

fn session(last_seq: u64) -> Session {
    let mut session = Session::new(SessionOptions {
        id_prefix: "run".into(),
        rng: Rng::with_seed(1),
        ..SessionOptions::default()
    });
    session.connecting();
    receive(&mut session, &resumed(last_seq));
    session
}

fn resumed(last_seq: u64) -> Value {
    json!({"type": "session_started", "resumed": true, "last_seq": last_seq, "log_id": "log-1"})
}

fn receipt(seq: u64, id: &str) -> Value {
    json!({"type": "user_message", "seq": seq, "turn_id": "turn-1", "text": "x", "id": id})
}

fn token(index: u64) -> Value {
    json!({"type": "token", "turn_id": "turn-1", "index": index, "token": "x"})
}

fn try_receive(session: &mut Session, frame: &Value) -> Result<Received, Violation> {
    session.receive(&frame.to_string(), Instant::now())
}

fn receive(session: &mut Session, frame: &Value) -> bool {
    try_receive(session, frame).unwrap().is_new
}

fn transmission(session: &mut Session) -> Option<Value> {
    let frame = session.next_transmission()?;
    Some(serde_json::from_str(&frame).unwrap())
}

fn closed(code: u16) -> Loss {
    Loss::Closed {
        code,
        reason: String::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_session_starts_with_its_first_event() {
    let mut session = Session::new(SessionOptions::default());
    assert_eq!(session.position(), None);
    session.connecting();
    let started = json!({"type": "session_started", "seq": 1, "resumed": false, "last_seq": 1});
    assert!(receive(&mut session, &started));
    assert!(session.is_live());
    assert!(receive(
        &mut session,
        &json!({"type": "client_connected", "seq": 2})
    ));
    assert_eq!(session.position().unwrap().last_seq, 2);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_exists_starts_live_without_a_position() {
    let mut session = session(40);
    assert!(session.is_live());
    let position = session.position().unwrap();
    assert_eq!(
        (position.last_seq, position.log_id.as_deref()),
        (40, Some("log-1"))
    );
    assert!(receive(
        &mut session,
        &json!({"type": "client_connected", "seq": 41})
    ));
}

#[tokio::test(start_paused = true)]
async fn a_missing_event_is_a_violation_and_does_not_move_the_position() {
    let mut session = session(5);
    let gap = Violation::EventGap {
        expected: 6,
        seq: 7,
    };
    assert_eq!(try_receive(&mut session, &receipt(7, "a")), Err(gap));
    assert_eq!(session.position().unwrap().last_seq, 5);
    // An event of a type that this version does not know counts.
    assert!(receive(
        &mut session,
        &json!({"type": "from_the_future", "seq": 6})
    ));
    assert!(receive(&mut session, &receipt(7, "a")));
    assert!(!receive(&mut session, &receipt(7, "a")), "seen before");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_appended_in_order_and_a_missing_one_is_a_violation() {
    let mut session = session(5);
    assert!(
        try_receive(&mut session, &token(0)).is_err(),
        "before `start`"
    );
    receive(&mut session, &json!({"type": "start", "turn_id": "turn-1"}));
    assert!(receive(&mut session, &token(0)));
    assert!(receive(&mut session, &token(1)));
    assert!(
        !receive(&mut session, &token(1)),
        "it has that text already"
    );
    let gap = Violation::TokenGap {
        turn_id: "turn-1".into(),
        expected: Some(2),
        index: Some(3),
    };
    assert_eq!(try_receive(&mut session, &token(3)), Err(gap));
    receive(
        &mut session,
        &json!({"type": "draft", "turn_id": "turn-1", "text": "", "next_index": 9}),
    );
    assert!(!receive(&mut session, &token(8)));
    assert!(receive(&mut session, &token(9)));
    session.disconnected();
    session.connecting();
    receive(&mut session, &resumed(5));
    assert!(
        try_receive(&mut session, &token(10)).is_err(),
        "no draft on this connection"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_frame_and_a_wrong_first_frame_are_violations() {
    for text in ["", "hello", "[]", "{}", r#"{"type":7}"#] {
        let found = session(5).receive(text, Instant::now());
        assert!(matches!(found, Err(Violation::NotAFrame(_))), "{text}");
    }
    let mut session = Session::new(SessionOptions::default());
    session.connecting();
    let first = try_receive(&mut session, &json!({"type": "pong"}));
    assert_eq!(first, Err(Violation::FirstFrame("pong".into())));
    receive(
        &mut session,
        &json!({"type": "auth_required", "timeout_ms": 1}),
    );
    receive(&mut session, &json!({"type": "auth_ok"}));
}

/// The receipt may be part of what was missed, so nothing is sent before all of that has come.
#[tokio::test(start_paused = true)]
async fn a_message_without_receipt_is_sent_again_after_the_replay() {
    let mut session = session(5);
    let id = session.message("hello");
    assert_eq!(id, "run-1");
    assert!(session.is_own_id(&id) && !session.is_own_id("runner-1"));
    let first = transmission(&mut session).unwrap();
    assert_eq!(
        first,
        json!({"type": "message", "message": "hello", "id": "run-1"})
    );
    assert_eq!(transmission(&mut session), None);

    session.lost(&Loss::Broken, Instant::now());
    session.connecting();
    assert_eq!(transmission(&mut session), None);
    receive(&mut session, &resumed(7));
    assert_eq!(session.position().unwrap().last_seq, 5, "not yet replayed");
    assert_eq!(transmission(&mut session), None);
    receive(&mut session, &json!({"type": "x", "seq": 6}));
    receive(&mut session, &json!({"type": "x", "seq": 7}));
    receive(&mut session, &json!({"type": "replayed", "seq": 7}));
    assert_eq!(transmission(&mut session), Some(first));

    receive(&mut session, &receipt(8, &id));
    assert!(!session.is_pending(&id));
    session.lost(&Loss::Broken, Instant::now());
    session.connecting();
    receive(&mut session, &resumed(8));
    receive(&mut session, &json!({"type": "replayed", "seq": 8}));
    assert_eq!(transmission(&mut session), None);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_receipt_and_a_queued_message_and_a_refusal_settle_a_message() {
    let mut session = session(5);
    session.message_as("old", "x", Some(OnBusy::Interrupt));
    assert_eq!(transmission(&mut session).unwrap()["on_busy"], "interrupt");
    assert!(
        !receive(&mut session, &receipt(3, "old")),
        "the event is known"
    );
    session.message_as("queued", "x", None);
    receive(
        &mut session,
        &json!({"type": "message_queued", "seq": 6, "id": "queued"}),
    );
    session.message_as("refused", "x", None);
    let refusal = json!({"type": "error", "code": "busy", "id": "refused"});
    let of_turn = json!({"type": "error", "code": "busy", "id": "refused", "turn_id": "turn-1"});
    receive(&mut session, &of_turn);
    assert!(session.is_pending("refused"));
    receive(&mut session, &refusal);
    assert!(session.is_all_acknowledged());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_loses_every_connection_is_given_up() {
    let mut session = session(5);
    let id = session.message("poison");
    for sendings in 1..=5 {
        assert_eq!(session.next_abandoned(), None);
        transmission(&mut session).unwrap();
        assert_eq!(session.sendings(&id), sendings);
        session.lost(&Loss::Broken, Instant::now());
        session.connecting();
        receive(&mut session, &resumed(5));
        receive(&mut session, &json!({"type": "replayed", "seq": 5}));
    }
    assert_eq!(session.next_abandoned(), Some(id));
    assert_eq!(transmission(&mut session), None);
}

#[tokio::test(start_paused = true)]
async fn a_replay_must_end_where_it_says() {
    let mut session = session(5);
    session.disconnected();
    session.connecting();
    receive(&mut session, &resumed(6));
    let short = Violation::Replayed {
        last_seq: 5,
        seq: Some(6),
    };
    let replayed = json!({"type": "replayed", "seq": 6});
    assert_eq!(try_receive(&mut session, &replayed), Err(short));
}

/// By the error, by another `log_id`, or because the session is new: the known log is gone.
#[tokio::test(start_paused = true)]
async fn a_lost_history_is_noticed_in_each_way() {
    let known = |frames: &[Value]| {
        let mut session = session(5);
        session.disconnected();
        session.connecting();
        for frame in frames {
            receive(&mut session, frame);
        }
        session
    };
    assert!(!known(&[resumed(9)]).is_history_lost());
    let shorter = [
        resumed(3),
        json!({"type": "error", "code": "unknown_position"}),
    ];
    let mut shorter = known(&shorter);
    assert!(shorter.is_history_lost() && shorter.is_live());
    assert_eq!(shorter.position().unwrap().last_seq, 3, "it goes on live");
    shorter.forget_history();
    assert_eq!(shorter.position(), Some(&Position::default()));

    let mut longer = resumed(9);
    longer["log_id"] = "log-2".into();
    assert!(known(&[longer]).is_history_lost());
    let new = json!({"type": "session_started", "seq": 1, "resumed": false, "last_seq": 1});
    assert!(known(&[new]).is_history_lost());
}

#[tokio::test(start_paused = true)]
async fn the_wait_before_a_reconnection_honours_what_the_server_asked_for() {
    let now = Instant::now();
    let wait = |session: &mut Session, loss: &Loss| match session.lost(loss, now) {
        NextStep::Reconnect { at } => at - now,
        other => panic!("{other:?}"),
    };
    let first = Duration::from_millis(500);
    assert!(wait(&mut session(5), &Loss::Broken) <= first);

    let mut told = session(5);
    receive(
        &mut told,
        &json!({"type": "goaway", "reason": "restart", "reconnect_after_ms": 60_000}),
    );
    let asked = Duration::from_mins(1);
    let waited = wait(&mut told, &closed(1012));
    assert!(waited >= asked && waited <= asked + first, "{waited:?}");

    let mut flooding = session(5);
    receive(
        &mut flooding,
        &json!({"type": "error", "code": "too_many_requests", "retry_after_ms": 9000}),
    );
    assert!(wait(&mut flooding, &closed(4029)) >= Duration::from_secs(9));

    let refusal = crate::Refusal {
        status: 503,
        code: None,
        message: None,
        retry_after: Some(Duration::from_secs(7)),
    };
    assert!(wait(&mut session(5), &Loss::Refused(refusal)) >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn the_loss_decides_whether_to_reconnect() {
    let now = Instant::now();
    assert_eq!(session(5).lost(&closed(1000), now), NextStep::Finish);
    assert_eq!(session(5).lost(&closed(1009), now), NextStep::GiveUp);
    assert_eq!(session(5).lost(&Loss::TokenRequired, now), NextStep::GiveUp);
    let unauthorized = session(5).lost(&closed(4401), now);
    assert!(matches!(unauthorized, NextStep::Reauthenticate { .. }));

    // A server that breaks the protocol each time is not asked forever.
    let mut broken = session(5);
    for attempt in 1..=3 {
        let violation = try_receive(&mut broken, &receipt(9, "a")).unwrap_err();
        let next = broken.lost(&Loss::Violation(violation), now);
        assert_eq!(next == NextStep::GiveUp, attempt == 3, "{next:?}");
        broken.connecting();
        receive(&mut broken, &resumed(5));
    }
}

/// A request about the running turn is for the connection on which it was made.
#[tokio::test(start_paused = true)]
async fn cancel_comes_before_messages_and_is_not_sent_over_another_connection() {
    let mut session = session(5);
    session.message("hello");
    session.cancel();
    assert_eq!(transmission(&mut session), Some(json!({"type": "cancel"})));
    session.cancel();
    session.end();
    session.lost(&Loss::Broken, Instant::now());
    session.connecting();
    receive(&mut session, &resumed(5));
    receive(&mut session, &json!({"type": "replayed", "seq": 5}));
    assert_eq!(transmission(&mut session).unwrap()["message"], "hello");
    assert_eq!(transmission(&mut session), None);
}
