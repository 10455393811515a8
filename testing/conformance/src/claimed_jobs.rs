//! Properties of jobs that are claimed as they are enqueued, by the end of their session.

use std::time::Duration;

use duologue_protocol::Seq;

use super::fixture::{
    LONG, SHORT, alice, assert_conflict, claim, claim_job, claim_job_when_due, ended, log, server,
    session_id, start, started, summarized,
};
use duologue_engine::store::{JobClaim, JobEnd, JobRelease, Lease, Store};

fn job_claim(worker: &str, lease_duration: Duration) -> JobClaim {
    JobClaim {
        worker: server(worker),
        lease_duration,
    }
}

/// It is the first attempt, nobody else gets it, and its result applies.
pub async fn an_end_claims_its_job_for_a_worker(store: &dyn Store) {
    let lease = start(store, "s").await;
    let claim = job_claim("worker", LONG);
    let job = store.end(&lease, Seq(1), &[ended(2)], Some(&claim)).await;
    let job = job.unwrap().expect("the job is claimed");
    assert_eq!(job.session_id, session_id("s"));
    assert_eq!(job.user_id, alice());
    assert_eq!(job.last_seq, Seq(2));
    assert_eq!(job.worker, server("worker"));
    assert_eq!((job.attempt, job.uncounted), (1, 0));

    let other = store.claim_job(&server("other"), LONG).await.unwrap();
    assert_eq!(other, None);
    store.renew_job(&job, LONG).await.unwrap();
    let result = summarized(3, Some("- hello"));
    let end = store.finish_job(&job, &result).await.unwrap();
    assert_eq!(end, JobEnd::Applied);
    assert_eq!(log(store, "s").await, [started("s"), ended(2), result]);
}

/// Each session has its own, also if an older job waits.
pub async fn an_end_claims_no_other_job(store: &dyn Store) {
    let older = start(store, "older").await;
    store.end(&older, Seq(1), &[ended(2)], None).await.unwrap();
    let lease = start(store, "s").await;
    let claim = job_claim("worker", LONG);
    let job = store.end(&lease, Seq(1), &[ended(2)], Some(&claim)).await;
    assert_eq!(job.unwrap().unwrap().session_id, session_id("s"));
    let waiting = claim_job(store, "other", LONG).await;
    assert_eq!(waiting.session_id, session_id("older"));
}

/// The answer to an end was lost, so it is sent again. Once another worker has the job, or it is over, the
/// repetition succeeds and returns none.
pub async fn a_repeated_end_returns_the_same_job(store: &dyn Store) {
    let lease = start(store, "s").await;
    let claim = job_claim("worker", LONG);
    let again = async |lease: &Lease| {
        let ended = store.end(lease, Seq(1), &[ended(2)], Some(&claim)).await;
        ended.unwrap()
    };
    let job = again(&lease).await.expect("the job is claimed");
    assert_eq!(again(&lease).await, Some(job.clone()));

    store
        .release_job(&job, &JobRelease::stopped())
        .await
        .unwrap();
    assert_eq!(again(&lease).await, None);
    let second = claim_job_when_due(store, "other").await;
    assert_eq!((second.id, second.attempt), (job.id, 2));
    assert_eq!(again(&lease).await, None);
    let result = summarized(3, Some("- hello"));
    assert_conflict(&store.finish_job(&job, &result).await);
    store.finish_job(&second, &result).await.unwrap();
    assert_eq!(again(&lease).await, None);
}

/// A worker that is lost with its server loses its job like any other.
pub async fn a_job_claimed_by_an_end_lapses(store: &dyn Store) {
    let lease = start(store, "s").await;
    let claim = job_claim("worker", SHORT);
    let job = store.end(&lease, Seq(1), &[ended(2)], Some(&claim)).await;
    let job = job.unwrap().expect("the job is claimed");
    let second = claim_job_when_due(store, "other").await;
    assert_eq!((second.id, second.attempt), (job.id, 2));
    assert_conflict(&store.renew_job(&job, LONG).await);
}

/// An end that is refused leaves no job, claimed or not.
pub async fn a_refused_end_claims_nothing(store: &dyn Store) {
    let lease = start(store, "s").await;
    let claim_of_job = job_claim("worker", LONG);
    let beyond = store
        .end(&lease, Seq(2), &[ended(3)], Some(&claim_of_job))
        .await;
    assert_conflict(&beyond);
    claim(store, "s", "there").await;
    let stale = store
        .end(&lease, Seq(1), &[ended(2)], Some(&claim_of_job))
        .await;
    assert_conflict(&stale);
    let job = store.claim_job(&server("worker"), LONG).await.unwrap();
    assert_eq!(job, None);
}
