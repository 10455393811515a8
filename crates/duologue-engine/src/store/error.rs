//! The error of every operation of a store.

use crate::BoxError;

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
