//! `duologue verify`: checks the stored sessions against the invariants. May run while a server is
//! running.
//!
//! It only reads. Each violation is one line of output; progress and totals are written elsewhere.

use std::{
    io::{self, Write},
    panic,
    pin::pin,
    sync::Arc,
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
use futures_util::{Stream, StreamExt, stream};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Session ids that are read in one query.
const PAGE_SESSIONS: u32 = 1000;

/// Sessions that are read in one query.
const CHUNK_SESSIONS: usize = 50;

/// What of their logs is read in one query. Memory does not grow with what is stored.
const CHUNK_LIMITS: ReadLimits = ReadLimits {
    rows: 2_000,
    bytes: 2 << 20,
};

/// Chunks that are read and checked at a time, each in a task of its own: enough to hide the latency of the
/// database, and few enough not to slow down the servers that use it.
const CONCURRENT_CHUNKS: usize = 4;

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
    let tasks = TaskTracker::new();
    let checked = chunks(&*store)
        .map(|chunk| async {
            let check = check_all(Arc::clone(&store), chunk?);
            let checked = tasks.spawn(check).await;
            checked.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
        })
        .buffered(CONCURRENT_CHUNKS);
    let mut checked = pin!(checked);
    while let Some(chunk) = checked.next().await {
        for violations in chunk? {
            report.add(&violations)?;
        }
    }
    report.finish()
}

/// The ids of all sessions.
fn chunks(store: &dyn OperatorStore) -> impl Stream<Item = Result<Vec<SessionId>, StoreError>> {
    let pages = stream::try_unfold(None, async |after: Option<SessionId>| {
        let page = store.session_ids(after.as_ref(), PAGE_SESSIONS).await?;
        Ok(page.last().cloned().map(|last| (page, Some(last))))
    });
    pages.flat_map(|page| {
        let chunks = match page {
            Ok(page) => page
                .chunks(CHUNK_SESSIONS)
                .map(|chunk| Ok(chunk.to_vec()))
                .collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(chunks)
    })
}

/// Checks these sessions, and returns what is wrong with each.
async fn check_all(
    store: Arc<dyn OperatorStore>,
    sessions: Vec<SessionId>,
) -> Result<Vec<Vec<Violation>>, StoreError> {
    let mut found = Vec::with_capacity(sessions.len());
    let mut sessions = &*sessions;
    while !sessions.is_empty() {
        let read = store.stored_sessions(sessions, CHUNK_LIMITS).await?;
        sessions = sessions.get(read.len().max(1)..).unwrap_or_default();
        for session in read {
            found.push(verify::check_rows(&*store, session).await?);
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
