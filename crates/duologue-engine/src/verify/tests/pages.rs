//! Long logs are read in several pages at a time, whatever is missing from them.

use std::iter;

use async_trait::async_trait;
use duologue_protocol::{Seq, SessionId};
use serde_json::json;

use super::sound::{row, session};
use crate::{
    store::{
        StoreError,
        operators::{JobRecord, Jobs, OperatorStore, RetryOutcome, StoredEvent, StoredSession},
    },
    verify::read,
};

/// One session whose log has these numbers.
struct OneLog {
    head: StoredSession,
    log: Vec<StoredEvent>,
    /// Rows in a page at most, however many are asked for.
    page_max: usize,
}

impl OneLog {
    fn new(seqs: impl Iterator<Item = u64>, log_end: u64, page_max: usize) -> Self {
        let mut head = session().head;
        head.log_end = Seq(log_end);
        let said = |seq| StoredEvent {
            seq: Seq(seq),
            ..row(1, 1, "user_message", json!({"text": "on and on"}))
        };
        Self {
            head,
            log: seqs.map(said).collect(),
            page_max,
        }
    }
}

#[async_trait]
impl OperatorStore for OneLog {
    async fn session_ids(
        &self,
        _after: Option<&SessionId>,
        _limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        unreachable!("the session is named")
    }

    async fn stored_session(
        &self,
        _session: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError> {
        Ok(Some(self.head.clone()))
    }

    async fn rows(
        &self,
        _session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = self.log.iter().filter(|row| row.seq > after);
        let rows = rows.take(self.page_max.min(limit as usize));
        Ok(rows.cloned().collect())
    }

    async fn jobs(
        &self,
        _which: Jobs,
        _after: i64,
        _limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        unreachable!("only logs are read")
    }

    async fn retry_job(&self, _job: i64) -> Result<Option<RetryOutcome>, StoreError> {
        unreachable!("only logs are read")
    }

    async fn restored(&self) -> Result<u64, StoreError> {
        unreachable!("only logs are read")
    }
}

#[tokio::test]
async fn a_long_log_is_read_whole_and_once() {
    const FULL: usize = usize::MAX;
    let whole = || 1..=5_500;
    for (what, store) in [
        ("whole", OneLog::new(whole(), 5_500, FULL)),
        ("in short pages", OneLog::new(whole(), 5_500, 700)),
        ("longer than its end", OneLog::new(whole(), 4_321, FULL)),
        (
            "a gap within a page",
            OneLog::new(whole().filter(|seq| seq % 100 != 7), 5_500, FULL),
        ),
        (
            "a gap of pages",
            OneLog::new((1..=10).chain(4_900..=5_500), 5_500, FULL),
        ),
        (
            "a gap without end",
            OneLog::new((1..=10).chain([1 << 60]), 1 << 60, FULL),
        ),
        (
            "its end is missing",
            OneLog::new((1..=10).chain([6_000]), 5_500, FULL),
        ),
        ("all is missing", OneLog::new(iter::empty(), 5_500, FULL)),
    ] {
        let expected = store.log.iter().filter(|row| row.seq <= store.head.log_end);
        let expected: Vec<_> = expected.map(|row| row.seq).collect();
        let id = SessionId::new("s").unwrap();
        let read = read(&store, &id).await.unwrap().unwrap();
        let seqs: Vec<_> = read.log.iter().map(|row| row.seq).collect();
        assert!(
            seqs == expected,
            "{what}: {} of {} rows",
            seqs.len(),
            expected.len()
        );
    }
}
