//! A store with a planted fault.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use duologue_engine::store::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, Sweep,
};
use duologue_protocol::{Event, EventBody, Seq, SessionId, Timestamp, UserId};

use crate::mutant::Mutant;

/// A write that was acknowledged and not done.
#[derive(Clone, Debug)]
struct Pending {
    lease: Lease,
    after: Seq,
    events: Vec<Event>,
}

/// What a mutant must remember to do its harm.
#[derive(Debug, Default)]
struct Memory {
    pending: BTreeMap<SessionId, Pending>,
    leases: BTreeMap<SessionId, Lease>,
    owners: BTreeMap<SessionId, UserId>,
    jobs: BTreeMap<i64, Job>,
}

/// See the module.
pub(super) struct MutatedStore {
    mutant: Mutant,
    store: Arc<dyn Store>,
    memory: Mutex<Memory>,
}

impl MutatedStore {
    /// Plants a fault into `store`.
    pub(super) fn new(mutant: Mutant, store: Arc<dyn Store>) -> Self {
        Self {
            mutant,
            store,
            memory: Mutex::default(),
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no holder of this lock panics")
    }

    /// Does what was acknowledged before.
    async fn catch_up(&self, session_id: &SessionId) -> Result<(), StoreError> {
        let pending = self.memory().pending.remove(session_id);
        match pending {
            None => Ok(()),
            Some(Pending {
                lease,
                after,
                events,
            }) => self.store.append(&lease, after, &events).await,
        }
    }

    /// The same events at the end of the log, whatever they were written for, and under the hold
    /// that is valid now.
    async fn moved(&self, lease: &Lease, events: &[Event]) -> Result<Pending, StoreError> {
        let record = self
            .store
            .session(&lease.user_id, &lease.session_id)
            .await?;
        let after = record.map_or(Seq::ZERO, |record| record.last_seq);
        let current = self.memory().leases.get(&lease.session_id).cloned();
        let numbered = events.iter().zip(1_u64..).map(|(event, number)| Event {
            seq: Seq(after.0 + number),
            ..event.clone()
        });
        Ok(Pending {
            lease: current.unwrap_or_else(|| lease.clone()),
            after,
            events: numbered.collect(),
        })
    }

    /// The claim of a job that is valid now, for a worker that may have an older one.
    fn current(&self, job: &Job) -> Job {
        let current = self.memory().jobs.get(&job.id).cloned();
        let is_mutated = self.is(Mutant::HasNoJobFence);
        current
            .filter(|_| is_mutated)
            .unwrap_or_else(|| job.clone())
    }

    fn remember(&self, claimed: &Claimed) {
        let lease = claimed.lease.clone();
        self.memory().leases.insert(lease.session_id.clone(), lease);
    }
}

#[async_trait]
impl SessionStore for MutatedStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        self.memory().pending.remove(&claim.session_id);
        let mut claim = claim.clone();
        if self.is(Mutant::IgnoresOwners) {
            let mut memory = self.memory();
            let owner = memory.owners.entry(claim.session_id.clone());
            claim.user_id = owner.or_insert_with(|| claim.user_id.clone()).clone();
        }
        let claimed = self.store.claim(&claim).await?;
        if let Some(claimed) = &claimed {
            self.remember(claimed);
        }
        Ok(claimed)
    }

    async fn claim_lapsed(&self, sweep: &Sweep) -> Result<Vec<Claimed>, StoreError> {
        let mut sweep = sweep.clone();
        if self.is(Mutant::IgnoresGrace) {
            sweep.grace = Duration::ZERO;
        }
        let lapsed = self.store.claim_lapsed(&sweep).await?;
        for claimed in &lapsed {
            self.memory().pending.remove(&claimed.lease.session_id);
            self.remember(claimed);
        }
        Ok(lapsed)
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
        self.catch_up(&lease.session_id).await?;
        self.store.release(lease).await
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        self.catch_up(&lease.session_id).await?;
        let says = |event: &Event| matches!(event.body, EventBody::UserMessage(_));
        match self.mutant {
            Mutant::AcknowledgesBeforeCommit if events.iter().any(says) => {
                let pending = Pending {
                    lease: lease.clone(),
                    after,
                    events: events.to_vec(),
                };
                let mut memory = self.memory();
                memory.pending.insert(lease.session_id.clone(), pending);
                Ok(())
            }
            Mutant::RepeatsWrites | Mutant::HasNoFence => {
                let moved = self.moved(lease, events).await?;
                let is_old = moved.lease != *lease;
                let is_done = moved.after != after;
                let applies = match self.mutant {
                    Mutant::HasNoFence => is_old,
                    _ => is_done && !is_old,
                };
                if applies {
                    let Pending {
                        lease,
                        after,
                        events,
                    } = &moved;
                    return self.store.append(lease, *after, events).await;
                }
                self.store.append(lease, after, events).await
            }
            _ => self.store.append(lease, after, events).await,
        }
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        self.catch_up(&lease.session_id).await?;
        let job = self.store.end(lease, after, events, claim).await?;
        if let Some(job) = &job {
            self.memory().jobs.insert(job.id, job.clone());
        }
        Ok(job)
    }

    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError> {
        self.store.save_drafts(drafts).await
    }

    async fn read(
        &self,
        user: &UserId,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        self.catch_up(session).await?;
        let mut events = self.store.read(user, session, after, limit).await?;
        match self.mutant {
            Mutant::ReadsOneTooFar if events.len() > 1 => {
                events.remove(0);
            }
            Mutant::ForgetsMessageIds => {
                for event in &mut events {
                    if let EventBody::UserMessage(said) = &mut event.body {
                        said.id = None;
                    }
                }
            }
            _ => {}
        }
        Ok(events)
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
impl JobStore for MutatedStore {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        let job = self.store.claim_job(worker, lease_duration).await?;
        if let Some(job) = &job {
            self.memory().jobs.insert(job.id, job.clone());
        }
        Ok(job)
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        self.store
            .renew_job(&self.current(job), lease_duration)
            .await
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        self.store.finish_job(&self.current(job), summarized).await
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        self.store.release_job(job, release).await
    }
}

#[async_trait]
impl Store for MutatedStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
