//! The view finds each planted fault, and nothing where there is none.

use serde_json::json;

use super::*;

/// A session with one answer, as a faultless server sends it.
fn frames() -> Vec<Value> {
    let at = |second: u32| format!("2026-01-01T09:00:{second:02}.5Z");
    vec![
        json!({"type": "client_connected", "seq": 1, "occurred_at": at(0)}),
        json!({"type": "user_message", "seq": 2, "occurred_at": at(1), "turn_id": "t", "text": "Hi"}),
        json!({"type": "start", "turn_id": "t"}),
        json!({"type": "token", "turn_id": "t", "index": 0, "token": "canary-1z "}),
        json!({"type": "token", "turn_id": "t", "index": 1, "token": "says "}),
        json!({"type": "token", "turn_id": "t", "index": 2, "token": "hello"}),
        json!({"type": "done", "seq": 3, "occurred_at": at(2), "turn_id": "t",
               "text": "canary-1z says hello", "finish_reason": "stop"}),
    ]
}

fn view() -> View {
    View::new(Identity {
        session_id: "s".into(),
        user_id: "u".into(),
        canary: "canary-1z".into(),
    })
}

fn receive(view: &mut View, frames: &[Value]) -> Vec<BreachKind> {
    let breaches = frames
        .iter()
        .flat_map(|frame| view.receive(&frame.to_string(), frame));
    breaches.map(|breach| breach.kind).collect()
}

/// What is found after `plant` has put a fault into the frames.
fn found(plant: impl FnOnce(&mut Vec<Value>)) -> Vec<BreachKind> {
    let mut frames = frames();
    plant(&mut frames);
    receive(&mut view(), &frames)
}

#[test]
fn a_faultless_session_is_received_whole() {
    let mut view = view();
    assert_eq!(receive(&mut view, &frames()), []);
    assert_eq!(view.events().len(), 3);
    assert!(view.has_receipt("Hi") && view.has_answer("Hi"));
}

#[test]
fn a_missing_a_doubled_and_a_moved_event_are_found() {
    assert_eq!(found(|frames| drop(frames.remove(0))), [BreachKind::Gap]);
    let doubled = found(|frames| frames.insert(1, frames[0].clone()));
    assert_eq!(doubled, [BreachKind::Gap]);
    assert!(!found(|frames| frames.swap(0, 1)).is_empty());
}

#[test]
fn a_missing_a_doubled_and_a_moved_piece_are_found() {
    assert!(found(|frames| drop(frames.remove(4))).contains(&BreachKind::Gap));
    assert!(found(|frames| frames.insert(4, frames[3].clone())).contains(&BreachKind::Gap));
    assert!(found(|frames| frames.swap(3, 4)).contains(&BreachKind::Gap));
    assert!(found(|frames| drop(frames.remove(2))).contains(&BreachKind::Gap));
}

#[test]
fn an_end_that_differs_from_the_pieces_is_found() {
    let differs = found(|frames| frames[6]["text"] = "canary-1z says".into());
    assert_eq!(differs, [BreachKind::Contradiction]);
    let is_last_piece_missing = found(|frames| drop(frames.remove(5)));
    assert_eq!(is_last_piece_missing, [BreachKind::Contradiction]);
    // What was stored when the server was lost may be less.
    let interrupted = found(|frames| {
        frames[6]["text"] = "canary-1z says".into();
        frames[6]["finish_reason"] = "interrupted".into();
    });
    assert_eq!(interrupted, []);
}

#[test]
fn a_word_of_another_session_is_found() {
    let foreign = found(|frames| frames[5]["token"] = "canary-2z".into());
    assert!(foreign.contains(&BreachKind::ForeignCanary));
}

#[test]
fn time_that_goes_back_is_found() {
    let back = found(|frames| frames[6]["occurred_at"] = "2026-01-01T08:59:59Z".into());
    assert_eq!(back, [BreachKind::Contradiction]);
}

#[test]
fn an_end_without_its_message_is_found() {
    let again = json!({"type": "done", "seq": 4, "occurred_at": "2026-01-01T09:00:03Z",
                       "turn_id": "t", "text": "", "finish_reason": "stop"});
    assert_eq!(found(|frames| frames.push(again)), [BreachKind::Protocol]);
}

/// Only a message that was sent again may have its receipt repeated, and only over that connection.
#[test]
fn only_the_receipt_of_a_message_that_was_sent_again_may_be_repeated() {
    let (mut view, frames) = (view(), frames());
    receive(&mut view, &frames);
    assert_eq!(receive(&mut view, &frames[1..2]), [BreachKind::Gap]);
    view.resent();
    assert_eq!(receive(&mut view, &frames[1..2]), []);
    assert_eq!(receive(&mut view, &frames[0..1]), [BreachKind::Gap]);
    let mut other = frames[1].clone();
    other["text"] = "Ho".into();
    assert_eq!(receive(&mut view, &[other]), [BreachKind::Contradiction]);
    view.connected();
    assert_eq!(receive(&mut view, &frames[1..2]), [BreachKind::Gap]);
}

/// A log that is shorter than before was restored from a backup, or events were lost.
#[test]
fn a_log_that_went_back_is_found() {
    let mut view = view();
    receive(&mut view, &frames());
    let resumed = |last_seq: u64| {
        json!({"type": "session_started", "resumed": true, "last_seq": last_seq,
               "session_id": "s", "user_id": "u"})
    };
    assert_eq!(receive(&mut view, &[resumed(3)]), []);
    assert_eq!(receive(&mut view, &[resumed(2)]), [BreachKind::LogWentBack]);
    let unknown = json!({"type": "error", "code": "unknown_position"});
    assert_eq!(receive(&mut view, &[unknown]), [BreachKind::LogWentBack]);
    let replayed = json!({"type": "replayed", "seq": 2});
    assert_eq!(receive(&mut view, &[replayed]), [BreachKind::Gap]);
    let mut foreign = resumed(3);
    foreign["user_id"] = "v".into();
    assert_eq!(receive(&mut view, &[foreign]), [BreachKind::Protocol]);
}
