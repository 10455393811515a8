//! Stores with one planted fault each: what an implementation may get wrong.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use async_trait::async_trait;
use duologue_doubles::memory::MemoryStore;
use duologue_engine::store::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, Sweep,
    operators::{JobRecord, Jobs, OperatorStore, RetryOutcome, StoredEvent, StoredSession},
};
use duologue_protocol::{Event, Seq, SessionId, Timestamp, UserId};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A write that is sent again is stored again.
    StoresRepetitions,
    /// A server that has lost a session may continue writing to it.
    AcceptsOldEpochs,
    /// Another server than the session's may write to it, under the current epoch.
    IgnoresOwners,
    /// A worker that has lost its job may still apply its result.
    AppliesLostResults,
    /// An ending leaves no job.
    EndsWithoutJob,
    /// A page begins with the last event of the one before.
    ReadsOneTooMany,
    /// A user who names a session reads it, whosever it is.
    ShowsForeignSessions,
    /// A draft is lost when its session changes hands.
    LosesDrafts,
}

impl Fault {
    pub(super) const ALL: [Self; 8] = [
        Self::StoresRepetitions,
        Self::AcceptsOldEpochs,
        Self::IgnoresOwners,
        Self::AppliesLostResults,
        Self::EndsWithoutJob,
        Self::ReadsOneTooMany,
        Self::ShowsForeignSessions,
        Self::LosesDrafts,
    ];
}

pub(super) struct Mutant {
    fault: Fault,
    store: MemoryStore,
    latest: Mutex<Latest>,
}

/// What the faults need to know, and a sound store would have compared.
#[derive(Default)]
struct Latest {
    leases: HashMap<SessionId, Lease>,
    jobs: HashMap<i64, Job>,
}

impl Mutant {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            fault,
            store: MemoryStore::new(),
            latest: Mutex::default(),
        }
    }

    fn holder(&self, session: &SessionId) -> Option<Lease> {
        self.latest.lock().unwrap().leases.get(session).cloned()
    }

    fn claimed(&self, claimed: Claimed) -> Claimed {
        let lease = claimed.lease.clone();
        self.latest
            .lock()
            .unwrap()
            .leases
            .insert(lease.session_id.clone(), lease);
        match self.fault {
            Fault::LosesDrafts => Claimed {
                draft: None,
                ..claimed
            },
            _ => claimed,
        }
    }

    /// The lease that a write is checked by.
    fn judged(&self, lease: &Lease) -> Lease {
        match self.fault {
            Fault::AcceptsOldEpochs => self.holder(&lease.session_id),
            Fault::IgnoresOwners => self.holder(&lease.session_id).map(|holder| Lease {
                server: holder.server,
                ..lease.clone()
            }),
            _ => None,
        }
        .unwrap_or_else(|| lease.clone())
    }
}

#[async_trait]
impl SessionStore for Mutant {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let claimed = self.store.claim(claim).await?;
        Ok(claimed.map(|claimed| self.claimed(claimed)))
    }

    async fn claim_lapsed(&self, sweep: &Sweep) -> Result<Vec<Claimed>, StoreError> {
        let claimed = self.store.claim_lapsed(sweep).await?;
        Ok(claimed
            .into_iter()
            .map(|claimed| self.claimed(claimed))
            .collect())
    }

    async fn heartbeat(
        &self,
        server: &ServerId,
        lease_duration: Duration,
        held: &[Lease],
    ) -> Result<Vec<Lease>, StoreError> {
        self.store.heartbeat(server, lease_duration, held).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.store.release(lease).await
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        let lease = self.judged(lease);
        let session = self
            .store
            .session(&lease.user_id, &lease.session_id)
            .await?;
        let last = session.map_or(Seq::ZERO, |session| session.last_seq);
        self.store.append(&lease, after, events).await?;
        if self.fault == Fault::StoresRepetitions && after != last {
            return self.store.append(&lease, last, events).await;
        }
        Ok(())
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        self.store
            .end(&self.judged(lease), after, events, claim)
            .await
    }

    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError> {
        let judged: Vec<_> = drafts
            .iter()
            .map(|(lease, draft)| (self.judged(lease), draft.clone()))
            .collect();
        self.store.save_drafts(&judged).await
    }

    async fn read(
        &self,
        user: &UserId,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let owner = match self.fault {
            Fault::ShowsForeignSessions => self.holder(session).map(|lease| lease.user_id),
            _ => None,
        };
        let after = match self.fault {
            Fault::ReadsOneTooMany => Seq(after.0.saturating_sub(1)),
            _ => after,
        };
        self.store
            .read(owner.as_ref().unwrap_or(user), session, after, limit)
            .await
    }

    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        self.store.session(user, session).await
    }

    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        self.store.tokens_spent(user, since).await
    }
}

#[async_trait]
impl JobStore for Mutant {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        if self.fault == Fault::EndsWithoutJob {
            return Ok(None);
        }
        let job = self.store.claim_job(worker, lease_duration).await?;
        if let Some(job) = &job {
            self.latest.lock().unwrap().jobs.insert(job.id, job.clone());
        }
        Ok(job)
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        self.store.renew_job(job, lease_duration).await
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        let latest = self.latest.lock().unwrap().jobs.get(&job.id).cloned();
        match latest {
            Some(latest) if self.fault == Fault::AppliesLostResults => {
                self.store.finish_job(&latest, summarized).await
            }
            _ => self.store.finish_job(job, summarized).await,
        }
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        self.store.release_job(job, release).await
    }
}

#[async_trait]
impl Store for Mutant {
    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

#[async_trait]
impl OperatorStore for Mutant {
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
        let mut head = self.store.stored_session(session).await?;
        if let (Fault::EndsWithoutJob, Some(head)) = (self.fault, &mut head) {
            head.jobs.clear();
        }
        Ok(head)
    }

    async fn rows(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.store.rows(session, after, limit).await
    }

    async fn jobs(
        &self,
        which: Jobs,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        match self.fault {
            Fault::EndsWithoutJob => Ok(Vec::new()),
            _ => self.store.jobs(which, after, limit).await,
        }
    }

    async fn retry_job(&self, job: i64) -> Result<Option<RetryOutcome>, StoreError> {
        self.store.retry_job(job).await
    }

    async fn restored(&self) -> Result<u64, StoreError> {
        self.store.restored().await
    }
}
