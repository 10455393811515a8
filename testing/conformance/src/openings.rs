//! Properties of claims that start a log, and of what they return besides the session.

use duologue_protocol::{Event, Seq, UserId};

use super::fixture::{
    alice, claim_of, ended, log, moment, paid, record, said, server, session_id, start, started,
};
use duologue_engine::store::{Claim, Claimed, Store};

/// A claim that starts the log if that is empty.
fn opening(session: &str, by: &str) -> Claim {
    Claim {
        first_events: first_events(session),
        ..claim_of(session, by)
    }
}

fn first_events(session: &str) -> Vec<Event> {
    vec![started(session), said(2, "first")]
}

async fn claimed(store: &dyn Store, claim: &Claim) -> Claimed {
    let claimed = store.claim(claim).await.expect("claims");
    claimed.expect("the session is Alice's")
}

/// The log is written under the claim's own epoch, so the session goes on after it.
pub async fn a_claim_starts_the_log_of_a_new_session(store: &dyn Store) {
    let opened = claimed(store, &opening("s", "here")).await;
    assert!(opened.started);
    assert!(!opened.reopened);
    assert_eq!(opened.session.last_seq, Seq(2));
    assert_eq!(record(store, "s").await, opened.session);
    assert_eq!(log(store, "s").await, first_events("s"));
    let lease = opened.lease;
    store
        .append(&lease, Seq(2), &[said(3, "next")])
        .await
        .unwrap();
    store
        .append(&lease, Seq::ZERO, &first_events("s"))
        .await
        .unwrap();
}

/// The answer to a claim was lost, so it is sent again: the log has its events once, and is not new any more.
pub async fn a_repeated_claim_starts_no_second_log(store: &dyn Store) {
    let first = claimed(store, &opening("s", "here")).await;
    let second = claimed(store, &opening("s", "here")).await;
    assert!(second.lease.epoch > first.lease.epoch);
    assert!(!second.started);
    assert_eq!(second.session.last_seq, Seq(2));
    assert_eq!(log(store, "s").await, first_events("s"));
    let next = [said(3, "next")];
    store.append(&second.lease, Seq(2), &next).await.unwrap();
}

/// Neither that of a session in use nor that of one that has ended.
pub async fn a_claim_leaves_a_log_as_it_is(store: &dyn Store) {
    let lease = start(store, "s").await;
    let taken_over = claimed(store, &opening("s", "there")).await;
    assert!(!taken_over.started);
    assert_eq!(taken_over.session.last_seq, Seq(1));
    assert_ne!(taken_over.lease, lease);
    let ended = [ended(2)];
    store
        .end(&taken_over.lease, Seq(1), &ended, None)
        .await
        .unwrap();
    let reopened = claimed(store, &opening("s", "here")).await;
    assert!(reopened.reopened && !reopened.started);
    assert_eq!(log(store, "s").await.len(), 2);
}

/// Another user's claim is no way to write into a session.
pub async fn a_foreign_claim_starts_no_log(store: &dyn Store) {
    let ours = claimed(store, &claim_of("s", "here")).await;
    let foreign = Claim {
        user_id: UserId::new("mallory").expect("a user id"),
        spent_since: Some(moment(0)),
        ..opening("s", "there")
    };
    assert!(store.claim(&foreign).await.unwrap().is_none());
    assert_eq!(log(store, "s").await, []);
    let appended = store.append(&ours.lease, Seq::ZERO, &[started("s")]).await;
    appended.unwrap();
}

/// The same sum as that of `tokens_spent`, for the claim's user and over all sessions.
pub async fn a_claim_returns_what_its_user_has_used(store: &dyn Store) {
    let other = start(store, "other").await;
    let events = [paid(2, 100, 1), paid(3, 20, 2)];
    store.append(&other, Seq(1), &events).await.unwrap();
    let since = |second| Claim {
        spent_since: Some(moment(second)),
        ..opening("s", "here")
    };
    assert_eq!(
        claimed(store, &opening("s", "here")).await.tokens_spent,
        None
    );
    assert_eq!(
        claimed(store, &since(3)).await.tokens_spent,
        Some(22),
        "an existing session"
    );
    let new = Claim {
        session_id: session_id("new"),
        first_events: first_events("new"),
        ..since(0)
    };
    assert_eq!(claimed(store, &new).await.tokens_spent, Some(123));
    let lapsed = store.tokens_spent(&alice(), moment(0)).await.unwrap();
    assert_eq!(lapsed, 123);
    let bob = Claim {
        user_id: UserId::new("bob").expect("a user id"),
        server: server("there"),
        session_id: session_id("bobs"),
        first_events: Vec::new(),
        ..since(0)
    };
    assert_eq!(claimed(store, &bob).await.tokens_spent, Some(0));
}
