//! The few calls that the tests of single backends need.

use std::{fmt::Debug, time::Duration};

use duologue_engine::store::{Claim, Lease, ServerId, Store, StoreError};
use duologue_protocol::{
    EndReason, Event, EventBody, Seq, SessionEnded, SessionId, Timestamp, UserId, UserMessage,
};

pub(crate) fn user() -> UserId {
    UserId::new("alice").unwrap()
}

pub(crate) fn session_id(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

pub(crate) async fn claim(store: &dyn Store, session: &str) -> Lease {
    store
        .claim(&claim_of(session))
        .await
        .unwrap()
        .unwrap()
        .lease
}

pub(crate) fn claim_of(session: &str) -> Claim {
    Claim {
        session_id: session_id(session),
        user_id: user(),
        agent: "guide".to_owned(),
        server: ServerId("here".to_owned()),
        lease_duration: Duration::from_mins(10),
        now: Timestamp::UNIX_EPOCH,
        first_events: Vec::new(),
        spent_since: None,
    }
}

pub(crate) fn said(seq: u64, text: &str) -> Event {
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

pub(crate) fn ended(seq: u64) -> Event {
    let reason = EndReason::Closed;
    event(seq, EventBody::SessionEnded(SessionEnded { reason }))
}

fn event(seq: u64, body: EventBody) -> Event {
    Event {
        seq: Seq(seq),
        occurred_at: Timestamp::UNIX_EPOCH,
        turn_id: None,
        body,
    }
}

pub(crate) async fn log(store: &dyn Store, session: &str) -> Vec<Event> {
    let read = store
        .read(&user(), &session_id(session), Seq::ZERO, 1_000)
        .await;
    read.unwrap()
}

#[track_caller]
pub(crate) fn assert_unavailable<T: Debug>(result: &Result<T, StoreError>) {
    assert!(
        matches!(result, Err(StoreError::Unavailable(_))),
        "expected the store to be unavailable, got {result:?}"
    );
}

/// Opens a store that must be refused, and says with which words.
pub(crate) async fn refusal(config: &duologue_store::StoreConfig) -> String {
    match duologue_store::open(config).await {
        Ok(_) => panic!("{} was opened", config.describe()),
        Err(error) => error.to_string(),
    }
}
