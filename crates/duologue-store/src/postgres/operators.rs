//! The operator's view of a Postgres.
//!
//! It is that of the functions, except that many sessions are read by few queries. A function that is called for each
//! session costs Postgres many times what reading the rows does. What the functions see, plain queries see only as
//! the functions' owner; for any other role the functions do it.

use async_trait::async_trait;
use duologue_engine::store::{
    StoreError,
    operators::{
        JobRecord, Jobs, OperatorStore, ReadLimits, RetryOutcome, SessionRows, StoredEvent,
        StoredSession,
    },
};
use duologue_protocol::{Seq, SessionId};
use tokio::sync::OnceCell;

use super::{PostgresCaller, inspection};
use crate::functions::FunctionStore;

/// See the module.
pub(crate) struct PostgresOperatorStore {
    store: FunctionStore<PostgresCaller>,
    /// The schema of the tables, if plain queries see what the functions see.
    schema: OnceCell<Option<String>>,
}

impl PostgresOperatorStore {
    pub(super) fn new(store: FunctionStore<PostgresCaller>) -> Self {
        Self {
            store,
            schema: OnceCell::new(),
        }
    }

    async fn schema(&self) -> Result<Option<&str>, StoreError> {
        let read = || inspection::schema(self.store.caller());
        let schema = self.schema.get_or_try_init(read).await?;
        Ok(schema.as_deref())
    }
}

#[async_trait]
impl OperatorStore for PostgresOperatorStore {
    async fn session_ids(
        &self,
        after: Option<&SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.store.session_ids(after, limit).await
    }

    async fn stored_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError> {
        self.store.stored_session(session).await
    }

    async fn rows(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.store.rows(session, after, limit).await
    }

    async fn outlines(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        match self.schema().await? {
            Some(schema) => {
                inspection::outlines(self.store.caller(), schema, session, after, limit).await
            }
            None => self.store.outlines(session, after, limit).await,
        }
    }

    async fn stored_sessions(
        &self,
        sessions: &[SessionId],
        limits: ReadLimits,
    ) -> Result<Vec<SessionRows>, StoreError> {
        match self.schema().await? {
            Some(schema) => {
                inspection::stored_sessions(self.store.caller(), schema, sessions, limits).await
            }
            None => self.store.stored_sessions(sessions, limits).await,
        }
    }

    async fn jobs(
        &self,
        which: Jobs,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.store.jobs(which, after, limit).await
    }

    async fn retry_job(&self, job: i64) -> Result<Option<RetryOutcome>, StoreError> {
        self.store.retry_job(job).await
    }

    async fn restored(&self) -> Result<u64, StoreError> {
        self.store.restored().await
    }
}
