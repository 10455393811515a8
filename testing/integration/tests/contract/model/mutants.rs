//! Stores with one planted fault each: what an implementation may get wrong.

use std::{collections::HashMap, sync::Mutex};

use async_trait::async_trait;
use duologue_doubles::memory::MemoryStore;
use duologue_engine::store::{
    Claimed, Job, Lease, SessionStore, StoreError,
    layer::{Call, Layer, Reply},
    operators::{JobRecord, Jobs, OperatorStore, RetryOutcome, StoredEvent, StoredSession},
};
use duologue_protocol::{Event, Seq, SessionId};

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

    /// Notes a claim, and takes its draft away if that is the fault.
    fn claimed(&self, claimed: &mut Claimed) {
        let lease = claimed.lease.clone();
        let mut latest = self.latest.lock().unwrap();
        latest.leases.insert(lease.session_id.clone(), lease);
        if self.fault == Fault::LosesDrafts {
            claimed.draft = None;
        }
    }

    /// The lease that a write is checked by.
    fn judged(&self, lease: Lease) -> Lease {
        let holder = self.holder(&lease.session_id);
        match (self.fault, holder) {
            (Fault::AcceptsOldEpochs, Some(holder)) => holder,
            (Fault::IgnoresOwners, Some(holder)) => Lease {
                server: holder.server,
                ..lease
            },
            _ => lease,
        }
    }

    /// The call that is made instead.
    fn changed(&self, call: Call) -> Call {
        match call {
            Call::Append(lease, after, events) => Call::Append(self.judged(lease), after, events),
            Call::End(lease, after, events, claim) => {
                Call::End(self.judged(lease), after, events, claim)
            }
            Call::SaveDrafts(mut drafts) => {
                for (lease, _) in &mut drafts {
                    *lease = self.judged(lease.clone());
                }
                Call::SaveDrafts(drafts)
            }
            Call::Read(user, session, after, limit) => match self.fault {
                Fault::ShowsForeignSessions => {
                    let owner = self.holder(&session).map(|lease| lease.user_id);
                    Call::Read(owner.unwrap_or(user), session, after, limit)
                }
                Fault::ReadsOneTooMany => {
                    let after = Seq(after.0.saturating_sub(1));
                    Call::Read(user, session, after, limit)
                }
                _ => Call::Read(user, session, after, limit),
            },
            Call::FinishJob(job, summarized) if self.fault == Fault::AppliesLostResults => {
                let latest = self.latest.lock().unwrap().jobs.get(&job.id).cloned();
                Call::FinishJob(latest.unwrap_or(job), summarized)
            }
            call => call,
        }
    }

    /// Appends, and appends again what is there already.
    async fn append_again(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
    ) -> Result<Reply, StoreError> {
        let session = self.store.session(&lease.user_id, &lease.session_id);
        let last = session.await?.map_or(Seq::ZERO, |session| session.last_seq);
        self.store.append(lease, after, events).await?;
        if after != last {
            self.store.append(lease, last, events).await?;
        }
        Ok(Reply::Append(()))
    }
}

impl Layer for Mutant {
    async fn handle(&self, call: Call) -> Result<Reply, StoreError> {
        let call = self.changed(call);
        match (self.fault, &call) {
            (Fault::StoresRepetitions, Call::Append(lease, after, events)) => {
                return self.append_again(lease, *after, events).await;
            }
            (Fault::EndsWithoutJob, Call::ClaimJob(..)) => return Ok(Reply::ClaimJob(None)),
            _ => {}
        }
        let mut reply = call.make(&self.store).await?;
        match &mut reply {
            Reply::Claim(Some(claimed)) => self.claimed(claimed),
            Reply::ClaimLapsed(lapsed) => {
                for claimed in lapsed {
                    self.claimed(claimed);
                }
            }
            Reply::ClaimJob(Some(job)) => {
                self.latest.lock().unwrap().jobs.insert(job.id, job.clone());
            }
            _ => {}
        }
        Ok(reply)
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
