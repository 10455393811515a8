//! The leases that this server holds, one for each session with a running task.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio_util::sync::CancellationToken;

use crate::{lock::lock, store::Lease};

/// The leases of all sessions on this server; the lease renewer renews them. A lease that is not
/// registered lapses: that of a session whose task is gone, or of a claim that took effect although
/// its answer was lost.
#[derive(Default)]
pub(crate) struct LeaseRegistry(Mutex<HashMap<Lease, CancellationToken>>);

impl LeaseRegistry {
    /// Registers a lease, which is renewed until the guard is dropped.
    pub(crate) fn hold(self: &Arc<Self>, lease: Lease) -> LeaseGuard {
        let lost = CancellationToken::new();
        lock(&self.0).insert(lease.clone(), lost.clone());
        LeaseGuard {
            registry: Arc::clone(self),
            lease,
            lost,
        }
    }

    /// All registered leases.
    pub(crate) fn all(&self) -> Vec<Lease> {
        lock(&self.0).keys().cloned().collect()
    }

    /// Notifies the session that another server has taken it over.
    pub(crate) fn mark_lost(&self, lease: &Lease) {
        if let Some(lost) = lock(&self.0).get(lease) {
            lost.cancel();
        }
    }
}

/// A registered lease. Dropping it ends the renewal.
pub(crate) struct LeaseGuard {
    registry: Arc<LeaseRegistry>,
    lease: Lease,
    lost: CancellationToken,
}

impl LeaseGuard {
    /// Cancelled when the store reports that another server has taken over the session.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        lock(&self.registry.0).remove(&self.lease);
    }
}
