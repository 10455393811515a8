//! Runs each store operation in a task of its own.
//!
//! An operation holds scarce things while it is under way: a connection, a transaction, row locks, a
//! permit. If its caller polls something else meanwhile, or drops the future, nobody advances the
//! operation and it keeps what it holds, so that every other operation waits. A task is always
//! polled, so an operation ends and releases what it holds whatever its caller does.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use duologue_protocol::{Event, Seq, SessionId, Timestamp, UserId};
use tokio_util::task::TaskTracker;

use super::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, Sweep,
};

/// A store whose operations run to their end even if the caller stops polling.
pub(crate) struct SpawnedStore {
    store: Arc<dyn Store>,
    /// Operations under way, for `close` to wait for.
    operations: TaskTracker,
}

impl SpawnedStore {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            operations: TaskTracker::new(),
        }
    }

    /// Runs an operation to its end. A panic in it reaches the caller, as if called directly.
    async fn run<T, F>(&self, operation: impl FnOnce(Arc<dyn Store>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let task = self.operations.spawn(operation(Arc::clone(&self.store)));
        match task.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down.
                Err(cancelled) => Err(StoreError::Unavailable(cancelled.into())),
            },
        }
    }
}

#[async_trait]
impl SessionStore for SpawnedStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let claim = claim.clone();
        self.run(move |store| async move { store.claim(&claim).await })
            .await
    }

    async fn claim_lapsed(&self, sweep: &Sweep) -> Result<Vec<Claimed>, StoreError> {
        let sweep = sweep.clone();
        self.run(move |store| async move { store.claim_lapsed(&sweep).await })
            .await
    }

    async fn heartbeat(
        &self,
        server: &ServerId,
        lease_duration: Duration,
        held: &[Lease],
    ) -> Result<Vec<Lease>, StoreError> {
        let (server, held) = (server.clone(), held.to_vec());
        self.run(move |store| async move { store.heartbeat(&server, lease_duration, &held).await })
            .await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.run(move |store| async move { store.release(&lease).await })
            .await
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        let (lease, events) = (lease.clone(), events.to_vec());
        self.run(move |store| async move { store.append(&lease, after, &events).await })
            .await
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        let (lease, events, claim) = (lease.clone(), events.to_vec(), claim.cloned());
        self.run(
            move |store| async move { store.end(&lease, after, &events, claim.as_ref()).await },
        )
        .await
    }

    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError> {
        let drafts = drafts.to_vec();
        self.run(move |store| async move { store.save_drafts(&drafts).await })
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
        self.run(move |store| async move { store.read(&user, &session, after, limit).await })
            .await
    }

    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let (user, session) = (user.clone(), session.clone());
        self.run(move |store| async move { store.session(&user, &session).await })
            .await
    }

    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        let user = user.clone();
        self.run(move |store| async move { store.tokens_spent(&user, since).await })
            .await
    }
}

#[async_trait]
impl JobStore for SpawnedStore {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        let worker = worker.clone();
        self.run(move |store| async move { store.claim_job(&worker, lease_duration).await })
            .await
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        let job = job.clone();
        self.run(move |store| async move { store.renew_job(&job, lease_duration).await })
            .await
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        let (job, summarized) = (job.clone(), summarized.clone());
        self.run(move |store| async move { store.finish_job(&job, &summarized).await })
            .await
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        let (job, release) = (job.clone(), release.clone());
        self.run(move |store| async move { store.release_job(&job, &release).await })
            .await
    }
}

#[async_trait]
impl Store for SpawnedStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.run(move |store| async move { store.ping().await })
            .await
    }

    async fn close(&self) {
        self.operations.close();
        self.operations.wait().await;
        self.store.close().await;
    }
}
