//! `duologue verify`: checks the stored sessions against the invariants. May run while a server is
//! running.
//!
//! It only reads. Each violation is one line of output; progress and totals are written elsewhere.

use std::{
    io::{self, Write},
    time::Duration,
};

use duologue_engine::{
    store::{StoreError, operators::OperatorStore},
    verify,
};
use duologue_store::{OpenError, StoreConfig};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

/// Session ids that are read in one query.
const PAGE_SESSIONS: u32 = 1000;

/// Sessions that are read concurrently: enough to hide the latency of the database, and few enough not
/// to slow down the servers that use it.
const CONCURRENT_READS: usize = 4;

/// How often the progress is written.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The result of a verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Sessions that were checked.
    pub sessions: u64,
    /// Sessions that violate an invariant.
    pub violating: u64,
    /// Violations in all sessions.
    pub violations: u64,
}

/// Why the verification is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    /// The store is unavailable.
    #[error("not all sessions were checked")]
    Store(#[from] StoreError),
    /// The output could not be written.
    #[error("the violations could not be written")]
    Output(#[from] io::Error),
}

/// Checks all sessions. Violations are written to `out`, the progress to `progress` if that is given.
pub async fn run(
    config: &StoreConfig,
    mut out: impl Write,
    mut progress: Option<impl Write>,
) -> Result<Verification, VerifyError> {
    let store = duologue_store::open_for_operators(config).await?;
    let mut result = Verification::default();
    let mut written_at = Instant::now();
    let mut after = None;
    loop {
        let page = store.session_ids(after.as_ref(), PAGE_SESSIONS).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        let mut checked = stream::iter(&page)
            .map(|session| verify::check(&*store as &dyn OperatorStore, session))
            .buffered(CONCURRENT_READS);
        while let Some(violations) = checked.try_next().await? {
            result.sessions += 1;
            result.violating += u64::from(!violations.is_empty());
            result.violations += violations.len() as u64;
            for violation in violations {
                writeln!(out, "{violation}")?;
            }
            if let Some(progress) = &mut progress
                && written_at.elapsed() >= PROGRESS_INTERVAL
            {
                written_at = Instant::now();
                write!(progress, "\r{} sessions checked", result.sessions)?;
                progress.flush()?;
            }
        }
    }
    if let Some(progress) = &mut progress {
        // The next output overwrites the line.
        write!(progress, "\r")?;
    }
    Ok(result)
}
