//! The operator's view of Postgres.

use async_trait::async_trait;
use duologue_engine::store::{
    StoreError,
    operators::{JobRecord, Jobs, OperatorStore, RetryOutcome, StoredEvent, StoredSession},
};
use duologue_protocol::{Seq, SessionId};
use sqlx::query_scalar;

use super::PostgresStore;
use crate::{
    functions::rows,
    stored::{HeadRow, StoredEventRow, integer},
};

#[async_trait]
impl OperatorStore for PostgresStore {
    async fn session_ids(
        &self,
        after: Option<&SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let call = || {
            query_scalar("select duologue_inspect_sessions($1, $2)::text")
                .bind(after.map(SessionId::as_str))
                .bind(rows(limit))
        };
        self.calls.call(call).await
    }

    async fn stored_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError> {
        let call = || query_scalar("select duologue_inspect_head($1)::text").bind(session.as_str());
        let row: Option<HeadRow> = self.calls.call(call).await?;
        Ok(row.map(StoredSession::from))
    }

    async fn rows(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let call = || {
            query_scalar("select duologue_inspect_rows($1, $2, $3)::text")
                .bind(session.as_str())
                .bind(integer(after.0))
                .bind(rows(limit))
        };
        let rows: Vec<StoredEventRow> = self.calls.call(call).await?;
        Ok(rows.into_iter().map(StoredEvent::from).collect())
    }

    async fn jobs(
        &self,
        which: Jobs,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let call = || {
            query_scalar("select duologue_inspect_jobs($1, $2, $3)::text")
                .bind(which == Jobs::Failed)
                .bind(after)
                .bind(rows(limit))
        };
        self.calls.call(call).await
    }

    async fn retry_job(&self, job: i64) -> Result<Option<RetryOutcome>, StoreError> {
        let call = || query_scalar("select duologue_try_job_again($1)::text").bind(job);
        self.calls.call(call).await
    }

    async fn restored(&self) -> Result<u64, StoreError> {
        self.calls
            .long_call("select duologue_restored()::text")
            .await
    }
}
