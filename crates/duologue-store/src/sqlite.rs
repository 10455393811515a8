//! The store in a SQLite file: no server to run, for one process.
//!
//! Writes queue up for the one [`Writer`]; reads have connections of their own, which see what is
//! committed and never wait for the writer. Each connection has a thread of its own.

mod claims;
mod failure;
mod file;
mod identity;
mod inspection;
mod jobs;
mod log;
mod migration;
mod operators;
mod queue;
mod readers;
mod server_leases;
mod startup;
mod writer;

use std::time::Duration;

use async_trait::async_trait;
use duologue_engine::store::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, Sweep,
    normalize::{self, Ending},
};
use duologue_protocol::{Event, Seq, SessionId, Timestamp, UserId};

use self::{log::NewEvents, readers::Readers, server_leases::ServerLeases, writer::Writer};
pub(crate) use self::{
    operators::SqliteOperatorStore,
    startup::{check, migrate},
};

/// See the module.
pub(crate) struct SqliteStore {
    writer: Writer,
    readers: Readers,
    leases: ServerLeases,
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let claim = claim.clone();
        self.leases.start(&claim.server, claim.lease_duration);
        self.writer
            .write(move |savepoint| {
                let Some(mut claimed) = claims::claim(savepoint, &claim)? else {
                    return Ok(None);
                };
                let events = &claim.first_events;
                if claimed.session.last_seq == Seq::ZERO && !events.is_empty() {
                    let events = NewEvents::new(Seq::ZERO, events);
                    log::append(savepoint, &claimed.lease, &events)?;
                    claimed.session.last_seq = events.last();
                    claimed.started = true;
                }
                if let Some(since) = claim.spent_since {
                    let spent = log::tokens_spent(savepoint, &claim.user_id, since)?;
                    claimed.tokens_spent = Some(spent);
                }
                Ok(Some(claimed))
            })
            .await
    }

    async fn claim_lapsed(&self, sweep: &Sweep) -> Result<Vec<Claimed>, StoreError> {
        let sweep = sweep.clone();
        self.leases.start(&sweep.server, sweep.lease_duration);
        let lapsed = self.leases.lapsed(sweep.grace);
        self.writer
            .write(move |savepoint| claims::claim_lapsed(savepoint, &sweep, &lapsed))
            .await
    }

    async fn heartbeat(
        &self,
        server: &ServerId,
        lease_duration: Duration,
        held: &[Lease],
    ) -> Result<Vec<Lease>, StoreError> {
        let (server_held, held) = (server.clone(), held.to_vec());
        // Through the writer, which nothing else would show to be stuck while nobody says anything.
        let lost = self
            .writer
            .write(move |savepoint| {
                let mut lost = Vec::new();
                for lease in held {
                    if lease.server != server_held || claims::is_lost(savepoint, &lease)? {
                        lost.push(lease);
                    }
                }
                Ok(lost)
            })
            .await?;
        self.leases.renew(server, lease_duration);
        Ok(lost)
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.writer
            .write(move |savepoint| claims::release(savepoint, &lease))
            .await
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        let (lease, events) = (lease.clone(), NewEvents::new(after, events));
        self.writer
            .write(move |savepoint| log::append(savepoint, &lease, &events))
            .await
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        let (lease, ending) = (lease.clone(), Ending::of(events));
        let (events, claim) = (NewEvents::new(after, events), claim.cloned());
        self.writer
            .write(move |savepoint| {
                log::end(savepoint, &lease, &events, &ending, claim.as_ref())?;
                match &claim {
                    Some(claim) => {
                        jobs::first_claim(savepoint, &lease.session_id, events.last(), claim)
                    }
                    None => Ok(None),
                }
            })
            .await
    }

    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError> {
        let drafts = drafts.to_vec();
        self.writer
            .write(move |savepoint| log::save_drafts(savepoint, &drafts))
            .await
    }

    async fn read(
        &self,
        user: &UserId,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let (user, session) = (user.clone(), session.clone());
        self.readers
            .read(move |connection| log::read(connection, &user, &session, after, limit))
            .await
    }

    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let (user, session) = (user.clone(), session.clone());
        self.readers
            .read(move |connection| claims::session(connection, &user, &session))
            .await
    }

    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        let user = user.clone();
        self.readers
            .read(move |connection| log::tokens_spent(connection, &user, since))
            .await
    }
}

#[async_trait]
impl JobStore for SqliteStore {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        let worker = worker.clone();
        self.writer
            .write(move |savepoint| jobs::claim(savepoint, &worker, lease_duration))
            .await
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        let job = job.clone();
        self.writer
            .write(move |savepoint| jobs::renew(savepoint, &job, lease_duration))
            .await
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        let (job, result) = (job.clone(), normalize::summarized(summarized).clone());
        let event = NewEvents::new(job.last_seq, std::slice::from_ref(summarized));
        self.writer
            .write(move |savepoint| jobs::finish(savepoint, &job, &event, &result))
            .await
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        let (job, release) = (job.clone(), release.clone());
        self.writer
            .write(move |savepoint| jobs::release(savepoint, &job, &release))
            .await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        // Through the writer: readers would answer even when nothing can be stored any more.
        self.writer.write(|_| Ok(())).await
    }

    async fn close(&self) {
        // Readers last: while they are open, SQLite would not fold its WAL into the file.
        self.readers.close().await;
        self.writer.close().await;
    }
}
