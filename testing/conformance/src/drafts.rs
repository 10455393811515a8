//! Properties of drafts.

use duologue_protocol::{Seq, TurnId};

use super::fixture::{answered, claim, draft, ended, said, save_draft, start, sweep_by, until};
use duologue_engine::store::{Draft, Store};

/// Only the newest text counts.
pub async fn a_draft_is_replaced_and_given_to_the_next_holder(store: &dyn Store) {
    let lease = start(store, "s").await;
    save_draft(store, &lease, &draft("Hel")).await;
    let newest = Draft {
        turn_id: TurnId(2),
        text: "Hello".to_owned(),
    };
    save_draft(store, &lease, &newest).await;
    save_draft(store, &lease, &newest).await;
    let claimed = claim(store, "s", "there").await;
    assert_eq!(claimed.draft, Some(newest));
}

/// The server that takes over from a lost one finds the text of its answer so far.
pub async fn a_sweeper_gets_the_draft(store: &dyn Store) {
    let lease = start(store, "s").await;
    save_draft(store, &lease, &draft("Hel")).await;
    store.release(&lease).await.unwrap();
    let claimed = until("the session has lapsed", async || {
        let sweep = store.claim_lapsed(&sweep_by("there")).await;
        sweep.unwrap().pop()
    })
    .await;
    assert_eq!(claimed.draft, Some(draft("Hel")));
    assert!(!claimed.reopened);
}

/// Even when other events come with it, before and after.
pub async fn an_answer_deletes_the_draft(store: &dyn Store) {
    let lease = start(store, "s").await;
    save_draft(store, &lease, &draft("Hel")).await;
    let events = [said(2, "hi"), answered(3, "Hello"), said(4, "more")];
    store.append(&lease, Seq(1), &events).await.unwrap();
    assert_eq!(claim(store, "s", "there").await.draft, None);
}

/// A reader that comes or goes does not cost the answer.
pub async fn other_events_leave_the_draft(store: &dyn Store) {
    let lease = start(store, "s").await;
    save_draft(store, &lease, &draft("Hel")).await;
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
    save_draft(store, &new, &draft("new")).await;
    let saved = store.save_drafts(&[(old.clone(), draft("old"))]).await;
    assert_eq!(saved.unwrap(), [old]);
    assert_eq!(claim(store, "s", "here").await.draft, Some(draft("new")));
}

/// Each is saved by itself: those whose sessions were lost, released or ended meanwhile do not keep back the
/// others, and only the lost ones are reported.
pub async fn drafts_of_many_sessions_are_saved_at_once(store: &dyn Store) {
    let mut drafts = Vec::new();
    for number in 0..50 {
        let lease = start(store, &format!("s{number}")).await;
        drafts.push((lease, draft(&format!("text {number}"))));
    }
    claim(store, "s3", "there").await;
    store.release(&drafts[7].0).await.unwrap();
    let ended = [ended(2)];
    store.end(&drafts[9].0, Seq(1), &ended, None).await.unwrap();
    for _repetition in 0..2 {
        let lost = store.save_drafts(&drafts).await.unwrap();
        assert_eq!(lost, [drafts[3].0.clone()]);
    }
    for (number, (_, saved)) in drafts.iter().enumerate() {
        let claimed = claim(store, &format!("s{number}"), "elsewhere").await;
        let is_saved = ![3, 7, 9].contains(&number);
        assert_eq!(claimed.draft, is_saved.then(|| saved.clone()), "{number}");
    }
    assert_eq!(store.save_drafts(&[]).await.unwrap(), []);
}
