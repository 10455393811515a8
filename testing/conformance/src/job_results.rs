//! Properties of how a job's result takes effect: once, or not at all.

use duologue_protocol::{Seq, SummaryStatus};

use super::fixture::{
    LONG, claim, claim_job, ended, log, record, said, server, start_and_end, started, summarized,
};
use duologue_engine::store::{JobEnd, SessionStatus, Store};

/// The event is in the log, the summary in the record, and the session is through.
pub async fn a_finished_job_completes_the_session(store: &dyn Store) {
    start_and_end(store, "s").await;
    let before = record(store, "s").await;
    let job = claim_job(store, "worker", LONG).await;
    let event = summarized(3, Some("a short talk"));
    let end = store.finish_job(&job, &event).await.unwrap();
    assert_eq!(end, JobEnd::Applied);
    assert_eq!(log(store, "s").await, [started("s"), ended(2), event]);
    let session = record(store, "s").await;
    assert_eq!(session.status, SessionStatus::Completed);
    assert_eq!(session.summary.as_deref(), Some("a short talk"));
    assert_eq!(session.summary_status, Some(SummaryStatus::Done));
    assert_eq!(session.last_seq, Seq(3));
    // The ending stays what it was.
    assert_eq!(session.end_time, before.end_time);
    assert_eq!(session.duration_seconds, before.duration_seconds);
    assert_eq!(session.end_reason, before.end_reason);
}

/// A session is never stuck in `ended`.
pub async fn a_failed_summary_completes_the_session_too(store: &dyn Store) {
    start_and_end(store, "s").await;
    let job = claim_job(store, "worker", LONG).await;
    let end = store.finish_job(&job, &summarized(3, None)).await.unwrap();
    assert_eq!(end, JobEnd::Applied);
    let session = record(store, "s").await;
    assert_eq!(session.status, SessionStatus::Completed);
    assert_eq!(session.summary, None);
    assert_eq!(session.summary_status, Some(SummaryStatus::Failed));
}

/// The repetition is answered as the first call was; also when the session was reopened meanwhile.
pub async fn a_repeated_finish_applies_once(store: &dyn Store) {
    start_and_end(store, "s").await;
    let job = claim_job(store, "worker", LONG).await;
    let event = summarized(3, Some("a short talk"));
    for _ in 0..2 {
        let end = store.finish_job(&job, &event).await.unwrap();
        assert_eq!(end, JobEnd::Applied);
    }
    claim(store, "s", "there").await;
    assert_eq!(
        store.finish_job(&job, &event).await.unwrap(),
        JobEnd::Applied
    );
    assert_eq!(log(store, "s").await, [started("s"), ended(2), event]);
    assert_eq!(record(store, "s").await.status, SessionStatus::Active);
}

/// Its result would be about half a session. The job is over, and the session goes on untouched.
pub async fn the_job_of_a_reopened_session_is_superseded(store: &dyn Store) {
    start_and_end(store, "s").await;
    let job = claim_job(store, "worker", LONG).await;
    claim(store, "s", "there").await;
    let before = record(store, "s").await;
    for _ in 0..2 {
        let end = store
            .finish_job(&job, &summarized(3, Some("half")))
            .await
            .unwrap();
        assert_eq!(end, JobEnd::Superseded);
    }
    assert_eq!(record(store, "s").await, before);
    assert_eq!(log(store, "s").await, [started("s"), ended(2)]);
    assert_eq!(
        store.claim_job(&server("worker"), LONG).await.unwrap(),
        None
    );
}

/// Ended, reopened and ended again before the first job was done: only the second one counts.
pub async fn a_session_that_ended_twice_is_summarized_as_a_whole(store: &dyn Store) {
    start_and_end(store, "s").await;
    let lease = claim(store, "s", "there").await.lease;
    store
        .end(&lease, Seq(2), &[said(3, "again"), ended(4)], None)
        .await
        .unwrap();
    let first = claim_job(store, "worker", LONG).await;
    let second = claim_job(store, "worker", LONG).await;
    assert_eq!([first.last_seq, second.last_seq], [Seq(2), Seq(4)]);
    let end = store
        .finish_job(&first, &summarized(3, Some("half")))
        .await
        .unwrap();
    assert_eq!(end, JobEnd::Superseded);
    assert_eq!(record(store, "s").await.status, SessionStatus::Ended);
    let end = store
        .finish_job(&second, &summarized(5, Some("whole")))
        .await
        .unwrap();
    assert_eq!(end, JobEnd::Applied);
    assert_eq!(record(store, "s").await.summary.as_deref(), Some("whole"));
    // Reopened once more, it keeps the summary until the next one.
    let reopened = claim(store, "s", "here").await.session;
    assert_eq!(reopened.summary.as_deref(), Some("whole"));
    assert_eq!(reopened.summary_status, None);
}

/// Not even once its lease would have lapsed.
pub async fn a_finished_job_is_not_claimed_again(store: &dyn Store) {
    start_and_end(store, "s").await;
    let job = claim_job(store, "worker", std::time::Duration::ZERO).await;
    store.finish_job(&job, &summarized(3, None)).await.unwrap();
    let again = store.claim_job(&server("worker"), LONG).await.unwrap();
    assert_eq!(again, None);
    super::fixture::assert_conflict(&store.renew_job(&job, LONG).await);
}
