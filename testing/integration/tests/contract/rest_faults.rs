//! Supabase's REST interface: what becomes of a call when something fails on its way.

use std::time::{Duration, Instant};

use duologue_engine::store::{JobRelease, ServerId, StoreError};
use duologue_integration::{
    fault_proxy::Fault::{self, Delay, HalfAnswer, LostAnswer, Page, RetryAfter, Status},
    store::OpenStore,
    supabase::Project,
};
use duologue_protocol::Seq;

use crate::scene::{assert_unavailable, claim, ended, log, said};

/// A request that is neither lost nor repeated makes one; the store repeats at most twice.
const ATTEMPTS_MAX: usize = 3;

async fn open() -> OpenStore<Project> {
    let project = Project::new().await;
    let config = project.config(&project.service_role_key());
    OpenStore::open_with(&config, project).await
}

fn server() -> ServerId {
    ServerId("here".to_owned())
}

/// Goal: nobody can tell a write whose answer was lost from one that was never made, so it is made
/// again, and must not count twice. Each way to fail hits one append; then the log is read.
#[tokio::test]
async fn a_write_of_unknown_outcome_is_repeated_and_counts_once() {
    let store = open().await;
    let lease = claim(&*store, "faults").await;
    let faults: [Fault; 7] = [
        LostAnswer,
        HalfAnswer,
        Page(502),
        Status(500),
        Status(503),
        Status(429),
        RetryAfter(503, 0),
    ];
    let mut expected = Vec::new();
    for (fault, seq) in faults.into_iter().zip(1..) {
        store.ground.gateway.will([fault.clone()]);
        let events = [said(seq, "hello")];
        let appended = store.append(&lease, Seq(seq - 1), &events).await;
        assert!(appended.is_ok(), "{fault:?}: {appended:?}");
        assert_eq!(store.ground.gateway.seen().len(), 2, "{fault:?}");
        expected.extend(events);
    }
    assert_eq!(log(&*store, "faults").await, expected);
}

/// The same for the end, which makes a job besides: there must be one.
#[tokio::test]
async fn an_end_of_unknown_outcome_makes_one_job() {
    let store = open().await;
    let lease = claim(&*store, "faults").await;
    store.ground.gateway.will([LostAnswer]);
    store
        .end(&lease, Seq::ZERO, &[ended(1)], None)
        .await
        .unwrap();
    let lease = Duration::from_mins(1);
    assert!(store.claim_job(&server(), lease).await.unwrap().is_some());
    assert_eq!(store.claim_job(&server(), lease).await.unwrap(), None);
}

/// A caller that can wait longer than the store calls again; so the two do not multiply.
#[tokio::test]
async fn a_call_is_repeated_a_few_times_only() {
    let store = open().await;
    let lease = claim(&*store, "faults").await;
    for fault in [LostAnswer, Status(500), Page(503)] {
        store.ground.gateway.will(vec![fault.clone(); 10]);
        let read = store.read(&lease.user_id, &lease.session_id, Seq::ZERO, 10);
        let refused = read.await;
        assert_unavailable(&refused);
        assert_eq!(store.ground.gateway.seen().len(), ATTEMPTS_MAX, "{fault:?}");
    }
}

/// A claim of a job that is made again takes the next job, and the first one's attempt is wasted.
#[tokio::test]
async fn a_claim_of_a_job_is_repeated_only_if_it_had_no_effect() {
    let store = open().await;
    let lease = claim(&*store, "faults").await;
    store
        .end(&lease, Seq::ZERO, &[ended(1)], None)
        .await
        .unwrap();
    let lease = Duration::from_mins(1);
    store.ground.gateway.will([Status(429)]);
    let job = store.claim_job(&server(), lease).await.unwrap();
    let job = job.expect("there is one");
    let release = JobRelease::failed(Duration::ZERO, "again");
    store.release_job(&job, &release).await.unwrap();

    store.ground.gateway.will([LostAnswer]);
    let lost = store.claim_job(&server(), lease).await;
    assert_unavailable(&lost);
    assert_eq!(store.ground.gateway.seen().len(), 1);
}

/// Goal: an interface that is overloaded gets the pause that it asks for, from all calls.
#[tokio::test]
async fn a_pause_that_is_asked_for_is_kept_by_all_calls() {
    let store = open().await;
    store.ground.gateway.will([RetryAfter(429, 1)]);
    let started = Instant::now();
    store.ping().await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(store.ground.gateway.seen().len(), 2);

    // A pause that is longer than a call may take: nobody waits for it, and nobody disturbs it.
    store.ground.gateway.will([RetryAfter(429, 60)]);
    for _ in 0..3 {
        let refused = store.ping().await;
        assert_unavailable(&refused);
    }
    assert_eq!(store.ground.gateway.seen().len(), 1);
}

/// A call takes its time and no more; and the one after it is not held up.
#[tokio::test]
async fn a_slow_answer_is_given_up_in_time() {
    let project = Project::new().await;
    let mut config = project.config(&project.service_role_key());
    config.statement_timeout = Duration::from_millis(200);
    let store = OpenStore::open_with(&config, project).await;
    store.ground.gateway.will([Delay(Duration::from_mins(5))]);
    let started = Instant::now();
    let refused = store.ping().await;
    assert_unavailable(&refused);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(store.ground.gateway.seen().len(), 1);
    store.ping().await.unwrap();
}

/// What Postgres itself refuses for good is not tried again: a lease beyond all time.
#[tokio::test]
async fn what_can_never_succeed_is_not_repeated() {
    let store = open().await;
    let lease = claim(&*store, "faults").await;
    store.ground.gateway.will([]);
    let endless = Duration::from_secs(u64::MAX);
    let refused = store.heartbeat(&server(), endless, &[lease]).await;
    assert!(
        matches!(refused, Err(StoreError::Corrupt(_))),
        "{refused:?}"
    );
    assert_eq!(store.ground.gateway.seen().len(), 1);
}

/// A key that is exchanged while the server runs is no reason to give sessions up.
#[tokio::test]
async fn a_key_that_is_refused_later_may_come_to_be_accepted_again() {
    let store = open().await;
    store.ground.gateway.will([Status(401)]);
    let refused = store.ping().await;
    assert_unavailable(&refused);
    assert_eq!(store.ground.gateway.seen().len(), 1);
    store.ping().await.unwrap();
}

/// Calls that follow each other share one connection, since a handshake costs as much as a call.
#[tokio::test]
async fn connections_are_kept() {
    let store = open().await;
    store.ground.gateway.will([]);
    for _ in 0..10 {
        store.ping().await.unwrap();
    }
    let seen = store.ground.gateway.seen();
    assert_eq!(seen.len(), 10);
    assert!(
        seen.iter()
            .all(|call| call.connection == seen[0].connection)
    );
}

/// Goal: a page that is too large for one answer must not make a session unreadable. Its events
/// have a megabyte each, so that twenty of them are more than the store takes at once.
#[tokio::test]
async fn a_page_that_is_too_large_is_read_in_parts() {
    let store = open().await;
    let lease = claim(&*store, "faults").await;
    let text = "x".repeat(1 << 20);
    for half in 0..2 {
        let first = half * 10 + 1;
        let events: Vec<_> = (first..first + 10).map(|seq| said(seq, &text)).collect();
        store.append(&lease, Seq(first - 1), &events).await.unwrap();
    }
    let (mut last, mut pages) = (Seq::ZERO, Vec::new());
    loop {
        let page = store.read(&lease.user_id, &lease.session_id, last, 100);
        let page = page.await.unwrap();
        let Some(event) = page.last() else { break };
        last = event.seq;
        pages.push(page.len());
    }
    assert_eq!(last, Seq(20));
    assert!(pages.len() > 1, "{pages:?}");
}
