//! Properties of drafts.

use std::time::Duration;

use duologue_protocol::{Seq, TurnId};

use super::fixture::{LONG, answered, assert_conflict, claim, draft, said, server, start, until};
use duologue_engine::store::{Draft, Store};

/// Only the newest text counts.
pub async fn a_draft_is_replaced_and_given_to_the_next_holder(store: &dyn Store) {
    let lease = start(store, "s").await;
    store.save_draft(&lease, &draft("Hel")).await.unwrap();
    let newest = Draft {
        turn_id: TurnId(2),
        text: "Hello".to_owned(),
    };
    store.save_draft(&lease, &newest).await.unwrap();
    store.save_draft(&lease, &newest).await.unwrap();
    let claimed = claim(store, "s", "there").await;
    assert_eq!(claimed.draft, Some(newest));
}

/// The server that takes over from a lost one finds the text of its answer so far.
pub async fn a_sweeper_gets_the_draft(store: &dyn Store) {
    let lease = start(store, "s").await;
    store.save_draft(&lease, &draft("Hel")).await.unwrap();
    store.release(&lease).await.unwrap();
    let claimed = until("the session has lapsed", async || {
        let sweep = store
            .claim_lapsed(&server("there"), LONG, Duration::ZERO, 1)
            .await;
        sweep.unwrap().pop()
    })
    .await;
    assert_eq!(claimed.draft, Some(draft("Hel")));
    assert!(!claimed.reopened);
}

/// Even when other events come with it, before and after.
pub async fn an_answer_deletes_the_draft(store: &dyn Store) {
    let lease = start(store, "s").await;
    store.save_draft(&lease, &draft("Hel")).await.unwrap();
    let events = [said(2, "hi"), answered(3, "Hello"), said(4, "more")];
    store.append(&lease, Seq(1), &events).await.unwrap();
    assert_eq!(claim(store, "s", "there").await.draft, None);
}

/// A reader that comes or goes does not cost the answer.
pub async fn other_events_leave_the_draft(store: &dyn Store) {
    let lease = start(store, "s").await;
    store.save_draft(&lease, &draft("Hel")).await.unwrap();
    store
        .append(&lease, Seq(1), &[said(2, "hi")])
        .await
        .unwrap();
    assert_eq!(claim(store, "s", "there").await.draft, Some(draft("Hel")));
}

/// The new holder's draft stays.
pub async fn an_old_epoch_cannot_save_a_draft(store: &dyn Store) {
    let old = start(store, "s").await;
    let new = claim(store, "s", "there").await.lease;
    store.save_draft(&new, &draft("new")).await.unwrap();
    assert_conflict(&store.save_draft(&old, &draft("old")).await);
    assert_eq!(claim(store, "s", "here").await.draft, Some(draft("new")));
}
