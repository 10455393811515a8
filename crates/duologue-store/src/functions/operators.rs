//! The operator's view of the store.

use async_trait::async_trait;
use duologue_engine::store::{
    StoreError,
    operators::{JobRecord, Jobs, OperatorStore, RetryOutcome, StoredEvent, StoredSession},
};
use duologue_protocol::{Seq, SessionId};

use super::{
    call::{Call, FunctionCaller, Lane},
    store::{FunctionStore, rows},
};
use crate::stored::{HeadRow, StoredEventRow};

#[async_trait]
impl<C: FunctionCaller> OperatorStore for FunctionStore<C> {
    async fn session_ids(
        &self,
        after: Option<&SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let call = Call::new("duologue_inspect_sessions");
        let call = match after {
            Some(after) => call.text("after_session", after.as_str()),
            None => call.plain("after_session", ()),
        };
        self.call(call.plain("at_most", rows(limit))).await
    }

    async fn stored_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError> {
        let call = Call::new("duologue_inspect_head").text("for_session", session.as_str());
        let row: Option<HeadRow> = self.call(call).await?;
        Ok(row.map(StoredSession::from))
    }

    async fn rows(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let page = self.page(limit, |limit| {
            Call::new("duologue_inspect_rows")
                .text("for_session", session.as_str())
                .plain("after_seq", after)
                .plain("at_most", rows(limit))
        });
        let rows: Vec<StoredEventRow> = page.await?;
        Ok(rows.into_iter().map(StoredEvent::from).collect())
    }

    async fn jobs(
        &self,
        which: Jobs,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let call = Call::new("duologue_inspect_jobs")
            .plain("only_failed", which == Jobs::Failed)
            .plain("after_job", after)
            .plain("at_most", rows(limit));
        self.call(call).await
    }

    async fn retry_job(&self, job: i64) -> Result<Option<RetryOutcome>, StoreError> {
        let call = Call::new("duologue_try_job_again").plain("of_job", job);
        self.call(call).await
    }

    async fn restored(&self) -> Result<u64, StoreError> {
        self.call(Call::new("duologue_restored").on(Lane::Long))
            .await
    }
}
