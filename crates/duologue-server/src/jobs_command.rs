//! `duologue jobs`: lists summary jobs and retries failed ones. May run while a server is running.

use std::io::{self, Write};

use duologue_engine::store::{
    StoreError,
    operators::{JobRecord, JobState, Jobs, OperatorStore, RetryOutcome},
};
use duologue_store::{OpenError, StoreConfig};

use crate::cli::{JobSelection, JobsCommand};

/// Jobs that are read in one query.
const PAGE_JOBS: u32 = 500;

/// Characters of an error that the table shows. `--json` has all of it.
const ERROR_CHARS_MAX: usize = 120;

/// Why a command about jobs failed.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    /// The store is unavailable, or refused the operation.
    #[error("storage operation failed")]
    Store(#[from] StoreError),
    /// The output could not be written.
    #[error("the output could not be written")]
    Output(#[from] io::Error),
    /// There is no job with this number.
    #[error("there is no job {0}; `duologue jobs list` lists all jobs")]
    Unknown(i64),
}

/// Lists or retries jobs, and writes the result to `out`.
pub async fn run(
    config: &StoreConfig,
    command: JobsCommand,
    mut out: impl Write,
) -> Result<(), JobsError> {
    let store = duologue_store::open_for_operators(config).await?;
    match command {
        JobsCommand::List { failed: true, json } => list(&*store, Jobs::Failed, json, out).await,
        JobsCommand::List { json, .. } => list(&*store, Jobs::All, json, out).await,
        JobsCommand::Retry(JobSelection { job: Some(job), .. }) => {
            let retry = store.retry_job(job).await?;
            let retry = retry.ok_or(JobsError::Unknown(job))?;
            Ok(writeln!(out, "{}", retry_message(job, retry))?)
        }
        JobsCommand::Retry(_) => retry_failed(&*store, out).await,
    }
}

async fn list(
    store: &dyn OperatorStore,
    which: Jobs,
    json: bool,
    mut out: impl Write,
) -> Result<(), JobsError> {
    let mut after = 0;
    loop {
        let page = store.jobs(which, after, PAGE_JOBS).await?;
        let Some(last) = page.last() else { break };
        if after == 0 && !json {
            writeln!(
                out,
                "{}",
                row("JOB", "STATE", "ATTEMPTS", "DUE", "SESSION", "LAST ERROR")
            )?;
        }
        after = last.id;
        for job in &page {
            if json {
                let job = serde_json::to_string(job).expect("a job is JSON");
                writeln!(out, "{job}")?;
            } else {
                writeln!(out, "{}", line(job))?;
            }
        }
    }
    if after == 0 && !json {
        let message = match which {
            Jobs::All => "no jobs: no session has ended yet",
            Jobs::Failed => "no failed jobs",
        };
        writeln!(out, "{message}")?;
    }
    Ok(())
}

async fn retry_failed(store: &dyn OperatorStore, mut out: impl Write) -> Result<(), JobsError> {
    let mut after = 0;
    loop {
        let page = store.jobs(Jobs::Failed, after, PAGE_JOBS).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for job in page {
            // A job that has been deleted meanwhile needs no retry.
            if let Some(retry) = store.retry_job(job.id).await? {
                writeln!(out, "{}", retry_message(job.id, retry))?;
            }
        }
    }
    if after == 0 {
        writeln!(out, "no failed jobs; nothing to do")?;
    }
    Ok(())
}

fn retry_message(job: i64, retry: RetryOutcome) -> String {
    match retry {
        RetryOutcome::Replaced(new) => format!("job {job} will be retried as job {new}"),
        RetryOutcome::DueNow => format!("job {job} was waiting and is due now"),
        RetryOutcome::Running => format!("job {job} is running; nothing to do"),
        RetryOutcome::Done => format!("job {job} is done; nothing to do"),
        RetryOutcome::Superseded => format!(
            "job {job} is obsolete: its session was continued, or a later job has replaced it"
        ),
    }
}

fn line(job: &JobRecord) -> String {
    let state = match job.state {
        JobState::Waiting => "waiting",
        JobState::Running => "running",
        JobState::Done => "done",
        JobState::Failed => "failed",
        JobState::Superseded => "superseded",
    };
    let due = match (job.state, job.due_in.as_secs()) {
        (JobState::Waiting, 0) => "now".to_owned(),
        (JobState::Waiting, seconds) => format!("in {seconds} s"),
        _ => "-".to_owned(),
    };
    let id = job.id.to_string();
    let attempts = job.counted_attempts().to_string();
    let error = one_line(job.last_error.as_deref().unwrap_or("-"));
    row(&id, state, &attempts, &due, job.session_id.as_str(), &error)
}

fn row(id: &str, state: &str, attempts: &str, due: &str, session: &str, error: &str) -> String {
    format!("{id:<8} {state:<10} {attempts:<8} {due:<10} {session:<36} {error}")
}

/// Without line breaks and other control characters, which a terminal would interpret.
fn one_line(text: &str) -> String {
    let signs = text
        .chars()
        .map(|sign| if sign.is_control() { ' ' } else { sign });
    signs.take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use duologue_protocol::{Seq, SessionId, UserId};

    use super::*;

    /// An error text of a model's endpoint must not control the terminal.
    #[test]
    fn a_job_is_one_line_whatever_its_error_contains() {
        let job = JobRecord {
            id: 7,
            session_id: SessionId::new("trip").unwrap(),
            user_id: UserId::new("alice").unwrap(),
            last_seq: Seq(9),
            state: JobState::Waiting,
            attempt: 2,
            uncounted: 0,
            worker: None,
            due_in: Duration::from_secs(90),
            outcome: None,
            last_error: Some(format!("two\nlines \u{1b}[31m{}", "x".repeat(500))),
        };
        let line = line(&job);
        assert!(
            line.starts_with("7        waiting    2        in 90 s "),
            "{line}"
        );
        assert!(!line.contains(char::is_control), "{line}");
        assert!(line.len() < 220, "{line}");
    }
}
