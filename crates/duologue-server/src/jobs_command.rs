//! `duologue jobs`: the summaries that are due, and those that failed, beside whatever server is
//! running.

use std::io::{self, Write};

use duologue_engine::store::{
    StoreError,
    inspect::{Inspect, JobRecord, JobState, Jobs, Retry},
};
use duologue_store::{OpenError, StoreConfig};

use crate::cli::{JobsCommand, WhichJobs};

/// Jobs that are read at a time.
const PAGE_JOBS: u32 = 500;

/// How much of an error is shown in the table, in characters. `--json` has all of it.
const ERROR_CHARS_MAX: usize = 120;

/// Why a command about jobs failed.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    /// The store did not answer.
    #[error("the store did not do it")]
    Store(#[from] StoreError),
    /// The answer could not be written.
    #[error("the answer could not be written")]
    Output(#[from] io::Error),
    /// The id is wrong.
    #[error("there is no job {0}; `duologue jobs list` shows those there are")]
    Unknown(i64),
}

/// Lists jobs, or has them tried again, and says what it did.
pub async fn run(
    config: &StoreConfig,
    command: JobsCommand,
    mut out: impl Write,
) -> Result<(), JobsError> {
    let store = duologue_store::inspect(config).await?;
    match command {
        JobsCommand::List { failed: true, json } => list(&*store, Jobs::Failed, json, out).await,
        JobsCommand::List { json, .. } => list(&*store, Jobs::All, json, out).await,
        JobsCommand::Retry(WhichJobs { job: Some(job), .. }) => {
            let retry = store.try_again(job).await?;
            let retry = retry.ok_or(JobsError::Unknown(job))?;
            Ok(writeln!(out, "{}", told(job, retry))?)
        }
        JobsCommand::Retry(_) => retry_failed(&*store, out).await,
    }
}

async fn list(
    store: &dyn Inspect,
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
        let none = match which {
            Jobs::All => "no session has ended yet, so there are no jobs",
            Jobs::Failed => "no job has failed",
        };
        writeln!(out, "{none}")?;
    }
    Ok(())
}

async fn retry_failed(store: &dyn Inspect, mut out: impl Write) -> Result<(), JobsError> {
    let mut after = 0;
    loop {
        let page = store.jobs(Jobs::Failed, after, PAGE_JOBS).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for job in page {
            // One that is gone by now needs nothing.
            if let Some(retry) = store.try_again(job.id).await? {
                writeln!(out, "{}", told(job.id, retry))?;
            }
        }
    }
    if after == 0 {
        writeln!(out, "no job has failed, so there is nothing to do")?;
    }
    Ok(())
}

fn told(job: i64, retry: Retry) -> String {
    match retry {
        Retry::Replaced(new) => format!("job {job} will be tried again, as job {new}"),
        Retry::DueNow => format!("job {job} was waiting, and is due now"),
        Retry::Running => format!("job {job} is being worked on; there is nothing to do"),
        Retry::Done => format!("job {job} is done; there is nothing to do"),
        Retry::Superseded => format!(
            "job {job} does not matter any more: its session has gone on, or a later job took its place"
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
    let attempts = job.attempt.to_string();
    let error = one_line(job.last_error.as_deref().unwrap_or("-"));
    row(&id, state, &attempts, &due, job.session_id.as_str(), &error)
}

fn row(id: &str, state: &str, attempts: &str, due: &str, session: &str, error: &str) -> String {
    format!("{id:<8} {state:<10} {attempts:<8} {due:<10} {session:<36} {error}")
}

/// Without line breaks and what else a terminal might obey.
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

    /// What a model's endpoint says must not take the terminal over.
    #[test]
    fn a_job_is_one_line_whatever_its_error_says() {
        let job = JobRecord {
            id: 7,
            session_id: SessionId::new("trip").unwrap(),
            user_id: UserId::new("alice").unwrap(),
            last_seq: Seq(9),
            state: JobState::Waiting,
            attempt: 2,
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
