//! `duologue verify`: holds all that is kept to the invariants, beside whatever server is running.
//!
//! It only reads. What breaks an invariant is one line of output; how far it is, and what it came
//! to, is for people and goes elsewhere.

use std::{
    io::{self, Write},
    time::Duration,
};

use duologue_engine::{
    store::{StoreError, inspect::Inspect},
    verify,
};
use duologue_store::{OpenError, StoreConfig};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

/// Sessions whose ids are read at a time.
const PAGE_SESSIONS: u32 = 1000;

/// Sessions that are read at once: enough to hide the way to the database, and few enough to leave
/// it to those whom it serves.
const AT_ONCE: usize = 4;

/// How often is said how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Sessions that were checked.
    pub sessions: u64,
    /// Those in which an invariant is broken.
    pub broken: u64,
    /// Breaches, all together.
    pub findings: u64,
}

/// Why it is not known whether all is well.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    /// The store did not answer.
    #[error("not everything was checked")]
    Store(#[from] StoreError),
    /// What was found could not be written.
    #[error("the findings could not be written")]
    Output(#[from] io::Error),
}

/// Checks every session there is. Findings go to `out`; how far it is goes to `progress`, if that is
/// given.
pub async fn run(
    config: &StoreConfig,
    mut out: impl Write,
    mut progress: Option<impl Write>,
) -> Result<Verdict, VerifyError> {
    let store = duologue_store::inspect(config).await?;
    let mut verdict = Verdict::default();
    let mut said_at = Instant::now();
    let mut after = None;
    loop {
        let page = store.session_ids(after.as_ref(), PAGE_SESSIONS).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        let mut checked = stream::iter(&page)
            .map(|session| verify::check(&*store as &dyn Inspect, session))
            .buffered(AT_ONCE);
        while let Some(violations) = checked.try_next().await? {
            verdict.sessions += 1;
            verdict.broken += u64::from(!violations.is_empty());
            verdict.findings += violations.len() as u64;
            for violation in violations {
                writeln!(out, "{violation}")?;
            }
            if let Some(progress) = &mut progress
                && said_at.elapsed() >= PROGRESS_INTERVAL
            {
                said_at = Instant::now();
                write!(progress, "\r{} sessions checked", verdict.sessions)?;
                progress.flush()?;
            }
        }
    }
    if let Some(progress) = &mut progress {
        // What is written next begins where the line does.
        write!(progress, "\r")?;
    }
    Ok(verdict)
}
