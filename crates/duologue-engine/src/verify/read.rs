//! Reads stored sessions while others write to them.

use std::pin::pin;

use duologue_protocol::{Seq, SessionId};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    findings::{Findings, Violation},
    invariant::Invariant,
    snapshot::SessionSnapshot,
    violations,
};
use crate::store::{
    StoreError,
    operators::{OperatorStore, SessionRows, StoredEvent, StoredSession},
};

/// Rows of a log that are read in one query.
const PAGE_ROWS: u32 = 1000;

/// Queries at a time for a long log.
const CONCURRENT_PAGES: usize = 4;

/// Rows for which there is room in advance.
const RESERVED_ROWS_MAX: u64 = 1 << 20;

/// Reads all that is kept of a session, as it was at one moment. `None`: it is not there (any more).
///
/// The head is of one moment, and says where the log ended then. What stands in a log before its
/// end never changes, so it may be read later.
pub async fn read(
    store: &dyn OperatorStore,
    session: &SessionId,
) -> Result<Option<SessionSnapshot>, StoreError> {
    let Some(head) = store.stored_session(session).await? else {
        return Ok(None);
    };
    let pages = |after| store.rows(session, after, PAGE_ROWS);
    complete(head, Vec::new(), pages).await.map(Some)
}

/// Reads what is missing from a log.
async fn complete<P: Future<Output = Result<Vec<StoredEvent>, StoreError>>>(
    head: StoredSession,
    mut log: Vec<StoredEvent>,
    page_after: impl Fn(Seq) -> P,
) -> Result<SessionSnapshot, StoreError> {
    let mut after = log.last().map_or(Seq::ZERO, |row| row.seq);
    let rows = head
        .log_end
        .0
        .saturating_sub(after.0)
        .min(RESERVED_ROWS_MAX);
    log.reserve_exact(usize::try_from(rows).unwrap_or(0));
    let mut concurrent_pages = CONCURRENT_PAGES;
    'log: while after < head.log_end {
        // Where each page begins if the one before it is full and nothing is missing.
        let starts = (after.0..head.log_end.0).step_by(PAGE_ROWS as usize);
        let pages = stream::iter(starts.map(Seq))
            .map(async |start| Ok::<_, StoreError>((start, page_after(start).await?)))
            .buffered(concurrent_pages);
        let mut pages = pin!(pages);
        while let Some((start, page)) = pages.try_next().await? {
            if page.is_empty() && start == after {
                break 'log;
            }
            if start > after {
                // The page before it was not full, though the log goes on.
                concurrent_pages = 1;
                break;
            }
            let end = page.last().map_or(after, |row| row.seq);
            // If events are missing, the page before it has some of these rows.
            let new = page.into_iter().filter(|row| row.seq > after);
            log.extend(new.filter(|row| row.seq <= head.log_end));
            after = after.max(end);
            if after.0 > start.0 + u64::from(PAGE_ROWS) {
                // So many are missing that the next pages may be empty.
                break;
            }
        }
    }
    Ok(SessionSnapshot { head, log })
}

/// Checks a session that may be live.
///
/// One that is deleted meanwhile would seem to have lost its log; so what looks broken is read once
/// more, and only what is still broken is reported.
pub async fn check(
    store: &dyn OperatorStore,
    session: &SessionId,
) -> Result<Vec<Violation>, StoreError> {
    if look(store, session).await?.is_empty() {
        return Ok(Vec::new());
    }
    look(store, session).await
}

/// The same for a session that has been read with others.
pub async fn check_rows(
    store: &dyn OperatorStore,
    session: SessionRows,
) -> Result<Vec<Violation>, StoreError> {
    let SessionRows {
        session_id,
        head,
        log,
    } = session;
    if let Some(head) = head {
        let pages = |after| store.outlines(&session_id, after, PAGE_ROWS);
        let snapshot = complete(head, log, pages).await?;
        if violations(&snapshot).is_empty() {
            return Ok(Vec::new());
        }
    }
    look(store, &session_id).await
}

async fn look(
    store: &dyn OperatorStore,
    session: &SessionId,
) -> Result<Vec<Violation>, StoreError> {
    match read(store, session).await {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(snapshot)) => Ok(violations(&snapshot)),
        Err(StoreError::Corrupt(cause)) => {
            let mut findings = Findings {
                session_id: session,
                found: Vec::new(),
            };
            findings.add(
                Invariant::Readable,
                format!("its row or one of its jobs cannot be read: {cause}"),
            );
            Ok(findings.found)
        }
        Err(error) => Err(error),
    }
}
