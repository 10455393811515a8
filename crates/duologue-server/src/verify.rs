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
        operators::{OperatorStore, PageLimits, PagedSession},
    },
    verify::{self, Violation},
};
use duologue_store::{OpenError, StoreConfig};
use tokio::time::Instant;

/// What is read in one query: enough to hide the latency of the database, and bounded, so that memory does not
/// grow with what is stored.
const PAGE: PageLimits = PageLimits {
    sessions: 250,
    rows: 5_000,
    bytes: 4 << 20,
};

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
    let mut page = store.stored_page(None, PAGE).await?;
    while let Some(last) = page.last() {
        let after = last.session_id.clone();
        // The next page is read while this one is checked.
        let next = store.stored_page(Some(&after), PAGE);
        let (next, checked) = tokio::join!(next, check_page(&*store, page, &mut report));
        checked?;
        page = next?;
    }
    report.finish()
}

async fn check_page(
    store: &dyn OperatorStore,
    page: Vec<PagedSession>,
    report: &mut Report<impl Write, impl Write>,
) -> Result<(), VerifyError> {
    for session in page {
        let violations = verify::check_paged(store, session).await?;
        report.add(&violations)?;
    }
    Ok(())
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
