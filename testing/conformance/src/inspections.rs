//! Properties of what operators see and do.

use std::time::Duration;

use duologue_protocol::{Event, Seq, SummaryStatus};

use super::fixture::{
    LONG, answered, assert_conflict, claim, claim_job, claim_job_when_due, ended, record, said,
    server, session_id, start, start_and_end, started, summarized,
};
use duologue_engine::{
    store::{
        JobEnd, JobRelease, SessionRecord, SessionStatus, Store,
        operators::{
            JobRecord, JobState, Jobs, OperatorStore, ReadLimits, RetryOutcome, StoredEvent,
        },
    },
    verify::{self, Violation},
};

/// Pages of any size show each session once.
pub async fn all_sessions_are_found_page_by_page(store: &dyn Store, inspect: &dyn OperatorStore) {
    let names = ["a", "B", "a.b", "a-b", "0", "ab:c"];
    for name in names {
        claim(store, name, "here").await;
    }
    for page_size in [1, 4, 100] {
        let mut found = Vec::new();
        loop {
            let page = inspect.session_ids(found.last(), page_size).await.unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        let mut found: Vec<_> = found.iter().map(|id| id.as_str().to_owned()).collect();
        found.sort();
        let mut expected = names.map(str::to_owned);
        expected.sort();
        assert_eq!(found, expected, "in pages of {page_size}");
    }
}

/// All that is kept is read as it was written, and belongs together.
pub async fn a_session_is_read_as_it_is_kept(store: &dyn Store, inspect: &dyn OperatorStore) {
    let nothing = inspect.stored_session(&session_id("s")).await.unwrap();
    assert_eq!(nothing, None);
    let lease = start(store, "s").await;
    let turn = [said(2, "hello"), answered(3, "well")];
    store.append(&lease, Seq(1), &turn).await.unwrap();
    let head = inspect
        .stored_session(&session_id("s"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(head.record, record(store, "s").await);
    assert_eq!((head.epoch, head.owner), (1, Some(server("here"))));
    assert_eq!((head.log_end, head.jobs), (Seq(3), Vec::new()));

    let lease = claim(store, "s", "there").await.lease;
    store.end(&lease, Seq(3), &[ended(4)], None).await.unwrap();
    let kept = verify::read(inspect, &session_id("s")).await.unwrap();
    let kept = kept.unwrap();
    assert_eq!(kept.head.owner, None);
    let [job] = &*kept.head.jobs else {
        panic!("one job: {:?}", kept.head.jobs)
    };
    assert_eq!((job.last_seq, job.state), (Seq(4), JobState::Waiting));
    let rows: Vec<_> = kept
        .log
        .into_iter()
        .map(|row| (row.epoch, row.event))
        .collect();
    let [said, answered] = turn;
    let events = [(1, started("s")), (1, said), (1, answered), (2, ended(4))];
    assert_eq!(rows, events.map(|(epoch, event)| (epoch, Ok(event))));
}

/// Rows come in pages, those after a number, in the order of their numbers.
pub async fn rows_are_read_in_pages(store: &dyn Store, inspect: &dyn OperatorStore) {
    let lease = start(store, "s").await;
    let more: Vec<Event> = (2..=6).map(|seq| said(seq, "on and on")).collect();
    store.append(&lease, Seq(1), &more).await.unwrap();
    let page = inspect.rows(&session_id("s"), Seq(2), 3).await.unwrap();
    let seqs: Vec<_> = page.iter().map(|row| row.seq.0).collect();
    assert_eq!(seqs, [3, 4, 5]);
    assert_eq!(inspect.rows(&session_id("s"), Seq(6), 3).await.unwrap(), []);
    assert_eq!(inspect.rows(&session_id("t"), Seq(0), 3).await.unwrap(), []);
}

/// Sessions that are read together are as those that are read alone, up to the limits; what the limits cut off can
/// be read afterwards.
pub async fn sessions_are_read_together(store: &dyn Store, inspect: &dyn OperatorStore) {
    for name in ["a", "b", "c"] {
        let lease = start(store, name).await;
        let turn = [said(2, "hello"), answered(3, "well"), ended(4)];
        store.end(&lease, Seq(1), &turn, None).await.unwrap();
    }
    let ids = ["a", "gone", "b", "c"].map(session_id);
    for (rows, bytes) in [(100, 1 << 20), (6, 1 << 20), (1, 1 << 20), (100, 1)] {
        let limits = ReadLimits { rows, bytes };
        let mut read = Vec::new();
        while read.len() < ids.len() {
            let rest = &ids[read.len()..];
            let some = inspect.stored_sessions(rest, limits).await.unwrap();
            let logs: usize = some.iter().map(|session| session.log.len()).sum();
            assert!(logs <= rows as usize, "{logs} rows, limit {rows}");
            assert!(!some.is_empty());
            read.extend(some);
        }
        for (id, session) in ids.iter().zip(read) {
            assert_eq!(session.session_id, *id);
            let alone = verify::read(inspect, id).await.unwrap();
            let Some(alone) = alone else {
                assert_eq!((session.head, session.log), (None, Vec::new()));
                continue;
            };
            assert_eq!(session.head.unwrap(), alone.head);
            let rows = u32::try_from(session.log.len()).unwrap();
            let outlines = inspect.outlines(id, Seq::ZERO, rows).await.unwrap();
            assert_eq!(session.log, outlines);
            let names = |log: &[StoredEvent]| -> Vec<_> {
                let events = log
                    .iter()
                    .map(|row| (row.seq, row.epoch, row.event.clone()));
                let names = events.map(|(seq, epoch, event)| {
                    let event = event.unwrap();
                    (
                        seq,
                        epoch,
                        event.occurred_at,
                        event.turn_id,
                        event.body.event_type(),
                    )
                });
                names.collect()
            };
            assert_eq!(names(&outlines), names(&alone.log[..outlines.len()]));
        }
    }
}

async fn jobs(inspect: &dyn OperatorStore, which: Jobs) -> Vec<JobRecord> {
    inspect.jobs(which, 0, 100).await.unwrap()
}

async fn only_job(inspect: &dyn OperatorStore) -> JobRecord {
    let mut jobs = jobs(inspect, Jobs::All).await;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs.remove(0)
}

/// From its making to its end, with what went wrong on the way.
pub async fn a_job_shows_how_it_stands(store: &dyn Store, inspect: &dyn OperatorStore) {
    start_and_end(store, "s").await;
    let new = only_job(inspect).await;
    assert_eq!((new.state, new.attempt), (JobState::Waiting, 0));
    assert_eq!(
        (new.worker, new.due_in, new.last_error),
        (None, Duration::ZERO, None)
    );

    let job = claim_job(store, "worker", LONG).await;
    let running = only_job(inspect).await;
    assert_eq!((running.state, running.attempt), (JobState::Running, 1));
    assert_eq!(running.worker, Some(server("worker")));

    store
        .release_job(&job, &JobRelease::failed(LONG, "the model is away"))
        .await
        .unwrap();
    let waiting = only_job(inspect).await;
    assert_eq!((waiting.state, waiting.attempt), (JobState::Waiting, 1));
    assert_eq!(waiting.last_error.as_deref(), Some("the model is away"));
    assert!(
        waiting.due_in > LONG / 2 && waiting.due_in <= LONG,
        "{waiting:?}"
    );
    assert_eq!(
        inspect.retry_job(waiting.id).await.unwrap(),
        Some(RetryOutcome::DueNow)
    );

    let job = claim_job_when_due(store, "worker").await;
    assert_eq!(
        inspect.retry_job(job.id).await.unwrap(),
        Some(RetryOutcome::Running)
    );
    let event = summarized(3, Some("a short talk"));
    store.finish_job(&job, &event).await.unwrap();
    let done = only_job(inspect).await;
    assert_eq!(
        (done.state, done.outcome),
        (JobState::Done, Some(JobEnd::Applied))
    );
    assert_eq!(
        inspect.retry_job(done.id).await.unwrap(),
        Some(RetryOutcome::Done)
    );
    assert_eq!(jobs(inspect, Jobs::Failed).await, []);
    assert_eq!(inspect.retry_job(done.id + 1).await.unwrap(), None);
}

/// Ends a session and lets its summary fail for good. The failed job.
async fn fail(store: &dyn Store, session: &str) -> i64 {
    start_and_end(store, session).await;
    let job = claim_job(store, "worker", LONG).await;
    store.finish_job(&job, &summarized(3, None)).await.unwrap();
    job.id
}

async fn findings(inspect: &dyn OperatorStore) -> Vec<Violation> {
    verify::check(inspect, &session_id("s")).await.unwrap()
}

/// A new job takes its place, whose result follows the failure in the log; the session waits for it.
pub async fn a_failed_job_is_tried_again(store: &dyn Store, inspect: &dyn OperatorStore) {
    let failed = fail(store, "s").await;
    let listed = jobs(inspect, Jobs::Failed).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].id, listed[0].state), (failed, JobState::Failed));

    let Some(RetryOutcome::Replaced(id)) = inspect.retry_job(failed).await.unwrap() else {
        panic!("it was not replaced");
    };
    // The answer was lost, so it is asked again.
    let again = inspect.retry_job(failed).await.unwrap();
    assert_eq!(again, Some(RetryOutcome::Replaced(id)));
    let session = record(store, "s").await;
    assert_eq!(session.status, SessionStatus::Ended);
    assert_eq!(session.summary_status, Some(SummaryStatus::Pending));
    assert_eq!(jobs(inspect, Jobs::Failed).await, []);
    assert_eq!(findings(inspect).await, []);

    let job = claim_job(store, "worker", LONG).await;
    assert_eq!((job.id, job.last_seq, job.attempt), (id, Seq(3), 1));
    let event = summarized(4, Some("at last"));
    assert_eq!(
        store.finish_job(&job, &event).await.unwrap(),
        JobEnd::Applied
    );
    let session = record(store, "s").await;
    assert_eq!(session.status, SessionStatus::Completed);
    assert_eq!(session.summary.as_deref(), Some("at last"));
    let states: Vec<_> = jobs(inspect, Jobs::All)
        .await
        .iter()
        .map(|job| job.state)
        .collect();
    assert_eq!(states, [JobState::Superseded, JobState::Done]);
    assert_eq!(
        inspect.retry_job(failed).await.unwrap(),
        Some(RetryOutcome::Superseded)
    );
    assert_eq!(findings(inspect).await, []);
}

/// It may fail once more, and be tried once more.
pub async fn a_job_that_failed_again_is_tried_again(
    store: &dyn Store,
    inspect: &dyn OperatorStore,
) {
    let mut failed = fail(store, "s").await;
    for seq in 4..=5 {
        let Some(RetryOutcome::Replaced(_)) = inspect.retry_job(failed).await.unwrap() else {
            panic!("it was not replaced");
        };
        let job = claim_job(store, "worker", LONG).await;
        store
            .finish_job(&job, &summarized(seq, None))
            .await
            .unwrap();
        let listed = jobs(inspect, Jobs::Failed).await;
        failed = job.id;
        assert_eq!(
            listed.iter().map(|job| job.id).collect::<Vec<_>>(),
            [failed]
        );
        assert_eq!(findings(inspect).await, []);
    }
}

/// Its next end makes a summary of the whole, so nothing is to be tried again before that.
pub async fn the_failed_job_of_a_reopened_session_is_left_alone(
    store: &dyn Store,
    inspect: &dyn OperatorStore,
) {
    let failed = fail(store, "s").await;
    claim(store, "s", "there").await;
    let before = record(store, "s").await;
    assert_eq!(jobs(inspect, Jobs::Failed).await, []);
    assert_eq!(
        inspect.retry_job(failed).await.unwrap(),
        Some(RetryOutcome::Superseded)
    );
    assert_eq!(record(store, "s").await, before);
    assert_eq!(
        store.claim_job(&server("worker"), LONG).await.unwrap(),
        None
    );
}

/// Somebody returns while the summary is tried again: the new job has no effect, as any other.
pub async fn a_session_may_be_reopened_while_its_job_is_tried_again(
    store: &dyn Store,
    inspect: &dyn OperatorStore,
) {
    let failed = fail(store, "s").await;
    inspect.retry_job(failed).await.unwrap();
    let job = claim_job(store, "worker", LONG).await;
    claim(store, "s", "there").await;
    let end = store.finish_job(&job, &summarized(4, Some("late"))).await;
    assert_eq!(end.unwrap(), JobEnd::Superseded);
    assert_eq!(record(store, "s").await.summary, None);
    assert_eq!(findings(inspect).await, []);
}

/// Those that failed are found among all others, page by page.
pub async fn jobs_are_listed_page_by_page(store: &dyn Store, inspect: &dyn OperatorStore) {
    let mut failed = Vec::new();
    for number in 0..3 {
        failed.push(fail(store, &format!("failed-{number}")).await);
        start_and_end(store, &format!("done-{number}")).await;
        let job = claim_job(store, "worker", LONG).await;
        store
            .finish_job(&job, &summarized(3, Some("well")))
            .await
            .unwrap();
    }
    for (which, count) in [(Jobs::All, 6), (Jobs::Failed, 3)] {
        let mut found: Vec<i64> = Vec::new();
        loop {
            let after = found.last().copied().unwrap_or(0);
            let page = inspect.jobs(which, after, 2).await.unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page.iter().map(|job| job.id));
        }
        assert_eq!(found.len(), count);
        assert!(found.is_sorted());
        assert!(failed.iter().all(|id| found.contains(id)));
    }
}

/// What was restored from a backup is a history of its own: positions, leases and jobs from before are void.
pub async fn after_a_restore_logs_have_new_ids_and_nobody_holds_anything(
    store: &dyn Store,
    inspect: &dyn OperatorStore,
) {
    let held = start(store, "held").await;
    start_and_end(store, "ended").await;
    let job = claim_job(store, "worker", LONG).await;
    let before = [record(store, "held").await, record(store, "ended").await];

    assert_eq!(inspect.restored().await.unwrap(), 2);

    for before in before {
        let id = before.session_id.clone();
        let after = record(store, id.as_str()).await;
        assert_ne!(after.log_id, before.log_id);
        let unchanged = SessionRecord {
            log_id: before.log_id.clone(),
            ..after.clone()
        };
        assert_eq!(unchanged, before);
        let stored = inspect.stored_session(&id).await.unwrap().unwrap();
        assert_eq!(stored.owner, None);
        assert!(stored.epoch > 1_000, "{}", stored.epoch);
        assert_eq!(verify::check(inspect, &id).await.unwrap(), []);
    }
    let refused = store.append(&held, Seq(1), &[said(2, "hello")]).await;
    assert_conflict(&refused);
    let lost = store.heartbeat(&held.server, LONG, std::slice::from_ref(&held));
    assert_eq!(lost.await.unwrap(), std::slice::from_ref(&held));
    let summary = summarized(3, Some("in vain"));
    assert_conflict(&store.finish_job(&job, &summary).await);

    // All goes on under new claims.
    let again = claim(store, "held", "there").await;
    store
        .append(&again.lease, Seq(1), &[said(2, "hello")])
        .await
        .unwrap();
    assert_eq!(claim_job(store, "worker", LONG).await.id, job.id);
}
