//! The store: which function each operation calls.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use duologue_engine::store::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, Sweep, normalize::stored_text,
};
use duologue_protocol::{Event, Seq, SessionId, Timestamp, UserId};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::Instant;

use super::{
    batch::{Answer, Kind},
    call::{Call, CallFailure, FunctionCaller, JsonObject},
    items::{claim_item, draft_sets, event_json, log_item, under},
    origin::OriginCheck,
    round_trip::RoundTrip,
    writer::{BatchLimits, BatchWriter},
};
use crate::{
    StoreConfig,
    stored::{
        ClaimedRow, EventRow, JobRow, LostRows, abandoned_json, corrupt, leases_json, text_of_time,
    },
};

/// See the module [`functions`](super).
pub(crate) struct FunctionStore<C> {
    pub(super) caller: Arc<C>,
    writer: BatchWriter,
    round_trip: Arc<RoundTrip>,
}

impl<C: FunctionCaller> FunctionStore<C> {
    pub(crate) fn new(caller: C, config: &StoreConfig) -> Self {
        let caller = Arc::new(caller);
        let round_trip = Arc::<RoundTrip>::default();
        let (limits, shared) = (BatchLimits::of(config), Arc::clone(&round_trip));
        Self {
            writer: BatchWriter::start(Arc::clone(&caller), limits, shared),
            caller,
            round_trip,
        }
    }

    /// What makes the calls.
    pub(crate) fn caller(&self) -> &C {
        &self.caller
    }

    /// Compares the place of the rows with where they were last seen. See [`OriginCheck`].
    pub(crate) async fn check_origin(&self) -> Result<OriginCheck, CallFailure> {
        self.caller.call(&Call::check_origin()).await
    }

    pub(super) async fn call<T>(&self, call: Call) -> Result<T, StoreError>
    where
        T: DeserializeOwned + Send,
    {
        Ok(self.caller.call(&call).await?)
    }

    /// Reads a page of at most `limit` rows. If they are too large for one answer, there are fewer of them: the
    /// caller continues after the last one that it gets.
    pub(super) async fn page<T>(
        &self,
        limit: u32,
        call: impl Fn(u32) -> Call + Send,
    ) -> Result<Vec<T>, StoreError>
    where
        T: DeserializeOwned + Send,
    {
        let mut limit = limit;
        loop {
            match self.caller.call(&call(limit)).await {
                Err(CallFailure::TooLarge(_)) if limit > 1 => limit /= 2,
                page => return Ok(page?),
            }
        }
    }

    /// A write under a lease.
    async fn write_under(
        &self,
        kind: Kind,
        lease: &Lease,
        item: JsonObject,
    ) -> Result<Answer, StoreError> {
        let item = under(lease, item).finish();
        self.writer.write(kind, Some(&lease.session_id), item).await
    }

    /// A write by the worker of a job.
    async fn write_of(
        &self,
        kind: Kind,
        job: &Job,
        item: JsonObject,
    ) -> Result<Answer, StoreError> {
        let item = item
            .with("id", job.id)
            .with("worker", &job.worker)
            .with("attempt", job.attempt);
        let session = Some(&job.session_id);
        self.writer.write(kind, session, item.finish()).await
    }
}

#[async_trait]
impl<C: FunctionCaller> SessionStore for FunctionStore<C> {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let session = Some(&claim.session_id);
        let answer = self.writer.write(Kind::Claims, session, claim_item(claim));
        let row: Option<ClaimedRow> = read(answer.await?)?;
        Ok(row.map(Claimed::from))
    }

    async fn claim_lapsed(&self, sweep: &Sweep) -> Result<Vec<Claimed>, StoreError> {
        let call = Call::new("duologue_claim_lapsed")
            .takes_more()
            .text("by_server", &*sweep.server.0)
            .plain("lease_seconds", sweep.lease_duration.as_secs_f64())
            .plain("grace_seconds", sweep.grace.as_secs_f64())
            .plain("at_most", rows(sweep.limit))
            .json("abandoned", abandoned_json(&sweep.abandoned));
        let rows: Vec<ClaimedRow> = self.call(call).await?;
        Ok(rows.into_iter().map(Claimed::from).collect())
    }

    async fn heartbeat(
        &self,
        server: &ServerId,
        lease_duration: Duration,
        held: &[Lease],
    ) -> Result<Vec<Lease>, StoreError> {
        let call = Call::new("duologue_heartbeat")
            .text("by_server", &*server.0)
            .plain("lease_seconds", lease_duration.as_secs_f64())
            .json("held", leases_json(held));
        let sent_at = Instant::now();
        let lost: LostRows = self.call(call).await?;
        self.round_trip.observe(sent_at.elapsed());
        Ok(lost.of(held))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let answer = self.write_under(Kind::Releases, lease, JsonObject::new());
        fits(answer.await?)
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        let answer = self.write_under(Kind::Appends, lease, log_item(after, events));
        fits(answer.await?)
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        let item = log_item(after, events);
        let item = match claim {
            Some(claim) => item
                .with("worker", &claim.worker)
                .with("lease_seconds", claim.lease_duration.as_secs_f64()),
            None => item,
        };
        let answer = self.write_under(Kind::Ends, lease, item).await?;
        if is_conflict(&answer) {
            return Err(StoreError::Conflict);
        }
        let row: Option<JobRow> = read(answer)?;
        Ok(row.map(Job::from))
    }

    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError> {
        let mut lost = Vec::new();
        for set in draft_sets(drafts) {
            let answer = self.writer.write(Kind::Drafts, None, set.items);
            let of_set: HashMap<usize, IgnoredAny> = read(answer.await?)?;
            let leases = drafts[set.range].iter().map(|(lease, _)| lease).enumerate();
            let leases = leases.filter(|(position, _)| of_set.contains_key(position));
            lost.extend(leases.map(|(_, lease)| lease.clone()));
        }
        Ok(lost)
    }

    async fn read(
        &self,
        user: &UserId,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let page = self.page(limit, |limit| {
            Call::new("duologue_read")
                .text("for_user", user.as_str())
                .text("for_session", session.as_str())
                .plain("after_seq", after)
                .plain("at_most", rows(limit))
        });
        let rows: Vec<EventRow> = page.await?;
        rows.into_iter().map(EventRow::event).collect()
    }

    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let call = Call::new("duologue_session")
            .text("for_user", user.as_str())
            .text("for_session", session.as_str());
        self.call(call).await
    }

    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        let call = Call::new("duologue_tokens_spent")
            .text("for_user", user.as_str())
            .text("since", text_of_time(since));
        self.call(call).await
    }
}

#[async_trait]
impl<C: FunctionCaller> JobStore for FunctionStore<C> {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        let item = JsonObject::new()
            .with("worker", worker)
            .with("lease_seconds", lease_duration.as_secs_f64());
        let answer = self.writer.write(Kind::JobClaims, None, item.finish());
        let row: Option<JobRow> = read(answer.await?)?;
        Ok(row.map(Job::from))
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        let item = JsonObject::new().with("lease_seconds", lease_duration.as_secs_f64());
        fits(self.write_of(Kind::Jobs, job, item).await?)
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        let item = JsonObject::new().with_json("event", &event_json(summarized));
        let answer = self.write_of(Kind::Results, job, item).await?;
        if is_conflict(&answer) {
            return Err(StoreError::Conflict);
        }
        read(answer)
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        let item = JsonObject::new()
            .with("delay_seconds", release.delay.as_secs_f64())
            .with("why", stored_text(&release.reason))
            .with("is_counted", release.is_counted);
        fits(self.write_of(Kind::Jobs, job, item).await?)
    }
}

#[async_trait]
impl<C: FunctionCaller> Store for FunctionStore<C> {
    async fn ping(&self) -> Result<(), StoreError> {
        let _version: Option<i64> = self.call(Call::version()).await?;
        Ok(())
    }

    async fn close(&self) {
        self.writer.close().await;
        self.caller.close().await;
    }
}

/// A number of rows as an `integer`.
pub(super) fn rows(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// Reads the answer to a write that is either carried out or rejected.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is passed on as it was received"
)]
fn fits(answer: Answer) -> Result<(), StoreError> {
    if answer.is_null() {
        Ok(())
    } else if is_conflict(&answer) {
        Err(StoreError::Conflict)
    } else {
        Err(corrupt(format!("a write was answered by {answer}")))
    }
}

fn is_conflict(answer: &Answer) -> bool {
    answer == "conflict"
}

fn read<T: DeserializeOwned>(answer: Answer) -> Result<T, StoreError> {
    serde_json::from_value(answer).map_err(corrupt)
}
