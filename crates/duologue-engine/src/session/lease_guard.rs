//! What this server holds, as long as there is a task that holds it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::{engine::Context, store::Lease};

/// The holds of all sessions that live on this server, for the keeper to renew. What is not in here
/// lapses by itself: a session whose task is gone, or whose claim had an effect but no answer.
#[derive(Default)]
pub(crate) struct LeaseRegistry(Mutex<HashMap<Lease, CancellationToken>>);

impl LeaseRegistry {
    /// All that is held now.
    pub(crate) fn all(&self) -> Vec<Lease> {
        self.lock().keys().cloned().collect()
    }

    /// Tells the session that it is another server's now.
    pub(crate) fn lose(&self, lease: &Lease) {
        if let Some(lost) = self.lock().get(lease) {
            lost.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lease, CancellationToken>> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hold that is renewed until this is dropped.
pub(super) struct LeaseGuard {
    context: Arc<Context>,
    lease: Lease,
    lost: CancellationToken,
}

impl LeaseGuard {
    pub(super) fn new(context: Arc<Context>, lease: Lease) -> Self {
        let lost = CancellationToken::new();
        context.leases.lock().insert(lease.clone(), lost.clone());
        Self {
            context,
            lease,
            lost,
        }
    }

    /// Cancelled when the store says that the session is another server's now.
    pub(super) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.context.leases.lock().remove(&self.lease);
    }
}
