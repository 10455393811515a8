//! The operator's view of a Supabase project.

use async_trait::async_trait;
use duologue_engine::store::{
    StoreError,
    operators::{JobRecord, Jobs, OperatorStore, RetryOutcome, StoredEvent, StoredSession},
};
use duologue_protocol::{Seq, SessionId};

use super::{
    SupabaseStore,
    calls::{Call, Repetition},
    failure::RestFailure,
};
use crate::{
    functions::rows,
    stored::{HeadRow, StoredEventRow},
};

#[async_trait]
impl OperatorStore for SupabaseStore {
    async fn session_ids(
        &self,
        after: Option<&SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let call = Call::new("duologue_inspect_sessions", Repetition::Harmless)
            .with("after_session", after)
            .with("at_most", rows(limit));
        self.calls.call(call).await
    }

    async fn stored_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError> {
        let call =
            Call::new("duologue_inspect_head", Repetition::Harmless).with("for_session", session);
        let row: Option<HeadRow> = self.calls.call(call).await?;
        Ok(row.map(StoredSession::from))
    }

    async fn rows(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let mut limit = limit;
        loop {
            let call = Call::new("duologue_inspect_rows", Repetition::Harmless)
                .with("for_session", session)
                .with("after_seq", after)
                .with("at_most", rows(limit));
            match self.calls.try_call::<Vec<StoredEventRow>>(call).await {
                Ok(rows) => return Ok(rows.into_iter().map(StoredEvent::from).collect()),
                // As when a user reads: a page that is too large is made smaller.
                Err(RestFailure::TooLarge) if limit > 1 => limit /= 2,
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    async fn jobs(
        &self,
        which: Jobs,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let call = Call::new("duologue_inspect_jobs", Repetition::Harmless)
            .with("only_failed", which == Jobs::Failed)
            .with("after_job", after)
            .with("at_most", rows(limit));
        self.calls.call(call).await
    }

    async fn retry_job(&self, job: i64) -> Result<Option<RetryOutcome>, StoreError> {
        let call = Call::new("duologue_try_job_again", Repetition::Harmless).with("of_job", job);
        self.calls.call(call).await
    }

    async fn restored(&self) -> Result<u64, StoreError> {
        let call = Call::new("duologue_restored", Repetition::Harmless);
        self.calls.call(call).await
    }
}
