//! The store in Postgres: for several servers at once.
//!
//! Every operation is one call of a SQL function (`migrations/postgres`) that answers in JSON; how
//! calls are made is `postgres::calls`. Nothing here depends on the state of a connection, so a
//! pooler that hands out another one for each transaction may stand in between.

mod calls;
mod failure;
mod operators;
mod startup;

use std::time::Duration;

use async_trait::async_trait;
use duologue_engine::store::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, normalize::stored_text,
};
use duologue_protocol::{Event, Seq, SessionId, Timestamp, UserId};
use sqlx::query_scalar;

use self::calls::PostgresCalls;
pub(crate) use self::startup::{check, migrate};
use crate::{
    functions::{attempt, complete_claim, conflict_unless, event_json, events_json, job_end, rows},
    stored::{ClaimedRow, EventRow, JobRow, LostRows, integer, leases_json, text_of_time},
};

/// See the module.
pub(crate) struct PostgresStore {
    calls: PostgresCalls,
}

impl PostgresStore {
    async fn save_draft(&self, lease: &Lease, draft: &Draft) -> Result<(), StoreError> {
        let (turn, text) = (draft.turn_id.to_string(), stored_text(&draft.text));
        let call = || {
            query_scalar("select duologue_save_draft($1, $2, $3, $4, $5, $6)::text")
                .bind(lease.session_id.as_str())
                .bind(lease.user_id.as_str())
                .bind(&*lease.server.0)
                .bind(integer(lease.epoch))
                .bind(&*turn)
                .bind(&*text)
        };
        conflict_unless(self.calls.call(call).await?)
    }
}

#[async_trait]
impl SessionStore for PostgresStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let started_at = text_of_time(claim.now);
        let call = || {
            query_scalar("select duologue_claim($1, $2, $3, $4, $5, $6::timestamptz)::text")
                .bind(claim.session_id.as_str())
                .bind(claim.user_id.as_str())
                .bind(&*claim.agent)
                .bind(&*claim.server.0)
                .bind(claim.lease_duration.as_secs_f64())
                .bind(&*started_at)
        };
        let row: Option<ClaimedRow> = self.calls.call(call).await?;
        match row {
            Some(row) => complete_claim(self, claim, row.into()).await.map(Some),
            None => Ok(None),
        }
    }

    async fn claim_lapsed(
        &self,
        server: &ServerId,
        lease_duration: Duration,
        grace: Duration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let call = || {
            query_scalar("select duologue_claim_lapsed($1, $2, $3, $4)::text")
                .bind(&*server.0)
                .bind(lease_duration.as_secs_f64())
                .bind(grace.as_secs_f64())
                .bind(rows(limit))
        };
        let rows: Vec<ClaimedRow> = self.calls.call(call).await?;
        Ok(rows.into_iter().map(Claimed::from).collect())
    }

    async fn renew(
        &self,
        server: &ServerId,
        leases: &[Lease],
        lease_duration: Duration,
    ) -> Result<Vec<Lease>, StoreError> {
        let named = leases_json(leases);
        let call = || {
            query_scalar("select duologue_renew($1, $2::jsonb, $3)::text")
                .bind(&*server.0)
                .bind(&*named)
                .bind(lease_duration.as_secs_f64())
        };
        let lost: LostRows = self.calls.call(call).await?;
        Ok(lost.of(leases))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let call = || {
            query_scalar("select duologue_release($1, $2, $3, $4)::text")
                .bind(lease.session_id.as_str())
                .bind(lease.user_id.as_str())
                .bind(&*lease.server.0)
                .bind(integer(lease.epoch))
        };
        let _was_held: bool = self.calls.call(call).await?;
        Ok(())
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        let events = events_json(events);
        let call = || {
            query_scalar("select duologue_append($1, $2, $3, $4, $5, $6::jsonb)::text")
                .bind(lease.session_id.as_str())
                .bind(lease.user_id.as_str())
                .bind(&*lease.server.0)
                .bind(integer(lease.epoch))
                .bind(integer(after.0))
                .bind(&*events)
        };
        conflict_unless(self.calls.call(call).await?)
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        _claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        let events = events_json(events);
        let call = || {
            query_scalar("select duologue_end($1, $2, $3, $4, $5, $6::jsonb)::text")
                .bind(lease.session_id.as_str())
                .bind(lease.user_id.as_str())
                .bind(&*lease.server.0)
                .bind(integer(lease.epoch))
                .bind(integer(after.0))
                .bind(&*events)
        };
        conflict_unless(self.calls.call(call).await?)?;
        Ok(None)
    }

    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError> {
        let mut refused = Vec::new();
        for (lease, draft) in drafts {
            match self.save_draft(lease, draft).await {
                Ok(()) => {}
                Err(StoreError::Conflict) => refused.push(lease.clone()),
                Err(error) => return Err(error),
            }
        }
        match refused.first() {
            // Those that were only released or have ended are not renewed either.
            Some(Lease { server, .. }) => self.renew(server, &refused, Duration::ZERO).await,
            None => Ok(refused),
        }
    }

    async fn read(
        &self,
        user: &UserId,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let call = || {
            query_scalar("select duologue_read($1, $2, $3, $4)::text")
                .bind(user.as_str())
                .bind(session.as_str())
                .bind(integer(after.0))
                .bind(rows(limit))
        };
        let rows: Vec<EventRow> = self.calls.call(call).await?;
        rows.into_iter().map(EventRow::event).collect()
    }

    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let call = || {
            query_scalar("select duologue_session($1, $2)::text")
                .bind(user.as_str())
                .bind(session.as_str())
        };
        self.calls.call(call).await
    }

    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        let since = text_of_time(since);
        let call = || {
            query_scalar("select duologue_tokens_spent($1, $2::timestamptz)::text")
                .bind(user.as_str())
                .bind(&*since)
        };
        self.calls.call(call).await
    }
}

#[async_trait]
impl JobStore for PostgresStore {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        let call = || {
            query_scalar("select duologue_claim_job($1, $2)::text")
                .bind(&*worker.0)
                .bind(lease_duration.as_secs_f64())
        };
        let row: Option<JobRow> = self.calls.call(call).await?;
        Ok(row.map(Job::from))
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        let call = || {
            query_scalar("select duologue_renew_job($1, $2, $3, $4)::text")
                .bind(job.id)
                .bind(&*job.worker.0)
                .bind(attempt(job))
                .bind(lease_duration.as_secs_f64())
        };
        conflict_unless(self.calls.call(call).await?)
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        let event = event_json(summarized);
        let call = || {
            query_scalar("select duologue_finish_job($1, $2, $3, $4::jsonb)::text")
                .bind(job.id)
                .bind(&*job.worker.0)
                .bind(attempt(job))
                .bind(&*event)
        };
        job_end(self.calls.call(call).await?)
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        let reason = stored_text(&release.reason);
        let call = || {
            query_scalar("select duologue_release_job($1, $2, $3, $4, $5, $6)::text")
                .bind(job.id)
                .bind(&*job.worker.0)
                .bind(attempt(job))
                .bind(release.delay.as_secs_f64())
                .bind(&*reason)
                .bind(release.is_counted)
        };
        conflict_unless(self.calls.call(call).await?)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        let call = || query_scalar("select duologue_version()::text");
        let _version: i64 = self.calls.call(call).await?;
        Ok(())
    }

    async fn close(&self) {
        self.calls.close().await;
    }
}
