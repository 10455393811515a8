//! `duologue verify`: checks the stored sessions against the invariants. May run while a server is
//! running.
//!
//! It only reads. Each violation is one line of output; progress and totals are written elsewhere.

use std::{
    io::{self, Write},
    time::Duration,
};

use duologue_engine::{
    store::{
        StoreError,
        operators::{OperatorStore, ReadLimits},
    },
    verify::{self, Violation},
};
use duologue_protocol::SessionId;
use duologue_store::{OpenError, StoreConfig};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

/// Session ids that are read in one query.
const PAGE_SESSIONS: u32 = 1000;

/// Sessions that are read in one query.
const CHUNK_SESSIONS: usize = 50;

/// What of their logs is read in one query. Memory does not grow with what is stored.
const CHUNK_LIMITS: ReadLimits = ReadLimits {
    rows: 2_000,
    bytes: 2 << 20,
};

/// Queries at a time: enough to hide the latency of the database, and few enough not to slow down the
/// servers that use it.
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
    out: impl Write,
    progress: Option<impl Write>,
) -> Result<Verification, VerifyError> {
    let store = duologue_store::open_for_operators(config).await?;
    let mut report = Report {
        out,
        progress,
        written_at: Instant::now(),
        result: Verification::default(),
    };
    let mut after = None;
    loop {
        let page = store.session_ids(after.as_ref(), PAGE_SESSIONS).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        let mut checked = stream::iter(page.chunks(CHUNK_SESSIONS))
            .map(|sessions| check_all(&*store, sessions))
            .buffered(CONCURRENT_READS);
        while let Some(chunk) = checked.try_next().await? {
            for violations in chunk {
                report.add(&violations)?;
            }
        }
    }
    report.finish()
}

/// Checks these sessions, and returns what is wrong with each.
async fn check_all(
    store: &dyn OperatorStore,
    mut sessions: &[SessionId],
) -> Result<Vec<Vec<Violation>>, StoreError> {
    let mut found = Vec::with_capacity(sessions.len());
    while !sessions.is_empty() {
        let read = store.stored_sessions(sessions, CHUNK_LIMITS).await?;
        sessions = sessions.get(read.len().max(1)..).unwrap_or_default();
        for session in read {
            found.push(verify::check_rows(store, session).await?);
        }
    }
    Ok(found)
}

/// What was found so far, and where it is written.
struct Report<O, P> {
    out: O,
    progress: Option<P>,
    written_at: Instant,
    result: Verification,
}

impl<O: Write, P: Write> Report<O, P> {
    /// Adds what was found in one session.
    fn add(&mut self, violations: &[Violation]) -> io::Result<()> {
        self.result.sessions += 1;
        self.result.violating += u64::from(!violations.is_empty());
        self.result.violations += violations.len() as u64;
        for violation in violations {
            writeln!(self.out, "{violation}")?;
        }
        if let Some(progress) = &mut self.progress
            && self.written_at.elapsed() >= PROGRESS_INTERVAL
        {
            self.written_at = Instant::now();
            write!(progress, "\r{} sessions checked", self.result.sessions)?;
            progress.flush()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Verification, VerifyError> {
        if let Some(progress) = &mut self.progress {
            // The next output overwrites the line.
            write!(progress, "\r")?;
        }
        Ok(self.result)
    }
}
