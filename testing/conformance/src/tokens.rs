//! Properties of what is spent: a sum over the logs of a user's sessions.

use duologue_protocol::{Event, Seq, UserId};

use super::fixture::{alice, answered, claim, moment, paid, said, start, start_and_end};
use duologue_engine::store::Store;

async fn spent(store: &dyn Store, user: &UserId, since_seconds: u64) -> u64 {
    let since = moment(since_seconds);
    store
        .tokens_spent(user, since)
        .await
        .expect("the sum can be read")
}

/// Answers without usage count nothing, and those from before the moment neither. The moment itself
/// belongs to the day that it begins.
pub async fn tokens_are_summed_over_all_sessions_of_a_user_since_a_moment(store: &dyn Store) {
    assert_eq!(spent(store, &alice(), 0).await, 0);
    let one = start(store, "one").await;
    let events = [
        said(2, "a"),
        paid(3, 10, 1),
        answered(4, "free"),
        paid(5, 200, 20),
    ];
    store.append(&one, Seq(1), &events).await.unwrap();
    let other = start(store, "other").await;
    store
        .append(&other, Seq(1), &[paid(2, 3000, 0)])
        .await
        .unwrap();
    assert_eq!(spent(store, &alice(), 0).await, 3231);
    assert_eq!(spent(store, &alice(), 2).await, 3231);
    assert_eq!(spent(store, &alice(), 3).await, 231);
    assert_eq!(spent(store, &alice(), 5).await, 220);
    assert_eq!(spent(store, &alice(), 6).await, 0);
}

/// Names that begin alike are different users.
pub async fn a_users_tokens_are_nobody_elses(store: &dyn Store) {
    let lease = start(store, "s").await;
    store
        .append(&lease, Seq(1), &[paid(2, 5, 5)])
        .await
        .unwrap();
    let alicia = UserId::new("alice2").expect("a user id");
    assert_eq!(spent(store, &alicia, 0).await, 0);
    assert_eq!(spent(store, &alice(), 0).await, 10);
}

/// It ended, and went on: what it used before and since is counted.
pub async fn a_session_that_was_reopened_still_counts(store: &dyn Store) {
    start_and_end(store, "s").await;
    let lease = claim(store, "s", "here").await.lease;
    store
        .append(&lease, Seq(2), &[paid(100, 7, 1)].map(third))
        .await
        .unwrap();
    assert_eq!(spent(store, &alice(), 95).await, 8);
    assert_eq!(spent(store, &alice(), 101).await, 0);
}

/// The same event as the third of its log.
fn third(event: Event) -> Event {
    Event {
        seq: Seq(3),
        ..event
    }
}
