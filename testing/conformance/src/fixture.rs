//! What the properties are made of: sessions, events, and waiting for a condition.

use std::{fmt::Debug, time::Duration};

use duologue_protocol::{
    AssistantMessage, EndReason, Event, EventBody, FinishReason, Seq, SessionEnded, SessionId,
    SessionStarted, SessionSummarized, SummaryStatus, Timestamp, TurnId, Usage, UserId,
    UserMessage,
};

use duologue_engine::store::{
    Claim, Claimed, Draft, Job, Lease, ServerId, SessionRecord, Store, StoreError, Sweep,
};

/// A lease that outlives every test.
pub(super) const LONG: Duration = Duration::from_mins(10);

/// A lease that lapses before a test has lost its patience.
pub(super) const SHORT: Duration = Duration::from_millis(30);

/// How long a property waits for what must follow.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it looks.
const GLANCE: Duration = Duration::from_millis(3);

/// 2026-01-01T00:00:00Z, when all sessions here start.
const START_SECOND: i64 = 1_767_225_600;

pub(super) fn server(name: &str) -> ServerId {
    ServerId(name.to_owned())
}

pub(super) fn alice() -> UserId {
    UserId::new("alice").expect("a user id")
}

pub(super) fn session_id(name: &str) -> SessionId {
    SessionId::new(name).expect("a session id")
}

/// The moment so many seconds after the start.
pub(super) fn moment(seconds: u64) -> Timestamp {
    let start = Timestamp::from_second(START_SECOND).expect("in range");
    start + Duration::from_secs(seconds)
}

/// Alice's claim on a session, for a server, as long as the test.
pub(super) fn claim_of(session: &str, by: &str) -> Claim {
    Claim {
        session_id: session_id(session),
        user_id: alice(),
        agent: "guide".to_owned(),
        server: server(by),
        lease_duration: LONG,
        now: moment(0),
        first_events: Vec::new(),
        spent_since: None,
    }
}

/// A sweep by a server for all that has lapsed, without grace.
pub(super) fn sweep_by(by: &str) -> Sweep {
    Sweep {
        server: server(by),
        lease_duration: LONG,
        grace: Duration::ZERO,
        abandoned: Vec::new(),
        limit: 10,
    }
}

pub(super) async fn claim(store: &dyn Store, session: &str, by: &str) -> Claimed {
    let claimed = store.claim(&claim_of(session, by)).await.expect("claims");
    claimed.expect("the session is Alice's")
}

/// Claims a session and starts its log.
pub(super) async fn start(store: &dyn Store, session: &str) -> Lease {
    let lease = claim(store, session, "here").await.lease;
    let started = started(session);
    store
        .append(&lease, Seq::ZERO, &[started])
        .await
        .expect("appends the first event");
    lease
}

/// Starts a session and ends it 90.5 seconds later: its log has two events, and it leaves a job.
pub(super) async fn start_and_end(store: &dyn Store, session: &str) -> Lease {
    let lease = start(store, session).await;
    store
        .end(&lease, Seq(1), &[ended(2)], None)
        .await
        .expect("ends");
    lease
}

/// An event that occurred `seq` seconds after the start, in the first turn.
pub(super) fn event(seq: u64, body: EventBody) -> Event {
    Event {
        seq: Seq(seq),
        occurred_at: moment(seq),
        turn_id: Some(TurnId(1)),
        body,
    }
}

pub(super) fn started(session: &str) -> Event {
    let body = SessionStarted {
        session_id: session_id(session),
        user_id: alice(),
        agent: "guide".to_owned(),
    };
    Event {
        turn_id: None,
        ..event(1, EventBody::SessionStarted(body))
    }
}

pub(super) fn said(seq: u64, text: &str) -> Event {
    let text = text.into();
    event(
        seq,
        EventBody::UserMessage(UserMessage {
            text,
            id: None,
            queued_seq: None,
        }),
    )
}

pub(super) fn answered(seq: u64, text: &str) -> Event {
    let answer = AssistantMessage {
        text: text.into(),
        finish_reason: FinishReason::Stop,
        error: None,
        usage: None,
        ttft_ms: Some(12),
        duration_ms: 345,
        model: "mock".to_owned(),
    };
    event(seq, EventBody::AssistantMessage(answer))
}

/// An answer that used so many tokens, `seq` seconds after the start.
pub(super) fn paid(seq: u64, input_tokens: u64, output_tokens: u64) -> Event {
    let mut event = answered(seq, "text");
    if let EventBody::AssistantMessage(AssistantMessage { usage, .. }) = &mut event.body {
        *usage = Some(Usage {
            input_tokens,
            output_tokens,
            estimated: seq.is_multiple_of(2),
        });
    }
    event
}

/// A `session_ended`, 90.5 seconds after the start.
pub(super) fn ended(seq: u64) -> Event {
    let reason = EndReason::Requested;
    Event {
        occurred_at: moment(90) + Duration::from_millis(500),
        turn_id: None,
        ..event(seq, EventBody::SessionEnded(SessionEnded { reason }))
    }
}

/// A `session_summarized` with this summary, or that failed.
pub(super) fn summarized(seq: u64, summary: Option<&str>) -> Event {
    let status = match summary {
        Some(_) => SummaryStatus::Done,
        None => SummaryStatus::Failed,
    };
    let summary = summary.map(str::to_owned);
    Event {
        occurred_at: moment(100),
        turn_id: None,
        ..event(
            seq,
            EventBody::SessionSummarized(SessionSummarized { status, summary }),
        )
    }
}

pub(super) fn draft(text: &str) -> Draft {
    Draft {
        turn_id: TurnId(1),
        text: text.to_owned(),
    }
}

/// Saves a draft under a lease that is valid.
pub(super) async fn save_draft(store: &dyn Store, lease: &Lease, draft: &Draft) {
    let lost = store.save_drafts(&[(lease.clone(), draft.clone())]).await;
    assert_eq!(lost.expect("saves"), []);
}

/// The whole log, in one page.
pub(super) async fn log(store: &dyn Store, session: &str) -> Vec<Event> {
    let id = session_id(session);
    let read = store.read(&alice(), &id, Seq::ZERO, 10_000).await;
    read.expect("reads")
}

pub(super) async fn record(store: &dyn Store, session: &str) -> SessionRecord {
    let found = store.session(&alice(), &session_id(session)).await;
    found.expect("looks up").expect("the session is there")
}

/// Claims a job that must be there at once.
pub(super) async fn claim_job(store: &dyn Store, worker: &str, lease_duration: Duration) -> Job {
    let job = store.claim_job(&server(worker), lease_duration).await;
    job.expect("claims").expect("a job is due")
}

/// Claims a job as soon as one is due.
pub(super) async fn claim_job_when_due(store: &dyn Store, worker: &str) -> Job {
    let worker = &server(worker);
    until("a job is due", async || {
        store.claim_job(worker, LONG).await.expect("claims")
    })
    .await
}

/// Asserts that a write was refused because another came first.
#[track_caller]
pub(super) fn assert_conflict<T: Debug>(result: &Result<T, StoreError>) {
    assert!(
        matches!(result, Err(StoreError::Conflict)),
        "expected a conflict, got {result:?}"
    );
}

/// Asks until there is an answer.
pub(super) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(GLANCE).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    answer.unwrap_or_else(|_| panic!("in vain for {PATIENCE:?}: {what}"))
}
