//! Properties of endings: event, record and job, all or none.

use std::time::Duration;

use duologue_protocol::{EndReason, Seq, SummaryStatus};

use super::fixture::{
    LONG, alice, answered, assert_conflict, claim, claim_job, draft, ended, log, moment, record,
    said, save_draft, server, session_id, start, start_and_end, started, sweep_by, until,
};
use duologue_engine::store::{SessionStatus, Store};

/// All three, and the events that come with the ending.
pub async fn an_end_writes_event_record_and_job(store: &dyn Store) {
    let lease = start(store, "s").await;
    let events = [answered(2, "interrupted"), ended(3)];
    store.end(&lease, Seq(1), &events, None).await.unwrap();

    let [answer, ending] = events;
    assert_eq!(log(store, "s").await, [started("s"), answer, ending]);

    let session = record(store, "s").await;
    assert_eq!(session.status, SessionStatus::Ended);
    assert_eq!(session.end_reason, Some(EndReason::Requested));
    assert_eq!(
        session.end_time,
        Some(moment(90) + Duration::from_millis(500))
    );
    assert_eq!(session.duration_seconds, Some(90.5));
    assert_eq!(session.summary_status, Some(SummaryStatus::Pending));
    assert_eq!(session.summary, None);
    assert_eq!(session.last_seq, Seq(3));

    let job = claim_job(store, "worker", LONG).await;
    assert_eq!(job.session_id, session_id("s"));
    assert_eq!(job.user_id, alice());
    assert_eq!(job.last_seq, Seq(3));
    assert_eq!(job.worker, server("worker"));
}

/// An end at the wrong position leaves the session active, and no job.
pub async fn an_end_is_all_or_none(store: &dyn Store) {
    let lease = start(store, "s").await;
    save_draft(store, &lease, &draft("Hel")).await;
    assert_conflict(&store.end(&lease, Seq(2), &[ended(3)], None).await);
    assert_eq!(record(store, "s").await.status, SessionStatus::Active);
    assert_eq!(log(store, "s").await, [started("s")]);
    let job = store.claim_job(&server("worker"), LONG).await.unwrap();
    assert_eq!(job, None);
    assert_eq!(claim(store, "s", "there").await.draft, Some(draft("Hel")));
}

/// One event, one job; also when the job is in work already.
pub async fn a_repeated_end_changes_nothing(store: &dyn Store) {
    let lease = start_and_end(store, "s").await;
    store.end(&lease, Seq(1), &[ended(2)], None).await.unwrap();
    claim_job(store, "worker", LONG).await;
    store.end(&lease, Seq(1), &[ended(2)], None).await.unwrap();
    assert_eq!(log(store, "s").await, [started("s"), ended(2)]);
    let second = store.claim_job(&server("worker"), LONG).await.unwrap();
    assert_eq!(second, None);
}

/// A server that lost a session cannot end it under its new holder.
pub async fn an_old_epoch_cannot_end(store: &dyn Store) {
    let old = start(store, "s").await;
    claim(store, "s", "there").await;
    assert_conflict(&store.end(&old, Seq(1), &[ended(2)], None).await);
    assert_eq!(record(store, "s").await.status, SessionStatus::Active);
    let job = store.claim_job(&server("worker"), LONG).await.unwrap();
    assert_eq!(job, None);
}

/// The hold is given up with the end.
pub async fn an_ended_session_takes_no_writes(store: &dyn Store) {
    let lease = start_and_end(store, "s").await;
    assert_conflict(&store.append(&lease, Seq(2), &[said(3, "late")]).await);
    assert_conflict(&store.end(&lease, Seq(2), &[ended(3)], None).await);
    save_draft(store, &lease, &draft("late")).await;
    store.release(&lease).await.unwrap();
    assert_eq!(log(store, "s").await.len(), 2);
    assert_eq!(record(store, "s").await.status, SessionStatus::Ended);
    let lost = store
        .heartbeat(&server("here"), LONG, &[lease])
        .await
        .unwrap();
    assert_eq!(lost, [], "it has ended, and is not another's");
    assert_eq!(claim(store, "s", "there").await.draft, None);
}

/// A sweep that finds another session, lapsed later, does not find one that had ended before.
pub async fn an_ended_session_does_not_lapse(store: &dyn Store) {
    start_and_end(store, "ended").await;
    let lease = start(store, "left").await;
    store.release(&lease).await.unwrap();
    let found = until("the other session has lapsed", async || {
        let sweep = store.claim_lapsed(&sweep_by("sweeper")).await;
        Some(sweep.unwrap()).filter(|found| !found.is_empty())
    })
    .await;
    let found: Vec<_> = found
        .into_iter()
        .map(|claimed| claimed.session.session_id)
        .collect();
    assert_eq!(found, [session_id("left")]);
}

/// An answer that never came must not be mistaken for one that is forming, after a reopening.
pub async fn an_end_deletes_the_draft(store: &dyn Store) {
    let lease = start(store, "s").await;
    save_draft(store, &lease, &draft("Hel")).await;
    store.end(&lease, Seq(1), &[ended(2)], None).await.unwrap();
    assert_eq!(claim(store, "s", "there").await.draft, None);
}
