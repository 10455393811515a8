//! Properties of who may work on a job, and when.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;

use super::fixture::{
    LONG, SHORT, assert_conflict, claim_job, claim_job_when_due, log, record, server, session_id,
    start_and_end, summarized,
};
use duologue_engine::store::{JobRelease, SessionStatus, Store};

/// A job that kills its worker before it can report must still run out of attempts.
pub async fn attempts_are_counted_at_the_claim(store: &dyn Store) {
    start_and_end(store, "s").await;
    assert_eq!(claim_job(store, "worker", SHORT).await.attempt, 1);
    let again = claim_job_when_due(store, "worker").await;
    assert_eq!(again.attempt, 2);
}

/// A slow worker's lease lapses and another takes the job. Whatever the slow one then does, under
/// the same name or not, has no effect.
pub async fn a_worker_that_lost_its_job_conflicts(store: &dyn Store) {
    start_and_end(store, "s").await;
    let lost = claim_job(store, "slow", SHORT).await;
    let mut held = claim_job_when_due(store, "slow").await;
    assert_eq!(held.id, lost.id);
    assert_conflict(&store.finish_job(&lost, &summarized(3, Some("late"))).await);
    assert_conflict(&store.renew_job(&lost, LONG).await);
    assert_conflict(
        &store
            .release_job(&lost, &JobRelease::failed(LONG, "late"))
            .await,
    );
    held.worker = server("impostor");
    assert_conflict(&store.finish_job(&held, &summarized(3, Some("false"))).await);
    held.worker = server("slow");
    assert_eq!(log(store, "s").await.len(), 2);
    store
        .finish_job(&held, &summarized(3, Some("on time")))
        .await
        .unwrap();
    assert_eq!(record(store, "s").await.summary.as_deref(), Some("on time"));
    assert_conflict(&store.finish_job(&lost, &summarized(3, Some("late"))).await);
}

/// Ten jobs, eight workers that all ask at once and go on until nothing is left.
pub async fn many_workers_never_hold_one_job(store: &dyn Store) {
    for n in 0..10 {
        start_and_end(store, &format!("s{n}")).await;
    }
    let claimed = join_all((0..8).map(|n| async move {
        let worker = server(&format!("worker-{n}"));
        let mut jobs = Vec::new();
        while let Some(job) = store.claim_job(&worker, LONG).await.unwrap() {
            jobs.push(job);
        }
        jobs
    }))
    .await
    .concat();
    assert_eq!(claimed.len(), 10);
    assert!(claimed.iter().all(|job| job.attempt == 1));
    let ids: BTreeSet<_> = claimed.iter().map(|job| job.id).collect();
    assert_eq!(ids.len(), 10);
}

/// Two jobs are given back, one for a long time and one for a short one: the short one returns,
/// the long one does not.
pub async fn a_job_that_was_given_back_waits_for_its_delay(store: &dyn Store) {
    start_and_end(store, "long").await;
    start_and_end(store, "short").await;
    let long = claim_job(store, "worker", LONG).await;
    let short = claim_job(store, "worker", LONG).await;
    store
        .release_job(&long, &JobRelease::failed(LONG, "no answer"))
        .await
        .unwrap();
    store
        .release_job(&short, &JobRelease::failed(SHORT, "no answer"))
        .await
        .unwrap();
    let next = claim_job_when_due(store, "other").await;
    assert_eq!((next.id, next.attempt), (short.id, 2));
    let none = store.claim_job(&server("other"), LONG).await.unwrap();
    assert_eq!(none, None);
}

/// A worker whose server stops gives its job back without using up an attempt; the number that fences the
/// result rises nevertheless.
pub async fn a_job_may_be_given_back_without_counting_the_attempt(store: &dyn Store) {
    start_and_end(store, "s").await;
    let first = claim_job(store, "worker", LONG).await;
    let uncounted = JobRelease::stopped();
    store.release_job(&first, &uncounted).await.unwrap();
    // The repetition counts neither way.
    store.release_job(&first, &uncounted).await.unwrap();
    let failed = JobRelease::failed(Duration::ZERO, "no answer");
    store.release_job(&first, &failed).await.unwrap();

    let second = claim_job(store, "worker", LONG).await;
    assert_eq!((second.attempt, second.counted_attempt()), (2, 1));
    assert_conflict(&store.release_job(&first, &uncounted).await);
    store.release_job(&second, &failed).await.unwrap();
    let third = claim_job(store, "worker", LONG).await;
    assert_eq!((third.attempt, third.counted_attempt()), (3, 2));
}

/// Giving back is a write like any other: it may be repeated, and what was held is no more.
pub async fn a_job_that_was_given_back_is_no_longer_held(store: &dyn Store) {
    start_and_end(store, "s").await;
    let job = claim_job(store, "worker", LONG).await;
    store
        .release_job(&job, &JobRelease::failed(LONG, "no answer"))
        .await
        .unwrap();
    // The repetition must not shorten the delay.
    store
        .release_job(&job, &JobRelease::failed(Duration::ZERO, "no answer"))
        .await
        .unwrap();
    assert_eq!(
        store.claim_job(&server("worker"), LONG).await.unwrap(),
        None
    );
    assert_conflict(&store.renew_job(&job, LONG).await);
    assert_conflict(&store.finish_job(&job, &summarized(3, Some("late"))).await);
    assert_eq!(record(store, "s").await.status, SessionStatus::Ended);
}

/// Of two jobs with short leases the one that is renewed does not come back.
pub async fn renewing_a_job_prolongs_its_lease(store: &dyn Store) {
    start_and_end(store, "kept").await;
    start_and_end(store, "left").await;
    let kept = claim_job(store, "worker", SHORT).await;
    store.renew_job(&kept, LONG).await.unwrap();
    let left = claim_job(store, "worker", SHORT).await;
    let back = claim_job_when_due(store, "other").await;
    assert_eq!(back.id, left.id);
    assert_eq!(store.claim_job(&server("other"), LONG).await.unwrap(), None);
}

/// New jobs do not starve old ones.
pub async fn the_job_that_has_been_due_longest_comes_first(store: &dyn Store) {
    for name in ["first", "second", "third"] {
        start_and_end(store, name).await;
    }
    for name in ["first", "second", "third"] {
        let job = claim_job(store, "worker", LONG).await;
        assert_eq!(job.session_id, session_id(name));
    }
}
