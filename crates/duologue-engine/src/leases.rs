//! The leases that this server holds, one for each session with a running task.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio_util::sync::CancellationToken;

use crate::{lock::lock, store::Lease};

/// The leases of all sessions on this server; the lease renewer renews them. A lease that is not
/// registered expires: that of a session whose task is gone, or of a claim that took effect although
/// its answer was lost.
///
/// They are in order, so that a simulated server renews them in the same order every time.
#[derive(Default)]
pub(crate) struct LeaseRegistry(Mutex<BTreeMap<Lease, CancellationToken>>);

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

    /// All registered leases, in order.
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

#[cfg(test)]
mod tests {
    use duologue_protocol::{SessionId, UserId};

    use super::*;
    use crate::store::ServerId;

    fn lease(number: u32) -> Lease {
        Lease {
            session_id: SessionId::new(&format!("session-{number:03}")).unwrap(),
            user_id: UserId::new("user").unwrap(),
            server: ServerId("server".to_owned()),
            epoch: 1,
        }
    }

    /// Goal: what a server does follows from its inputs alone. A hash map would list its entries in
    /// another order in each process.
    #[test]
    fn leases_are_listed_in_order_however_they_were_registered() {
        let registry = Arc::new(LeaseRegistry::default());
        let numbers = (0..100).map(|number| number * 37 % 100);
        let guards: Vec<_> = numbers.map(|number| registry.hold(lease(number))).collect();
        assert_eq!(registry.all(), (0..100).map(lease).collect::<Vec<_>>());
        drop(guards);
        assert_eq!(registry.all(), []);
    }
}
