//! Runs each store operation in a task of its own.
//!
//! An operation holds scarce things while it is under way: a connection, a transaction, row locks, a
//! permit. If its caller polls something else meanwhile, or drops the future, nobody advances the
//! operation and it keeps what it holds, so that every other operation waits. A task is always
//! polled, so an operation ends and releases what it holds whatever its caller does.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{
    Store, StoreError,
    layer::{Call, Layer, Reply},
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
}

impl Layer for SpawnedStore {
    /// Runs an operation to its end. A panic in it reaches the caller, as if called directly.
    async fn handle(&self, call: Call) -> Result<Reply, StoreError> {
        if let Call::Close() = call {
            self.operations.close();
            self.operations.wait().await;
            return call.make(&*self.store).await;
        }
        let store = Arc::clone(&self.store);
        let operation = async move { call.make(&*store).await };
        match self.operations.spawn(operation).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down.
                Err(cancelled) => Err(StoreError::Unavailable(cancelled.into())),
            },
        }
    }
}
