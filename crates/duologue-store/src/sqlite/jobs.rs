//! Jobs: who may work on them, and how their results take effect.

use std::time::Duration;

use duologue_engine::store::{Job, JobClaim, JobEnd, JobRelease, ServerId, normalize::stored_text};
use duologue_protocol::{Seq, SessionId, SessionSummarized};
use rusqlite::{Connection, OptionalExtension as _, Params, Statement};

use super::{
    claims::in_seconds,
    failure::SqliteFailure,
    log::{NewEvents, conflict_unless, insert},
};
use crate::stored::{JobRow, corrupt, from_json, integer};

/// A job's row as its worker needs it, as JSON.
macro_rules! claimed_job_json {
    () => {
        "json_object(
            'id', id, 'session_id', session_id, 'user_id', user_id, 'last_seq', last_seq,
            'worker', worker, 'attempt', attempt, 'uncounted', uncounted
        )"
    };
}

pub(super) fn claim(
    connection: &Connection,
    worker: &ServerId,
    lease_duration: Duration,
) -> Result<Option<Job>, SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
        "update session_jobs set worker = ?1, attempt = attempt + 1, due_at = ",
        in_seconds!("?2"),
        " where id = (
            select id from session_jobs where outcome is null and due_at <= ",
        in_seconds!("0"),
        " order by due_at, id limit 1
        ) returning ",
        claimed_job_json!()
    ))?;
    claimed_job(&mut statement, (&*worker.0, lease_duration.as_secs_f64()))
}

fn claimed_job(
    statement: &mut Statement<'_>,
    parameters: impl Params,
) -> Result<Option<Job>, SqliteFailure> {
    let json: Option<String> = statement
        .query_row(parameters, |row| row.get(0))
        .optional()?;
    let row: Option<JobRow> = json.as_deref().map(from_json).transpose()?;
    Ok(row.map(Job::from))
}

/// The job that an ending has enqueued, if `claim` was its first one and its worker has it still.
pub(super) fn first_claim(
    connection: &Connection,
    session: &SessionId,
    last_seq: Seq,
    claim: &JobClaim,
) -> Result<Option<Job>, SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
        "select ",
        claimed_job_json!(),
        " from session_jobs
        where session_id = ?1 and last_seq = ?2 and worker = ?3 and attempt = 1
            and outcome is null"
    ))?;
    let named = (session.as_str(), integer(last_seq.0), &*claim.worker.0);
    claimed_job(&mut statement, named)
}

pub(super) fn renew(
    connection: &Connection,
    job: &Job,
    lease_duration: Duration,
) -> Result<(), SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
        "update session_jobs set due_at = ",
        in_seconds!("?4"),
        " where id = ?1 and worker = ?2 and attempt = ?3 and outcome is null"
    ))?;
    let lease = lease_duration.as_secs_f64();
    let renewed = statement.execute((job.id, &*job.worker.0, job.attempt, lease))?;
    conflict_unless(renewed == 1)
}

pub(super) fn release(
    connection: &Connection,
    job: &Job,
    release: &JobRelease,
) -> Result<(), SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
        "update session_jobs set worker = null, last_error = ?5, uncounted = uncounted + ?6, due_at = ",
        in_seconds!("?4"),
        " where id = ?1 and worker = ?2 and attempt = ?3 and outcome is null"
    ))?;
    let released = statement.execute((
        job.id,
        &*job.worker.0,
        job.attempt,
        release.delay.as_secs_f64(),
        stored_text(&release.reason),
        !release.is_counted,
    ))?;
    if released == 1 {
        return Ok(());
    }
    // Without a worker it was given back by this very attempt: a repetition.
    let mut statement = connection.prepare_cached(
        "select exists (
            select 1 from session_jobs
            where id = ?1 and worker is null and attempt = ?2 and outcome is null
        )",
    )?;
    let repeated = statement.query_row((job.id, job.attempt), |row| row.get(0))?;
    conflict_unless(repeated)
}

pub(super) fn finish(
    connection: &Connection,
    job: &Job,
    event: &NewEvents,
    result: &SessionSummarized,
) -> Result<JobEnd, SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "select outcome from session_jobs where id = ?1 and worker = ?2 and attempt = ?3",
    )?;
    let held: Option<Option<String>> = statement
        .query_row((job.id, &*job.worker.0, job.attempt), |row| row.get(0))
        .optional()?;
    match held {
        None => conflict_unless(false)?,
        Some(Some(outcome)) => return job_end(&outcome),
        Some(None) => {}
    }
    let (end, outcome) = if apply(connection, job, event, result)? {
        (JobEnd::Applied, "applied")
    } else {
        (JobEnd::Superseded, "superseded")
    };
    let mut statement = connection.prepare_cached(concat!(
        "update session_jobs set outcome = ?2, finished_at = ",
        in_seconds!("0"),
        " where id = ?1"
    ))?;
    statement.execute((job.id, outcome))?;
    Ok(end)
}

/// Completes the session, unless it has gone on since the ending that the job is about.
fn apply(
    connection: &Connection,
    job: &Job,
    event: &NewEvents,
    result: &SessionSummarized,
) -> Result<bool, SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "update sessions
        set status = 'completed', summary = ?3, summary_status = ?4, last_seq = last_seq + 1
        where session_id = ?1 and status = 'ended' and last_seq = ?2
        returning epoch",
    )?;
    let completed = (
        job.session_id.as_str(),
        integer(job.last_seq.0),
        result.summary.as_deref().map(stored_text),
        result.status.as_str(),
    );
    let epoch: Option<i64> = statement
        .query_row(completed, |row| row.get(0))
        .optional()?;
    let Some(epoch) = epoch else {
        return Ok(false);
    };
    insert(connection, job.session_id.as_str(), epoch, event)?;
    Ok(true)
}

fn job_end(outcome: &str) -> Result<JobEnd, SqliteFailure> {
    match outcome {
        "applied" => Ok(JobEnd::Applied),
        "superseded" => Ok(JobEnd::Superseded),
        other => Err(corrupt(format!("a job ended as `{other}`")).into()),
    }
}
