//! Stores that wrap another store and handle all its methods in one place.
//!
//! A [`Layer`] receives each call of a method as a value, a [`Call`], and returns the [`Reply`] of the
//! same name. It matches the calls that it changes, delays or counts, and passes the others on with
//! [`Call::make`]. Every layer is a [`Store`].
//!
//! This is the only file that forwards the methods one by one. A new method is a line in the table
//! below, an arm of [`Call::make`] and a function at the end; the compiler reports each that is missing.

use std::time::Duration;

use async_trait::async_trait;
use duologue_protocol::{Event, Seq, SessionId, Timestamp, UserId};

use super::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, Sweep,
};

/// A store that handles all calls in one place, usually by passing them on to another store.
pub trait Layer: Send + Sync + 'static {
    /// Handles a call. The reply has the name of the call, or the caller panics.
    fn handle(&self, call: Call) -> impl Future<Output = Result<Reply, StoreError>> + Send;
}

/// Declares [`Method`], [`Call`] and [`Reply`] from a table: each method's name, its parameters in their
/// owned form, and what it returns. The names of the parameters are for readers only.
macro_rules! methods {
    ($($Name:ident($($parameter:ident: $Parameter:ty),*) -> $Reply:ty;)*) => {
        /// A method of [`SessionStore`], [`JobStore`] or [`Store`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the methods are documented in their traits")]
        pub enum Method { $($Name,)* }

        /// A call of a method: owned arguments, in the order of the method's parameters.
        #[derive(Debug)]
        #[expect(missing_docs, reason = "the methods are documented in their traits")]
        pub enum Call { $($Name($($Parameter),*),)* }

        /// What a method has returned.
        #[derive(Debug)]
        #[expect(missing_docs, reason = "the methods are documented in their traits")]
        pub enum Reply { $($Name($Reply),)* }

        impl Method {
            /// Every method.
            pub const ALL: &[Self] = &[$(Self::$Name,)*];
        }

        impl Call {
            /// Which method is called.
            pub fn method(&self) -> Method {
                match self { $(Self::$Name(..) => Method::$Name,)* }
            }
        }
    };
}

methods! {
    Claim(claim: Claim) -> Option<Claimed>;
    ClaimLapsed(sweep: Sweep) -> Vec<Claimed>;
    Heartbeat(server: ServerId, lease_duration: Duration, held: Vec<Lease>) -> Vec<Lease>;
    Release(lease: Lease) -> ();
    Append(lease: Lease, after: Seq, events: Vec<Event>) -> ();
    End(lease: Lease, after: Seq, events: Vec<Event>, claim: Option<JobClaim>) -> Option<Job>;
    SaveDrafts(drafts: Vec<(Lease, Draft)>) -> Vec<Lease>;
    Read(user: UserId, session: SessionId, after: Seq, limit: u32) -> Vec<Event>;
    Session(user: UserId, session: SessionId) -> Option<SessionRecord>;
    TokensSpent(user: UserId, since: Timestamp) -> u64;

    ClaimJob(worker: ServerId, lease_duration: Duration) -> Option<Job>;
    RenewJob(job: Job, lease_duration: Duration) -> ();
    FinishJob(job: Job, summarized: Event) -> JobEnd;
    ReleaseJob(job: Job, release: JobRelease) -> ();

    Ping() -> ();
    Close() -> ();
}

impl Call {
    /// Makes the call on `store`.
    pub async fn make(&self, store: &dyn Store) -> Result<Reply, StoreError> {
        Ok(match self {
            Self::Claim(claim) => Reply::Claim(store.claim(claim).await?),
            Self::ClaimLapsed(sweep) => Reply::ClaimLapsed(store.claim_lapsed(sweep).await?),
            Self::Heartbeat(server, lease_duration, held) => {
                let lost = store.heartbeat(server, *lease_duration, held);
                Reply::Heartbeat(lost.await?)
            }
            Self::Release(lease) => Reply::Release(store.release(lease).await?),
            Self::Append(lease, after, events) => {
                Reply::Append(store.append(lease, *after, events).await?)
            }
            Self::End(lease, after, events, claim) => {
                Reply::End(store.end(lease, *after, events, claim.as_ref()).await?)
            }
            Self::SaveDrafts(drafts) => Reply::SaveDrafts(store.save_drafts(drafts).await?),
            Self::Read(user, session, after, limit) => {
                Reply::Read(store.read(user, session, *after, *limit).await?)
            }
            Self::Session(user, session) => Reply::Session(store.session(user, session).await?),
            Self::TokensSpent(user, since) => {
                Reply::TokensSpent(store.tokens_spent(user, *since).await?)
            }
            Self::ClaimJob(worker, lease_duration) => {
                Reply::ClaimJob(store.claim_job(worker, *lease_duration).await?)
            }
            Self::RenewJob(job, lease_duration) => {
                Reply::RenewJob(store.renew_job(job, *lease_duration).await?)
            }
            Self::FinishJob(job, summarized) => {
                Reply::FinishJob(store.finish_job(job, summarized).await?)
            }
            Self::ReleaseJob(job, release) => {
                Reply::ReleaseJob(store.release_job(job, release).await?)
            }
            Self::Ping() => Reply::Ping(store.ping().await?),
            Self::Close() => {
                store.close().await;
                Reply::Close(())
            }
        })
    }
}

/// Calls a method of a layer, and returns what its reply contains.
macro_rules! call {
    ($layer:ident, $Name:ident($($argument:expr),*)) => {
        match $layer.handle(Call::$Name($($argument),*)).await {
            Ok(Reply::$Name(returned)) => Ok(returned),
            Ok(_) => panic!("a layer replied to {:?} as if to another call", Method::$Name),
            Err(error) => Err(error),
        }
    };
}

#[async_trait]
impl<L: Layer> SessionStore for L {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        call!(self, Claim(claim.clone()))
    }

    async fn claim_lapsed(&self, sweep: &Sweep) -> Result<Vec<Claimed>, StoreError> {
        call!(self, ClaimLapsed(sweep.clone()))
    }

    async fn heartbeat(
        &self,
        server: &ServerId,
        lease_duration: Duration,
        held: &[Lease],
    ) -> Result<Vec<Lease>, StoreError> {
        call!(
            self,
            Heartbeat(server.clone(), lease_duration, held.to_vec())
        )
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        call!(self, Release(lease.clone()))
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        call!(self, Append(lease.clone(), after, events.to_vec()))
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        call!(
            self,
            End(lease.clone(), after, events.to_vec(), claim.cloned())
        )
    }

    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError> {
        call!(self, SaveDrafts(drafts.to_vec()))
    }

    async fn read(
        &self,
        user: &UserId,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        call!(self, Read(user.clone(), session.clone(), after, limit))
    }

    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        call!(self, Session(user.clone(), session.clone()))
    }

    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        call!(self, TokensSpent(user.clone(), since))
    }
}

#[async_trait]
impl<L: Layer> JobStore for L {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        call!(self, ClaimJob(worker.clone(), lease_duration))
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        call!(self, RenewJob(job.clone(), lease_duration))
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        call!(self, FinishJob(job.clone(), summarized.clone()))
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        call!(self, ReleaseJob(job.clone(), release.clone()))
    }
}

#[async_trait]
impl<L: Layer> Store for L {
    async fn ping(&self) -> Result<(), StoreError> {
        call!(self, Ping())
    }

    async fn close(&self) {
        let closed = call!(self, Close());
        closed.expect("closing a store returns no error");
    }
}
