//! Why a job has no result.

use crate::{BoxError, store::StoreError};

/// Why a job has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// Try again later.
    #[error("the job could not be done now")]
    Retry(#[source] BoxError),
    /// Trying again would not help.
    #[error("the job cannot be done")]
    GiveUp(#[source] BoxError),
    /// Another worker has the job.
    #[error("the job was lost to another worker")]
    Lost,
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Self::Lost,
            StoreError::Unavailable(_) => Self::Retry(error.into()),
            StoreError::Corrupt(_) => Self::GiveUp(error.into()),
        }
    }
}
