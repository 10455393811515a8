//! Sound sessions are passed, and each planted breach is found.

mod pages;
mod sound;

use std::collections::BTreeSet;

use duologue_protocol::{
    EndReason, EventBody, MessageId, Seq, SessionId, SummaryStatus, TurnId, UserId,
};
use serde_json::json;

use self::sound::{answer, job, moment, row, session, while_active};
use super::{Invariant, SessionSnapshot, violations};
use crate::store::{JobEnd, ServerId, SessionStatus, operators::JobState};

#[track_caller]
fn assert_sound(snapshot: &SessionSnapshot) {
    assert_eq!(violations(snapshot), []);
}

#[test]
fn a_session_that_was_ended_and_reopened_is_sound() {
    assert_sound(&session());
}

/// Also in the middle of a turn, and before its first event.
#[test]
fn a_live_session_is_sound_at_every_moment() {
    for events in 0..=6 {
        assert_sound(&while_active(events));
    }
}

#[test]
fn a_session_that_waits_for_its_summary_is_sound() {
    let mut snapshot = session();
    snapshot.log.pop();
    snapshot.head.log_end = Seq(12);
    snapshot.head.jobs[1] = job(2, 12, JobState::Running, None);
    let record = &mut snapshot.head.record;
    record.last_seq = Seq(12);
    record.status = SessionStatus::Ended;
    record.summary_status = Some(SummaryStatus::Pending);
    record.summary = Some("short".to_owned());
    assert_sound(&snapshot);

    // Then somebody claims it, and has not written yet.
    snapshot.head.epoch = 3;
    snapshot.head.owner = Some(ServerId("there".to_owned()));
    let record = &mut snapshot.head.record;
    record.status = SessionStatus::Active;
    record.summary_status = None;
    record.end_time = None;
    record.duration_seconds = None;
    record.end_reason = None;
    assert_sound(&snapshot);
}

/// The client that caused the claim left before it was attached, so it ends again without having been
/// reopened.
#[test]
fn a_session_that_was_claimed_in_vain_and_ended_again_is_sound() {
    let mut snapshot = session();
    snapshot
        .log
        .push(row(14, 3, "session_ended", json!({"reason": "abandoned"})));
    snapshot.head.log_end = Seq(14);
    snapshot.head.epoch = 3;
    snapshot.head.jobs.push(job(3, 14, JobState::Waiting, None));
    let record = &mut snapshot.head.record;
    record.last_seq = Seq(14);
    record.status = SessionStatus::Ended;
    record.summary_status = Some(SummaryStatus::Pending);
    record.end_reason = Some(EndReason::Abandoned);
    record.end_time = Some(moment(14));
    record.duration_seconds = Some(14.0);
    assert_sound(&snapshot);
}

/// The failure stays in the log; a job of its own is about it.
#[test]
fn a_session_whose_summary_is_tried_again_is_sound() {
    let mut snapshot = session();
    snapshot.head.jobs[1].state = JobState::Superseded;
    snapshot.head.jobs.push(job(3, 13, JobState::Waiting, None));
    snapshot.head.record.status = SessionStatus::Ended;
    snapshot.head.record.summary_status = Some(SummaryStatus::Pending);
    assert_sound(&snapshot);

    snapshot.log.push(row(
        14,
        2,
        "session_summarized",
        json!({"status": "done", "summary": "all"}),
    ));
    snapshot.head.log_end = Seq(14);
    snapshot.head.jobs[2] = job(3, 13, JobState::Done, Some(JobEnd::Applied));
    snapshot.head.record.last_seq = Seq(14);
    snapshot.head.record.status = SessionStatus::Completed;
    snapshot.head.record.summary_status = Some(SummaryStatus::Done);
    snapshot.head.record.summary = Some("all".to_owned());
    assert_sound(&snapshot);
}

/// It has no job, and its row keeps the times that it had where it came from.
#[test]
fn a_session_of_this_servers_predecessors_is_sound() {
    let mut snapshot = session();
    snapshot.log.truncate(8);
    snapshot.put(2, "imported", json!({"former_type": "note"}));
    snapshot.head.log_end = Seq(8);
    snapshot.head.epoch = 1;
    snapshot.head.jobs.clear();
    let record = &mut snapshot.head.record;
    record.last_seq = Seq(8);
    record.end_time = Some(moment(3));
    record.duration_seconds = Some(77.0);
    record.end_reason = Some(EndReason::Closed);
    record.summary_status = Some(SummaryStatus::Done);
    record.summary = Some("short".to_owned());
    assert_sound(&snapshot);
}

fn queued(text: &str) -> serde_json::Value {
    json!({"text": text, "id": "m9", "on_busy": "queue"})
}

fn taken_up(queued: u64) -> serde_json::Value {
    json!({"turn_id": "turn-1", "text": "hello", "id": "m9", "queued_seq": queued})
}

/// Waiting is no breach, nor is what became of it.
#[test]
fn a_message_that_waited_is_sound_while_it_waits_and_after() {
    let mut snapshot = while_active(2);
    snapshot.put(2, "message_queued", queued("hello"));
    assert_sound(&snapshot);
    let mut snapshot = session();
    snapshot.put(2, "message_queued", queued("hello"));
    snapshot.put(3, "user_message", taken_up(2));
    assert_sound(&snapshot);
}

/// A breach, and what it breaks.
type Breach = (&'static str, Invariant, fn(&mut SessionSnapshot));

const BREACHES: [Breach; 48] = [
    (
        "an event that nobody can read",
        Invariant::Readable,
        |snapshot| {
            snapshot.log[2].event = Err("nonsense".to_owned());
        },
    ),
    ("an event is gone", Invariant::GapFree, |snapshot| {
        drop(snapshot.log.remove(4));
    }),
    ("the log's end is gone", Invariant::GapFree, |snapshot| {
        snapshot.head.log_end = Seq(14);
    }),
    (
        "the log's beginning is gone",
        Invariant::GapFree,
        |snapshot| {
            drop(snapshot.log.remove(0));
        },
    ),
    (
        "one id on two messages",
        Invariant::MessageOnce,
        |snapshot| {
            if let EventBody::UserMessage(message) = snapshot.body(10) {
                message.id = MessageId::new("m1").ok();
            }
        },
    ),
    (
        "a message without an end",
        Invariant::TurnClosed,
        |snapshot| {
            snapshot.put(6, "routed", json!({"turn_id": "turn-1", "route": "x"}));
        },
    ),
    (
        "a last message without an end",
        Invariant::TurnClosed,
        |snapshot| {
            snapshot.put(11, "routed", json!({"turn_id": "turn-2", "route": "x"}));
        },
    ),
    (
        "a message in the middle of a turn",
        Invariant::TurnClosed,
        |snapshot| {
            snapshot.put(
                4,
                "user_message",
                json!({"turn_id": "turn-1", "text": "wait"}),
            );
        },
    ),
    (
        "a turn that ends twice",
        Invariant::TurnClosed,
        |snapshot| {
            snapshot.put(5, "assistant_message", answer("turn-1"));
        },
    ),
    (
        "an end of another turn",
        Invariant::TurnClosed,
        |snapshot| {
            snapshot.event(11).turn_id = Some(TurnId(9));
        },
    ),
    (
        "an ended session with an open turn",
        Invariant::TurnClosed,
        |snapshot| {
            *snapshot = while_active(5);
            snapshot.head.record.status = SessionStatus::Ended;
        },
    ),
    (
        "a result without a call",
        Invariant::CallAnswered,
        |snapshot| {
            snapshot.put(4, "routed", json!({"turn_id": "turn-1", "route": "x"}));
        },
    ),
    (
        "a call without a result",
        Invariant::CallAnswered,
        |snapshot| {
            snapshot.put(5, "routed", json!({"turn_id": "turn-1", "route": "x"}));
        },
    ),
    ("a call made twice", Invariant::CallAnswered, |snapshot| {
        let call = snapshot.body(4).clone();
        *snapshot.body(5) = call;
    }),
    (
        "an ending after an ending",
        Invariant::EndedOnce,
        |snapshot| {
            snapshot.put(8, "session_ended", json!({"reason": "idle"}));
        },
    ),
    (
        "a summary in the middle",
        Invariant::EndedOnce,
        |snapshot| {
            snapshot.put(2, "session_summarized", json!({"status": "failed"}));
        },
    ),
    (
        "a summary after a summary",
        Invariant::EndedOnce,
        |snapshot| {
            snapshot.put(
                9,
                "session_summarized",
                json!({"status": "done", "summary": "more"}),
            );
        },
    ),
    ("a turn after the end", Invariant::EndedOnce, |snapshot| {
        snapshot.put(
            9,
            "user_message",
            json!({"turn_id": "turn-2", "text": "again"}),
        );
    }),
    (
        "a return that does not reopen",
        Invariant::EndedOnce,
        |snapshot| {
            snapshot.put(9, "client_connected", json!({"connection": 2}));
        },
    ),
    (
        "a return to what is open",
        Invariant::EndedOnce,
        |snapshot| {
            snapshot.put(
                2,
                "client_connected",
                json!({"connection": 1, "reopened": true}),
            );
        },
    ),
    (
        "a return under the old epoch",
        Invariant::EndedOnce,
        |snapshot| snapshot.log[8].epoch = 1,
    ),
    (
        "a session that is active though nobody came",
        Invariant::EndedOnce,
        |snapshot| {
            snapshot.head.record.status = SessionStatus::Active;
        },
    ),
    (
        "a write under an old epoch",
        Invariant::SingleWriter,
        |snapshot| snapshot.log[10].epoch = 1,
    ),
    (
        "a write under no claim's epoch",
        Invariant::SingleWriter,
        |snapshot| snapshot.head.epoch = 1,
    ),
    (
        "a write under epoch zero",
        Invariant::SingleWriter,
        |snapshot| snapshot.log[0].epoch = 0,
    ),
    (
        "a time before the last one",
        Invariant::TimeForward,
        |snapshot| {
            snapshot.event(4).occurred_at = moment(2);
        },
    ),
    ("a wrong last event", Invariant::RowIsFold, |snapshot| {
        snapshot.head.record.last_seq = Seq(12);
    }),
    (
        "a log of another session",
        Invariant::RowIsFold,
        |snapshot| {
            snapshot.head.record.session_id = SessionId::new("t").expect("an id");
        },
    ),
    ("a log of another user", Invariant::RowIsFold, |snapshot| {
        snapshot.head.record.user_id = UserId::new("bob").expect("an id");
    }),
    (
        "a log without a beginning",
        Invariant::RowIsFold,
        |snapshot| {
            snapshot.put(1, "client_connected", json!({"connection": 1}));
        },
    ),
    ("a second beginning", Invariant::RowIsFold, |snapshot| {
        let start = snapshot.body(1).clone();
        *snapshot.body(2) = start;
    }),
    ("a wrong status", Invariant::RowIsFold, |snapshot| {
        snapshot.head.record.status = SessionStatus::Ended;
    }),
    ("a wrong summary status", Invariant::RowIsFold, |snapshot| {
        snapshot.head.record.summary_status = Some(SummaryStatus::Done);
    }),
    (
        "a summary that nobody made",
        Invariant::RowIsFold,
        |snapshot| {
            snapshot.head.record.summary = Some("short".to_owned());
        },
    ),
    ("a wrong end time", Invariant::RowIsFold, |snapshot| {
        snapshot.head.record.end_time = Some(moment(13));
    }),
    ("a wrong duration", Invariant::RowIsFold, |snapshot| {
        snapshot.head.record.duration_seconds = Some(12.001);
    }),
    ("a wrong reason", Invariant::RowIsFold, |snapshot| {
        snapshot.head.record.end_reason = Some(EndReason::Closed);
    }),
    (
        "an ended session that is held",
        Invariant::RowIsFold,
        |snapshot| {
            snapshot.head.owner = Some(ServerId("here".to_owned()));
        },
    ),
    (
        "an active session with an end",
        Invariant::RowIsFold,
        |snapshot| {
            *snapshot = while_active(6);
            snapshot.head.record.end_time = Some(moment(6));
        },
    ),
    (
        "an ending without a job",
        Invariant::JobPerEnding,
        |snapshot| {
            drop(snapshot.head.jobs.remove(0));
        },
    ),
    (
        "a job without an ending",
        Invariant::JobPerEnding,
        |snapshot| {
            snapshot.head.jobs[0].last_seq = Seq(6);
        },
    ),
    (
        "a result that was not applied",
        Invariant::JobPerEnding,
        |snapshot| {
            snapshot.head.jobs[1].outcome = Some(JobEnd::Superseded);
        },
    ),
    (
        "a job of another user",
        Invariant::JobPerEnding,
        |snapshot| {
            snapshot.head.jobs[1].user_id = UserId::new("bob").expect("an id");
        },
    ),
    (
        "a message that waits without end",
        Invariant::QueueTakenUp,
        |snapshot| {
            snapshot.put(2, "message_queued", queued("hello"));
        },
    ),
    (
        "a message that waits when its session has ended",
        Invariant::QueueTakenUp,
        |snapshot| {
            snapshot.put(13, "message_queued", queued("hello"));
        },
    ),
    (
        "a message that becomes another",
        Invariant::QueueTakenUp,
        |snapshot| {
            snapshot.put(2, "message_queued", queued("something else"));
            snapshot.put(3, "user_message", taken_up(2));
        },
    ),
    (
        "a message that was taken up and never waited",
        Invariant::QueueTakenUp,
        |snapshot| {
            snapshot.put(3, "user_message", taken_up(2));
        },
    ),
    (
        "one id on two messages that waited",
        Invariant::MessageOnce,
        |snapshot| {
            snapshot.put(2, "message_queued", queued("hello"));
            snapshot.put(4, "message_queued", queued("hello"));
        },
    ),
];

#[test]
fn each_planted_breach_is_found() {
    for (name, invariant, plant) in BREACHES {
        let mut snapshot = session();
        plant(&mut snapshot);
        let found = violations(&snapshot);
        assert!(
            found
                .iter()
                .any(|violation| violation.invariant == invariant),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn every_invariant_has_a_breach_that_is_planted() {
    let planted: BTreeSet<_> = BREACHES
        .iter()
        .map(|(_, invariant, _)| *invariant)
        .collect();
    assert_eq!(planted, BTreeSet::from(Invariant::ALL));
}

/// What is printed can be sent to anyone who helps.
#[test]
fn a_finding_tells_nothing_that_anybody_said() {
    for (name, _, plant) in BREACHES {
        let mut snapshot = session();
        plant(&mut snapshot);
        for violation in violations(&snapshot) {
            let text = violation.to_string();
            assert!(
                !text.contains("hello") && !text.contains("short"),
                "{name}: {text}"
            );
            assert!(!text.contains('\n'), "{name}: {text}");
        }
    }
}
