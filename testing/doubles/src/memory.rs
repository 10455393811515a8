//! The store in memory: the simplest correct one, for tests.
//!
//! Its "database clock" is tokio's, so leases lapse in paused time too. It keeps rows as databases
//! do, so that what cannot be written or read back shows here first. A test may let writes fail.

use std::{
    fmt,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use duologue_engine::store::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, Sweep,
    normalize::{Ending, stored_text},
};
use duologue_protocol::{Event, Seq, SessionId, Timestamp, UserId};
use tokio::time::Instant;

use self::{
    job_row::JobRow,
    session::Session,
    state::{State, log_id},
};

mod job_row;
mod jobs;
mod operators;
mod session;
mod state;

pub use self::state::Fault;

/// See the module.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next `count` writes fail as unavailable. Zero ends an outage early.
    pub fn fail_next_writes(&self, count: u32, fault: Fault) {
        let mut state = self.state();
        state.fault = Some(fault);
        state.faults_left = count;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.state();
        let Some(left) = state.faults_left.checked_sub(1) else {
            return change(&mut state);
        };
        state.faults_left = left;
        if state.fault == Some(Fault::AfterEffect) {
            // The caller must learn nothing of how it went.
            let _lost_answer = change(&mut state);
        }
        Err(StoreError::Unavailable(
            "a test made this write fail".into(),
        ))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        self.write(|state| {
            state.start_lease(&claim.server, claim.lease_duration);
            let session = state
                .sessions
                .entry(claim.session_id.clone())
                .or_insert_with(|| {
                    state.logs += 1;
                    Session::new(claim, log_id(state.logs))
                });
            if session.record.user_id != claim.user_id {
                return Ok(None);
            }
            session.reopen();
            let mut claimed = session.claim(&claim.server, claim.lease_duration);
            if claimed.session.last_seq == Seq::ZERO && !claim.first_events.is_empty() {
                session.append(Seq::ZERO, &claim.first_events)?;
                claimed.session = session.record.clone();
                claimed.started = true;
            }
            if let Some(since) = claim.spent_since {
                claimed.tokens_spent = Some(state.tokens_spent(&claim.user_id, since)?);
            }
            Ok(Some(claimed))
        })
    }

    async fn claim_lapsed(&self, sweep: &Sweep) -> Result<Vec<Claimed>, StoreError> {
        self.write(|state| {
            state.start_lease(&sweep.server, sweep.lease_duration);
            let now = Instant::now();
            let mut found: Vec<_> = state
                .sessions
                .values()
                .filter(|session| session.is_active())
                .filter(|session| {
                    let lapsed_at = state.lapsed_at(session);
                    lapsed_at + sweep.grace < now || session.is_abandoned(sweep)
                })
                .map(|session| (session.lease_until, session.record.session_id.clone()))
                .collect();
            found.sort();
            found.truncate(sweep.limit as usize);
            let claimed = found.iter().map(|(_, id)| {
                let session = state.sessions.get_mut(id).expect("it was just found");
                session.claim(&sweep.server, sweep.lease_duration)
            });
            Ok(claimed.collect())
        })
    }

    async fn heartbeat(
        &self,
        server: &ServerId,
        lease_duration: Duration,
        held: &[Lease],
    ) -> Result<Vec<Lease>, StoreError> {
        self.write(|state| {
            let until = Instant::now() + lease_duration;
            state.servers.insert(server.clone(), until);
            let is_lost = |lease: &&Lease| lease.server != *server || state.is_lost(lease);
            Ok(held.iter().filter(is_lost).cloned().collect())
        })
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.write(|state| {
            if let Ok(session) = state.held(lease) {
                session.give_up();
            }
            Ok(())
        })
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        self.write(|state| {
            if state.has_events(lease, after, events) {
                return Ok(());
            }
            state.held(lease)?.append(after, events)
        })
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        self.write(|state| {
            if state.has_events(lease, after, events) {
                return Ok(
                    claim.and_then(|claim| state.first_claim(&lease.session_id, events, claim))
                );
            }
            let session = state.held(lease)?;
            session.append(after, events)?;
            session.end(Ending::of(events));
            let mut job = JobRow::new(session);
            if let Some(claim) = claim {
                job.claim(&claim.worker, claim.lease_duration);
            }
            state.jobs.push(job);
            Ok(claim.and_then(|claim| state.first_claim(&lease.session_id, events, claim)))
        })
    }

    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError> {
        self.write(|state| {
            let mut lost = Vec::new();
            for (lease, draft) in drafts {
                if let Ok(session) = state.held(lease) {
                    session.draft = Some(Draft {
                        turn_id: draft.turn_id,
                        text: stored_text(&draft.text).into_owned(),
                    });
                } else if state.is_lost(lease) {
                    lost.push(lease.clone());
                }
            }
            Ok(lost)
        })
    }

    async fn read(
        &self,
        user: &UserId,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let state = self.state();
        let Some(session) = state.of_user(user, session) else {
            return Ok(Vec::new());
        };
        let rows = (1..).map(Seq).zip(&session.events);
        rows.filter(|(seq, _)| *seq > after)
            .take(limit as usize)
            .map(|(seq, row)| row.event(seq))
            .collect()
    }

    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let state = self.state();
        Ok(state
            .of_user(user, session)
            .map(|session| session.record.clone()))
    }

    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        self.state().tokens_spent(user, since)
    }
}

#[async_trait]
impl JobStore for MemoryStore {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        self.write(|state| Ok(state.claim_job(worker, lease_duration)))
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        self.write(|state| state.renew_job(job, lease_duration))
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        self.write(|state| state.finish_job(job, summarized))
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        self.write(|state| state.release_job(job, release))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}
}
