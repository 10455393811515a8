//! Why the task of a session is over.

use crate::store::StoreError;

/// Why the task of a session is over.
#[derive(Debug)]
pub(super) enum SessionExit {
    /// The session has ended.
    Ended,
    /// The session continues elsewhere or later.
    Released,
    /// The log could not be written.
    Failed(StoreError),
}

impl From<StoreError> for SessionExit {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}
