//! The seam to the database: sessions, their events, and the jobs they leave behind.
//!
//! A server holds a session under a [`Lease`] with an *epoch*, the fencing token that each claim raises; every
//! write names server and epoch and is refused under an old one. So a server that lost a session without
//! noticing cannot write to it. Leases are compared by the database's clock only.
//!
//! | trait | used by |
//! |---|---|
//! | [`SessionStore`] | sessions, and what reads their logs |
//! | [`JobStore`] | the workers |
//! | [`Store`] | the server: both, and the connection itself |
//! | [`OperatorStore`](operators::OperatorStore) | the commands of operators; no code that serves users |

mod jobs;
pub mod normalize;
pub mod operators;
mod sessions;
pub(crate) mod spawned;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use self::{
    jobs::{Job, JobEnd, JobRelease, JobStore},
    sessions::{Claim, Claimed, Draft, Lease, SessionRecord, SessionStatus, SessionStore},
};
use crate::BoxError;

/// Where sessions outlive the process.
///
/// One implementation per backend, chosen by configuration and shared as `Arc<dyn Store>`. An
/// implementation is correct when it passes the contract suite (`duologue-conformance`); nothing else
/// defines it.
///
/// Every write may be repeated by a caller that lost the answer: a repetition of what succeeded
/// changes nothing and succeeds.
///
/// What is kept differs from what was given in two ways, the same in every implementation: times
/// lose what is finer than a microsecond, and U+0000 becomes U+FFFD (see [`normalize`]).
#[async_trait]
pub trait Store: SessionStore + JobStore {
    /// One harmless round trip.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Finishes what is queued and closes the connections. The store must not be used after.
    async fn close(&self);
}

/// Why a store could not do what it was asked.
///
/// The variants answer "what should the caller do now?", so none of them names a driver. A missing
/// row is not an error: lookups return `Option`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer came first, or holds what the caller thought it held. Give it up.
    #[error("another writer came first")]
    Conflict,
    /// The backend did not answer, or not in time. Retry: every write may be repeated.
    #[error("the store is unavailable")]
    Unavailable(#[source] BoxError),
    /// The backend answered with something this build cannot read. Do not retry.
    #[error("the store holds data that this build cannot read")]
    Corrupt(#[source] BoxError),
}

/// One run of the server. Restarting makes a new one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServerId(pub String);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
