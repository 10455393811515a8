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
//!
//! A store that wraps another one is a [`Layer`](layer::Layer).

mod error;
mod jobs;
pub mod layer;
pub mod normalize;
pub mod operators;
mod server_id;
mod sessions;
pub(crate) mod spawned;

use async_trait::async_trait;

pub use self::{
    error::StoreError,
    jobs::{Job, JobClaim, JobEnd, JobRelease, JobStore},
    server_id::ServerId,
    sessions::{
        Abandoned, Claim, Claimed, Draft, Lease, SessionRecord, SessionStatus, SessionStore, Sweep,
    },
};
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
