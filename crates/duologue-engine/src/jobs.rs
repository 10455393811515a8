//! Jobs: work that outlives its session. The only kind so far is the session's summary.
//!
//! A job is enqueued in the transaction that ends the session, and its result is applied in one that
//! checks the worker's lease. The model may be asked several times; the result is applied once.

mod error;
mod summary;

use std::{panic::AssertUnwindSafe, time::Duration};

use duologue_protocol::{Event, EventBody, Seq, SessionSummarized, SummaryStatus, Timestamp};
use futures_util::{FutureExt, future::join_all};
use tokio::time::{MissedTickBehavior, interval};
use tracing::Instrument;

use crate::{
    context::Context,
    free_workers::{AssignedJob, ReservedWorker},
    jobs::error::JobError,
    store::{Job, JobRelease, ServerId, StoreError, normalize::stored_time},
};

/// One worker. Runs until the server drains.
pub(crate) async fn run(context: &Context, number: u16) {
    let worker = ServerId(format!("{}/{number}", context.server));
    while !context.drain.is_cancelled() {
        let offer = context.free_workers.offer(worker.clone());
        if let Some(assigned) = offer.wait(context.drain.cancelled()).await {
            work(context, assigned).await;
        }
    }
}

/// Looks into the table for all workers: at intervals, since other servers leave jobs there too and failed ones
/// fall due again, and when a job and a worker may be waiting for each other. Runs until the server drains.
pub(crate) async fn dispatch(context: &Context) {
    let mut claims_max = 1;
    while !context.drain.is_cancelled() {
        if let Err(error) = assign_due(context, &mut claims_max).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "jobs.claim_failed"
            );
        }
        tokio::select! {
            biased;
            () = context.drain.cancelled() => {}
            () = context.free_workers.jobs_may_wait() => {}
            () = tokio::time::sleep(context.limits.jobs.poll_interval) => {}
        }
    }
}

/// Claims jobs for free workers, until none of either is left. Up to `claims_max` of them are claimed at the same
/// time, so that the store can make that one operation: one while the table is empty, and twice as many each time
/// that all claims find a job.
async fn assign_due(context: &Context, claims_max: &mut usize) -> Result<(), StoreError> {
    // A claim counts an attempt, so no job is claimed that could only fail.
    while !context.drain.is_cancelled() && context.budgets.may_spend(context.clock.now()) {
        let free = std::iter::from_fn(|| context.free_workers.reserve_for_table());
        let claims = free.take(*claims_max);
        let claims: Vec<_> = claims.map(|worker| assign_next(context, worker)).collect();
        if claims.is_empty() {
            return Ok(());
        }
        let claimed = claims.len();
        let found = join_all(claims).await;
        let found: Result<Vec<_>, _> = found.into_iter().collect();
        if found?.contains(&false) {
            *claims_max = 1;
            context.free_workers.table_is_empty();
            return Ok(());
        }
        *claims_max = claimed * 2;
    }
    Ok(())
}

/// Claims the next job for a worker. `false`: none is due.
async fn assign_next(context: &Context, worker: ReservedWorker) -> Result<bool, StoreError> {
    let lease = context.limits.jobs.lease;
    let Some(job) = context.store.claim_job(worker.worker(), lease).await? else {
        return Ok(false);
    };
    worker.assign(job);
    Ok(true)
}

/// Does one job.
async fn work(context: &Context, assigned: AssignedJob) {
    let AssignedJob { job, at_work } = assigned;
    let span = tracing::info_span!("job", job.id, job.kind = "summary");
    attempt(context, &job).instrument(span).await;
    drop(at_work);
}

/// Does one job, renewing its lease meanwhile.
async fn attempt(context: &Context, job: &Job) {
    let attempt = AssertUnwindSafe(summarize(context, job)).catch_unwind();
    let result = tokio::select! {
        biased;
        // The panic hook has logged a panic with its place.
        result = attempt => result.unwrap_or_else(|_panic| {
            Err(JobError::Retry("the attempt panicked".into()))
        }),
        lost = renew_lease(context, job) => Err(lost),
        // The lease expires by itself; giving the job back saves other servers the wait.
        () = context.drain.cancelled() => Err(JobError::Retry("the server is stopping".into())),
    };
    let Err(error) = result else { return };
    tracing::warn!(
        attempt = job.attempt,
        error = &error as &dyn std::error::Error,
        "job.failed"
    );
    if let Err(error) = settle(context, job, error).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "job.not_settled");
    }
}

/// Stores what happens to a job after a failed attempt.
async fn settle(context: &Context, job: &Job, error: JobError) -> Result<(), StoreError> {
    let store = &context.store;
    match error {
        JobError::Lost => Ok(()),
        JobError::Retry(_) if context.drain.is_cancelled() => {
            store.release_job(job, &JobRelease::stopped()).await
        }
        JobError::Retry(cause) => match retry_delay(context, job) {
            Some(delay) => {
                let release = JobRelease::failed(delay, cause.to_string());
                store.release_job(job, &release).await
            }
            None => fail(context, job).await,
        },
        JobError::GiveUp(_) => fail(context, job).await,
    }
}

/// The wait before the next attempt; none after the last.
fn retry_delay(context: &Context, job: &Job) -> Option<Duration> {
    let index = usize::try_from(job.counted_attempt())
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    context
        .limits
        .jobs
        .retry_delays
        .get(index)
        .map(|delay| delay.0)
}

async fn summarize(context: &Context, job: &Job) -> Result<(), JobError> {
    // An attempt beyond the last one means that earlier attempts crashed the process.
    if usize::try_from(job.counted_attempt()).unwrap_or(usize::MAX)
        > context.limits.jobs.retry_delays.len() + 1
    {
        return Err(JobError::GiveUp("every attempt crashed its server".into()));
    }
    let summary = summary::make(context, job).await?;
    let body = SessionSummarized {
        status: SummaryStatus::Done,
        summary: Some(summary.text),
    };
    finish(context, job, body, summary.last_occurred_at).await?;
    Ok(())
}

/// The job's final failure: there will be no summary, but the session is completed.
async fn fail(context: &Context, job: &Job) -> Result<(), StoreError> {
    // The last event's time, which the failure must not come before.
    let before = Seq(job.last_seq.0.saturating_sub(1));
    let last = context
        .store
        .read(&job.user_id, &job.session_id, before, 1)
        .await;
    let not_before = match last {
        Ok(events) => events.first().map(|event| event.occurred_at),
        Err(error @ StoreError::Unavailable(_)) => return Err(error),
        // A session that cannot be read must not keep its job open.
        Err(StoreError::Conflict | StoreError::Corrupt(_)) => None,
    };
    let now = context.clock.now();
    let body = SessionSummarized {
        status: SummaryStatus::Failed,
        summary: None,
    };
    finish(context, job, body, not_before.unwrap_or(now)).await
}

async fn finish(
    context: &Context,
    job: &Job,
    body: SessionSummarized,
    not_before: Timestamp,
) -> Result<(), StoreError> {
    let now = stored_time(context.clock.now());
    let event = Event {
        seq: job.last_seq.next(),
        occurred_at: now.max(not_before),
        turn_id: None,
        body: EventBody::SessionSummarized(body),
    };
    let end = context.store.finish_job(job, &event).await?;
    tracing::info!(?end, attempt = job.attempt, "job.done");
    Ok(())
}

/// Renews the job's lease until another worker has the job.
async fn renew_lease(context: &Context, job: &Job) -> JobError {
    let limits = &context.limits.jobs;
    let mut renewal = interval(limits.lease_renewal_interval);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    renewal.tick().await;
    loop {
        renewal.tick().await;
        match context.store.renew_job(job, limits.lease).await {
            Ok(()) => {}
            Err(StoreError::Conflict) => return JobError::Lost,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "job.renewal_failed"
                );
            }
        }
    }
}
