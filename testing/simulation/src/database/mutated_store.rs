//! A store with a planted fault.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use duologue_engine::store::{
    Claim, Claimed, Job, Lease, Store, StoreError, Sweep,
    layer::{Call, Layer, Reply},
};
use duologue_protocol::{Event, EventBody, Seq, SessionId, UserId};

use crate::mutant::Mutant;

/// The arguments of an append.
#[derive(Clone, Debug)]
struct Append {
    lease: Lease,
    after: Seq,
    events: Vec<Event>,
}

/// What a mutant must remember to do its harm.
#[derive(Debug, Default)]
struct Memory {
    /// Appends that were acknowledged and not done.
    pending: BTreeMap<SessionId, Append>,
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
            Some(Append {
                lease,
                after,
                events,
            }) => self.store.append(&lease, after, &events).await,
        }
    }

    /// The same events at the end of the log, whatever they were written for, and under the hold
    /// that is valid now.
    async fn moved(&self, lease: &Lease, events: &[Event]) -> Result<Append, StoreError> {
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
        Ok(Append {
            lease: current.unwrap_or_else(|| lease.clone()),
            after,
            events: numbered.collect(),
        })
    }

    /// The claim of a job that is valid now, for a worker that may have an older one.
    fn current(&self, job: Job) -> Job {
        let current = self.memory().jobs.get(&job.id).cloned();
        let is_mutated = self.is(Mutant::HasNoJobFence);
        current.filter(|_| is_mutated).unwrap_or(job)
    }

    /// The claim with the owner that was claimed for first.
    fn owned(&self, mut claim: Claim) -> Claim {
        if self.is(Mutant::IgnoresOwners) {
            let mut memory = self.memory();
            let owner = memory.owners.entry(claim.session_id.clone());
            claim.user_id = owner.or_insert_with(|| claim.user_id.clone()).clone();
        }
        claim
    }

    /// The call that is made instead. `None`: none is made yet, and it is acknowledged.
    async fn changed_append(&self, append: Append) -> Result<Option<Call>, StoreError> {
        let Append {
            lease,
            after,
            events,
        } = &append;
        let says = |event: &Event| matches!(event.body, EventBody::UserMessage(_));
        let made = match self.mutant {
            Mutant::AcknowledgesBeforeCommit if events.iter().any(says) => {
                let session_id = lease.session_id.clone();
                self.memory().pending.insert(session_id, append);
                return Ok(None);
            }
            Mutant::RepeatsWrites | Mutant::HasNoFence => {
                let moved = self.moved(lease, events).await?;
                let is_old = moved.lease != *lease;
                let is_done = moved.after != *after;
                let applies = match self.mutant {
                    Mutant::HasNoFence => is_old,
                    _ => is_done && !is_old,
                };
                if applies { moved } else { append }
            }
            _ => append,
        };
        Ok(Some(Call::Append(made.lease, made.after, made.events)))
    }

    fn remember(&self, claimed: &Claimed) {
        let lease = claimed.lease.clone();
        self.memory().leases.insert(lease.session_id.clone(), lease);
    }

    /// Remembers what was claimed, and changes what was read.
    fn changed_reply(&self, mut reply: Reply) -> Reply {
        match &mut reply {
            Reply::Claim(Some(claimed)) => self.remember(claimed),
            Reply::ClaimLapsed(lapsed) => {
                for claimed in lapsed {
                    self.memory().pending.remove(&claimed.lease.session_id);
                    self.remember(claimed);
                }
            }
            Reply::End(Some(job)) | Reply::ClaimJob(Some(job)) => {
                self.memory().jobs.insert(job.id, job.clone());
            }
            Reply::Read(events) => self.change_read(events),
            _ => {}
        }
        reply
    }

    fn change_read(&self, events: &mut Vec<Event>) {
        match self.mutant {
            Mutant::ReadsOneTooFar if events.len() > 1 => {
                events.remove(0);
            }
            Mutant::ForgetsMessageIds => {
                for event in events {
                    if let EventBody::UserMessage(said) = &mut event.body {
                        said.id = None;
                    }
                }
            }
            _ => {}
        }
    }
}

impl Layer for MutatedStore {
    async fn handle(&self, call: Call) -> Result<Reply, StoreError> {
        match &call {
            Call::Claim(claim) => {
                self.memory().pending.remove(&claim.session_id);
            }
            Call::Release(lease) | Call::Append(lease, ..) | Call::End(lease, ..) => {
                self.catch_up(&lease.session_id).await?;
            }
            Call::Read(_, session_id, ..) => self.catch_up(session_id).await?,
            _ => {}
        }
        let call = match call {
            Call::Claim(claim) => Call::Claim(self.owned(claim)),
            Call::ClaimLapsed(sweep) if self.is(Mutant::IgnoresGrace) => Call::ClaimLapsed(Sweep {
                grace: Duration::ZERO,
                ..sweep
            }),
            Call::ClaimLapsed(sweep) if self.is(Mutant::ForgetsAbandoned) => {
                let abandoned = Vec::new();
                Call::ClaimLapsed(Sweep { abandoned, ..sweep })
            }
            Call::Append(lease, after, events) => {
                let append = Append {
                    lease,
                    after,
                    events,
                };
                match self.changed_append(append).await? {
                    Some(call) => call,
                    None => return Ok(Reply::Append(())),
                }
            }
            Call::RenewJob(job, duration) => Call::RenewJob(self.current(job), duration),
            Call::FinishJob(job, event) => Call::FinishJob(self.current(job), event),
            call => call,
        };
        let reply = call.make(&*self.store).await?;
        Ok(self.changed_reply(reply))
    }
}
