//! A session that keeps all promises: two turns, one with a tool, ended and reopened and ended.

use std::time::Duration;

use duologue_protocol::{Event, EventBody, Seq, SessionId, Timestamp, UserId};
use serde_json::{Value, json};

use crate::{
    store::{
        JobEnd, SessionRecord, SessionStatus,
        operators::{JobRecord, JobState, StoredEvent, StoredSession},
    },
    verify::SessionSnapshot,
};

/// When it began.
const START_SECOND: i64 = 1_767_225_600;

/// The whole session, completed without a summary.
pub(super) fn session() -> SessionSnapshot {
    let log = [
        (
            1,
            "session_started",
            json!({"session_id": "s", "user_id": "alice", "agent": "guide"}),
        ),
        (1, "client_connected", json!({"connection": 1})),
        (
            1,
            "user_message",
            json!({"turn_id": "turn-1", "text": "hello", "id": "m1"}),
        ),
        (
            1,
            "tool_call",
            json!({"turn_id": "turn-1", "call_id": "c", "name": "t", "arguments": {}}),
        ),
        (
            1,
            "tool_result",
            json!({"turn_id": "turn-1", "call_id": "c", "name": "t", "result": 1, "duration_ms": 1}),
        ),
        (1, "assistant_message", answer("turn-1")),
        (1, "session_ended", json!({"reason": "closed"})),
        (
            1,
            "session_summarized",
            json!({"status": "done", "summary": "short"}),
        ),
        (
            2,
            "client_connected",
            json!({"connection": 2, "reopened": true}),
        ),
        (
            2,
            "user_message",
            json!({"turn_id": "turn-2", "text": "again", "id": "m2"}),
        ),
        (2, "assistant_message", answer("turn-2")),
        (2, "session_ended", json!({"reason": "idle"})),
        (2, "session_summarized", json!({"status": "failed"})),
    ];
    let rows = log.into_iter().zip(1..);
    let log: Vec<_> = rows
        .map(|((epoch, event_type, payload), seq)| row(seq, epoch, event_type, payload))
        .collect();
    SessionSnapshot {
        head: StoredSession {
            record: serde_json::from_value(json!({
                "session_id": "s", "user_id": "alice", "status": "completed", "agent": "guide",
                "start_time": moment(0), "end_time": moment(12), "duration_seconds": 12.0,
                "summary_status": "failed", "end_reason": "idle", "metadata": {}, "last_seq": 13, "log_id": "log-1",
            }))
            .expect("a record"),
            epoch: 2,
            owner: None,
            log_end: Seq(13),
            jobs: vec![
                job(1, 7, JobState::Done, Some(JobEnd::Applied)),
                job(2, 12, JobState::Failed, Some(JobEnd::Applied)),
            ],
        },
        log,
    }
}

/// The same when it had only its first events, in its first six seconds.
pub(super) fn while_active(events: u64) -> SessionSnapshot {
    let mut snapshot = session();
    snapshot
        .log
        .truncate(usize::try_from(events).expect("a few"));
    snapshot.head.log_end = Seq(events);
    snapshot.head.epoch = 1;
    snapshot.head.owner = Some(crate::store::ServerId("here".to_owned()));
    snapshot.head.jobs.clear();
    snapshot.head.record = SessionRecord {
        status: SessionStatus::Active,
        end_time: None,
        duration_seconds: None,
        summary_status: None,
        end_reason: None,
        last_seq: Seq(events),
        ..snapshot.head.record
    };
    snapshot
}

pub(super) fn moment(seconds: u64) -> Timestamp {
    Timestamp::from_second(START_SECOND).expect("in range") + Duration::from_secs(seconds)
}

/// A row that occurred `seq` seconds after the start.
pub(super) fn row(seq: u64, epoch: u64, event_type: &str, payload: Value) -> StoredEvent {
    let event = Event::read(Seq(seq), moment(seq), event_type, payload);
    StoredEvent {
        seq: Seq(seq),
        epoch,
        event: Ok(event.expect("an event")),
    }
}

pub(super) fn answer(turn: &str) -> Value {
    json!({
        "turn_id": turn, "text": "well", "finish_reason": "stop", "duration_ms": 1, "model": "mock",
    })
}

pub(super) fn job(id: i64, last_seq: u64, state: JobState, outcome: Option<JobEnd>) -> JobRecord {
    JobRecord {
        id,
        session_id: SessionId::new("s").expect("an id"),
        user_id: UserId::new("alice").expect("an id"),
        last_seq: Seq(last_seq),
        state,
        attempt: 1,
        uncounted: 0,
        worker: None,
        due_in: Duration::ZERO,
        outcome,
        last_error: None,
    }
}

impl SessionSnapshot {
    /// The event with this number, to be spoilt.
    pub(super) fn event(&mut self, seq: usize) -> &mut Event {
        self.log[seq - 1].event.as_mut().expect("it can be read")
    }

    /// Puts another event in the place of the one with this number.
    pub(super) fn put(&mut self, seq: u64, event_type: &str, payload: Value) {
        let at = usize::try_from(seq).expect("a few") - 1;
        self.log[at] = row(seq, self.log[at].epoch, event_type, payload);
    }

    pub(super) fn body(&mut self, seq: usize) -> &mut EventBody {
        &mut self.event(seq).body
    }
}
