//! Jobs: who may work on them, and how their results take effect.

use std::time::Duration;

use duologue_engine::store::{Job, JobClaim, JobEnd, JobRelease, ServerId, normalize::stored_text};
use duologue_protocol::{SessionId, SessionSummarized};
use sqlx::{SqliteConnection, query, query_scalar};

use super::{
    claims::in_seconds,
    failure::SqliteFailure,
    log::{NewEvents, conflict_unless, insert},
};
use crate::stored::{JobRow, corrupt, from_json, integer};

pub(super) async fn claim(
    connection: &mut SqliteConnection,
    worker: ServerId,
    lease_duration: Duration,
) -> Result<Option<Job>, SqliteFailure> {
    let json: Option<String> = query_scalar(concat!(
        "update session_jobs set worker = ?1, attempt = attempt + 1, due_at = ",
        in_seconds!("?2"),
        " where id = (
            select id from session_jobs where outcome is null and due_at <= ",
        in_seconds!("0"),
        " order by due_at, id limit 1
        ) returning json_object(
            'id', id, 'session_id', session_id, 'user_id', user_id, 'last_seq', last_seq,
            'worker', worker, 'attempt', attempt, 'uncounted', uncounted
        )"
    ))
    .bind(worker.0)
    .bind(lease_duration.as_secs_f64())
    .fetch_optional(connection)
    .await?;
    let row: Option<JobRow> = json.as_deref().map(from_json).transpose()?;
    Ok(row.map(Job::from))
}

/// The job that an ending has enqueued, if `claim` was its first one and its worker has it still.
pub(super) async fn first_claim(
    connection: &mut SqliteConnection,
    session: SessionId,
    last_seq: i64,
    claim: JobClaim,
) -> Result<Option<Job>, SqliteFailure> {
    let json: Option<String> = query_scalar(
        "select json_object(
            'id', id, 'session_id', session_id, 'user_id', user_id, 'last_seq', last_seq,
            'worker', worker, 'attempt', attempt, 'uncounted', uncounted
        ) from session_jobs
        where session_id = ?1 and last_seq = ?2 and worker = ?3 and attempt = 1
            and outcome is null",
    )
    .bind(session.as_str())
    .bind(last_seq)
    .bind(claim.worker.0)
    .fetch_optional(connection)
    .await?;
    let row: Option<JobRow> = json.as_deref().map(from_json).transpose()?;
    Ok(row.map(Job::from))
}

pub(super) async fn renew(
    connection: &mut SqliteConnection,
    job: Job,
    lease_duration: Duration,
) -> Result<(), SqliteFailure> {
    let renewed = query(concat!(
        "update session_jobs set due_at = ",
        in_seconds!("?4"),
        " where id = ?1 and worker = ?2 and attempt = ?3 and outcome is null"
    ))
    .bind(job.id)
    .bind(job.worker.0)
    .bind(job.attempt)
    .bind(lease_duration.as_secs_f64())
    .execute(connection)
    .await?;
    conflict_unless(renewed.rows_affected() == 1)
}

pub(super) async fn release(
    connection: &mut SqliteConnection,
    job: Job,
    release: JobRelease,
) -> Result<(), SqliteFailure> {
    let given_back = query(concat!(
        "update session_jobs set worker = null, last_error = ?5, uncounted = uncounted + ?6, due_at = ",
        in_seconds!("?4"),
        " where id = ?1 and worker = ?2 and attempt = ?3 and outcome is null"
    ))
    .bind(job.id)
    .bind(job.worker.0)
    .bind(job.attempt)
    .bind(release.delay.as_secs_f64())
    .bind(stored_text(&release.reason))
    .bind(i64::from(!release.is_counted))
    .execute(&mut *connection)
    .await?;
    if given_back.rows_affected() == 1 {
        return Ok(());
    }
    // Without a worker it was given back by this very attempt: a repetition.
    let repeated: bool = query_scalar(
        "select exists (
            select 1 from session_jobs
            where id = ?1 and worker is null and attempt = ?2 and outcome is null
        )",
    )
    .bind(job.id)
    .bind(job.attempt)
    .fetch_one(connection)
    .await?;
    conflict_unless(repeated)
}

pub(super) async fn finish(
    connection: &mut SqliteConnection,
    job: Job,
    event: NewEvents,
    result: SessionSummarized,
) -> Result<JobEnd, SqliteFailure> {
    let held: Option<Option<String>> = query_scalar(
        "select outcome from session_jobs where id = ?1 and worker = ?2 and attempt = ?3",
    )
    .bind(job.id)
    .bind(job.worker.0.as_str())
    .bind(job.attempt)
    .fetch_optional(&mut *connection)
    .await?;
    match held {
        None => conflict_unless(false)?,
        Some(Some(outcome)) => return job_end(&outcome),
        Some(None) => {}
    }
    let applied = apply(connection, &job, &event, &result).await?;
    let (end, outcome) = if applied {
        (JobEnd::Applied, "applied")
    } else {
        (JobEnd::Superseded, "superseded")
    };
    query(concat!(
        "update session_jobs set outcome = ?2, finished_at = ",
        in_seconds!("0"),
        " where id = ?1"
    ))
    .bind(job.id)
    .bind(outcome)
    .execute(connection)
    .await?;
    Ok(end)
}

/// Completes the session, unless it has gone on since the ending that the job is about.
async fn apply(
    connection: &mut SqliteConnection,
    job: &Job,
    event: &NewEvents,
    result: &SessionSummarized,
) -> Result<bool, SqliteFailure> {
    let epoch: Option<i64> = query_scalar(
        "update sessions
        set status = 'completed', summary = ?3, summary_status = ?4, last_seq = last_seq + 1
        where session_id = ?1 and status = 'ended' and last_seq = ?2
        returning epoch",
    )
    .bind(job.session_id.as_str())
    .bind(integer(job.last_seq.0))
    .bind(result.summary.as_deref().map(stored_text))
    .bind(result.status.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(epoch) = epoch else {
        return Ok(false);
    };
    insert(connection, job.session_id.as_str(), epoch, event).await?;
    Ok(true)
}

fn job_end(outcome: &str) -> Result<JobEnd, SqliteFailure> {
    match outcome {
        "applied" => Ok(JobEnd::Applied),
        "superseded" => Ok(JobEnd::Superseded),
        other => Err(corrupt(format!("a job ended as `{other}`")).into()),
    }
}
