//! The comparison finds each planted fault, and nothing where there is none.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::history::{Attachment, Outcome::*};

const GRACE: Duration = Duration::from_secs(2);
const TEXT: &str = "mock:words=3 message 1 canary-aa";

/// A client that said one thing, saw its answer, and left; and the log of that.
fn scene() -> (History, Logs) {
    let log = vec![
        json!({"type": "session_started", "seq": 1, "occurred_at": "2026-01-01T09:00:00Z"}),
        json!({"type": "client_connected", "seq": 2, "occurred_at": "2026-01-01T09:00:00Z"}),
        json!({"type": "user_message", "seq": 3, "occurred_at": "2026-01-01T09:00:01Z", "text": TEXT}),
        json!({"type": "done", "seq": 4, "occurred_at": "2026-01-01T09:00:02Z", "text": "so be it"}),
        json!({"type": "client_disconnected", "seq": 5, "occurred_at": "2026-01-01T09:00:03Z"}),
        json!({"type": "session_ended", "seq": 6, "occurred_at": "2026-01-01T09:00:05Z",
               "reason": "abandoned"}),
        json!({"type": "session_summarized", "seq": 7, "occurred_at": "2026-01-01T09:00:06Z"}),
    ];
    let mut history = History::new("trusting-1", "s1", "alice", "canary-aa");
    history.record(Request::Connect, Ok);
    history.record(message(TEXT), Ok);
    history.events = (1..).zip(log[..4].iter().cloned()).collect();
    history.attachments.push(Attachment {
        from: "2026-01-01T09:00:00Z".parse().unwrap(),
        until: Some("2026-01-01T09:00:03Z".parse().unwrap()),
        reads_at_once: true,
    });
    (history, Logs::from([("s1".to_owned(), log)]))
}

fn message(text: &str) -> Request {
    Request::Message {
        text: text.to_owned(),
        id: None,
    }
}

/// What is found after `plant` has put a fault into the scene.
fn found(plant: impl FnOnce(&mut History, &mut Vec<Value>)) -> Vec<FindingKind> {
    let (mut history, mut logs) = scene();
    plant(&mut history, logs.get_mut("s1").unwrap());
    let mut kinds: Vec<_> = findings(&[history], &logs, GRACE)
        .iter()
        .map(|finding| finding.kind)
        .collect();
    kinds.sort();
    kinds
}

/// Puts an event into the log and gives all events new numbers, as a log has them.
fn insert(log: &mut Vec<Value>, place: usize, event: Value) {
    log.insert(place, event);
    for (seq, event) in (1..).zip(log.iter_mut()) {
        event["seq"] = Value::from(seq);
    }
}

#[test]
fn nothing_is_found_where_all_is_well() {
    assert_eq!(found(|_, _| {}), []);
}

#[test]
fn an_acknowledged_message_that_is_not_in_the_log_is_lost() {
    let kinds = found(|history, _| history.record(message("message 2 canary-aa"), Ok));
    assert_eq!(kinds, [FindingKind::LostReceipt]);
}

#[test]
fn a_message_of_unknown_fate_may_be_stored_or_not() {
    let kinds = found(|history, _| {
        history.operations[1].outcome = Unknown;
        history.record(message("message 2 canary-aa"), Unknown);
    });
    assert_eq!(kinds, []);
}

#[test]
fn a_refused_message_that_is_in_the_log_is_found() {
    let kinds = found(|history, _| history.operations[1].outcome = Failed);
    assert_eq!(kinds, [FindingKind::RefusedButStored]);
}

#[test]
fn a_doubled_message_is_found() {
    let kinds = found(|_, log| {
        let again = log[2].clone();
        insert(log, 4, again);
        let answer = log[3].clone();
        insert(log, 5, answer);
    });
    assert_eq!(kinds, [FindingKind::DoubledMessage]);
}

#[test]
fn a_message_that_nobody_sent_is_found() {
    let kinds = found(|history, _| drop(history.operations.pop()));
    assert_eq!(kinds, [FindingKind::NeverSent]);
}

#[test]
fn a_message_without_an_answer_is_found() {
    let kinds = found(|history, log| {
        insert(log, 4, json!({"type": "user_message", "text": "message 2"}));
        history.record(message("message 2"), Ok);
    });
    assert_eq!(kinds, [FindingKind::OpenTurn]);
}

#[test]
fn an_answer_to_nothing_is_found() {
    let kinds = found(|_, log| insert(log, 4, json!({"type": "done", "text": "what?"})));
    assert_eq!(kinds, [FindingKind::OpenTurn]);
}

#[test]
fn a_doubled_ending_is_found() {
    let kinds = found(|_, log| {
        let again = log[5].clone();
        insert(log, 6, again);
    });
    assert_eq!(kinds, [FindingKind::DoubledEnding]);
}

#[test]
fn a_session_may_end_once_more_after_it_was_reopened() {
    let kinds = found(|_, log| {
        for again in [6, 5] {
            let event = log[again].clone();
            insert(log, 7, event);
        }
        let reopened = json!({"type": "client_connected", "reopened": true});
        insert(log, 7, reopened);
    });
    assert_eq!(kinds, []);
}

#[test]
fn an_ending_by_request_that_nobody_sent_is_found() {
    let kinds = found(|_, log| log[5]["reason"] = json!("requested"));
    assert_eq!(kinds, [FindingKind::DoubledEnding]);
    let kinds = found(|history, log| {
        log[5]["reason"] = json!("closed");
        history.record(Request::End, Unknown);
    });
    assert_eq!(kinds, []);
}

#[test]
fn a_session_given_up_while_a_client_is_there_is_found() {
    let until = |time: Option<&str>| {
        let until = time.map(|time| time.parse().unwrap());
        found(|history, _| history.attachments[0].until = until)
    };
    assert_eq!(until(None), [FindingKind::EarlyEnding]);
    let early = [FindingKind::EarlyEnding];
    assert_eq!(
        until(Some("2026-01-01T09:00:04Z")),
        early,
        "within its grace"
    );
}

#[test]
fn a_session_that_never_ended_is_found() {
    let kinds = found(|_, log| log.truncate(5));
    assert_eq!(kinds, [FindingKind::NotCompleted]);
}

#[test]
fn a_session_that_was_never_summarised_is_found() {
    let kinds = found(|_, log| log.truncate(6));
    assert_eq!(kinds, [FindingKind::NotCompleted]);
}

#[test]
fn a_view_with_a_gap_is_found() {
    let kinds = found(|history, _| drop(history.events.remove(&3)));
    assert_eq!(kinds, [FindingKind::Gap]);
}

#[test]
fn an_event_that_differs_from_the_log_is_found() {
    let kinds = found(|history, _| {
        history.events.get_mut(&4).unwrap()["text"] = json!("so be it not");
    });
    assert_eq!(kinds, [FindingKind::DiffersFromLog]);
}

#[test]
fn a_view_beyond_the_end_of_the_log_is_found() {
    let kinds = found(|history, _| {
        let beyond = json!({"type": "client_connected", "seq": 8});
        history
            .events
            .extend((5..=8).map(|seq| (seq, beyond.clone())));
    });
    assert!(kinds.contains(&FindingKind::LogWentBack), "{kinds:?}");
}

#[test]
fn a_foreign_canary_is_found() {
    let kinds = found(|history, log| {
        log[3]["text"] = json!("you said canary-ab");
        history.events.clear();
    });
    assert_eq!(kinds, [FindingKind::ForeignCanary]);
}

#[test]
fn what_a_client_noticed_itself_is_reported() {
    let kinds = found(|history, _| history.breach(FindingKind::Protocol, "no answer"));
    assert_eq!(kinds, [FindingKind::Protocol]);
}
