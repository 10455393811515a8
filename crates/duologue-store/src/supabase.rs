//! The store in a Supabase project, reached over its REST interface: for projects of
//! which only the URL and a secret key are known, and no connection to the database.
//!
//! The tables and functions are those of `postgres`, and every operation is one `POST` to one of
//! the functions; so a call is a transaction here as well. How calls are made is `supabase::calls`,
//! and to whom, `supabase::target`.

mod calls;
mod failure;
#[cfg(feature = "testing")]
pub mod fuzz;
mod operators;
mod startup;
mod target;

use std::time::Duration;

use async_trait::async_trait;
use duologue_engine::store::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, normalize::stored_text,
};
use duologue_protocol::{Event, Seq, SessionId, Timestamp, UserId};

use self::{
    calls::{Call, Repetition, RestCalls},
    failure::RestFailure,
};
pub(crate) use self::{startup::check, target::Target};
use crate::{
    functions::{complete_claim, conflict_unless, event_json, events_json, job_end, rows},
    stored::{ClaimedRow, EventRow, JobRow, LostRows, leases_json, text_of_time},
};

/// See the module.
pub(crate) struct SupabaseStore {
    calls: RestCalls,
}

impl SupabaseStore {
    async fn save_draft(&self, lease: &Lease, draft: &Draft) -> Result<(), StoreError> {
        let call = Call::under("duologue_save_draft", lease)
            .with("of_turn", draft.turn_id.to_string())
            .with("the_text", stored_text(&draft.text));
        conflict_unless(self.calls.call(call).await?)
    }
}

#[async_trait]
impl SessionStore for SupabaseStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let call = Call::new("duologue_claim", Repetition::Harmless)
            .with("for_session", &claim.session_id)
            .with("for_user", &claim.user_id)
            .with("for_agent", &claim.agent)
            .with("by_server", &claim.server.0)
            .with("lease_seconds", claim.lease_duration.as_secs_f64())
            .with("started_at", text_of_time(claim.now));
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
        let call = Call::new("duologue_claim_lapsed", Repetition::TakesMore)
            .with("by_server", &server.0)
            .with("lease_seconds", lease_duration.as_secs_f64())
            .with("grace_seconds", grace.as_secs_f64())
            .with("at_most", rows(limit));
        let rows: Vec<ClaimedRow> = self.calls.call(call).await?;
        Ok(rows.into_iter().map(Claimed::from).collect())
    }

    async fn renew(
        &self,
        server: &ServerId,
        leases: &[Lease],
        lease_duration: Duration,
    ) -> Result<Vec<Lease>, StoreError> {
        let call = Call::new("duologue_renew", Repetition::Harmless)
            .with("by_server", &server.0)
            .with_json("leases", &leases_json(leases))
            .with("lease_seconds", lease_duration.as_secs_f64());
        let lost: LostRows = self.calls.call(call).await?;
        Ok(lost.of(leases))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let call = Call::under("duologue_release", lease);
        let _was_held: bool = self.calls.call(call).await?;
        Ok(())
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        let call = Call::under("duologue_append", lease)
            .with("after_seq", after)
            .with_json("new_events", &events_json(events));
        conflict_unless(self.calls.call(call).await?)
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        _claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        let call = Call::under("duologue_end", lease)
            .with("after_seq", after)
            .with_json("new_events", &events_json(events));
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
        let mut limit = limit;
        loop {
            let call = Call::new("duologue_read", Repetition::Harmless)
                .with("for_user", user)
                .with("for_session", session)
                .with("after_seq", after)
                .with("at_most", rows(limit));
            match self.calls.try_call::<Vec<EventRow>>(call).await {
                Ok(rows) => return rows.into_iter().map(EventRow::event).collect(),
                // The page is too large for one answer, so it is made smaller. The caller goes on
                // after the last event it gets, however many there were.
                Err(RestFailure::TooLarge) if limit > 1 => limit /= 2,
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let call = Call::new("duologue_session", Repetition::Harmless)
            .with("for_user", user)
            .with("for_session", session);
        self.calls.call(call).await
    }

    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        let call = Call::new("duologue_tokens_spent", Repetition::Harmless)
            .with("for_user", user)
            .with("since", text_of_time(since));
        self.calls.call(call).await
    }
}

#[async_trait]
impl JobStore for SupabaseStore {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        let call = Call::new("duologue_claim_job", Repetition::TakesMore)
            .with("by_worker", &worker.0)
            .with("lease_seconds", lease_duration.as_secs_f64());
        let row: Option<JobRow> = self.calls.call(call).await?;
        Ok(row.map(Job::from))
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        let call =
            Call::of("duologue_renew_job", job).with("lease_seconds", lease_duration.as_secs_f64());
        conflict_unless(self.calls.call(call).await?)
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        let call =
            Call::of("duologue_finish_job", job).with_json("summarized", &event_json(summarized));
        job_end(self.calls.call(call).await?)
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        let call = Call::of("duologue_release_job", job)
            .with("delay_seconds", release.delay.as_secs_f64())
            .with("why", stored_text(&release.reason))
            .with("is_counted", release.is_counted);
        conflict_unless(self.calls.call(call).await?)
    }
}

#[async_trait]
impl Store for SupabaseStore {
    async fn ping(&self) -> Result<(), StoreError> {
        let _version: Option<i64> = self.calls.call(Call::version()).await?;
        Ok(())
    }

    async fn close(&self) {
        self.calls.close().await;
    }
}
