//! The sessions that this server holds in the database: those with a running task, and those whose task is
//! gone although nobody has released them.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex},
    time::Duration,
};

use duologue_protocol::{SessionId, UserId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    lock::lock,
    store::{Abandoned, Lease},
};

/// How many abandoned sessions are remembered. During a long outage every attempt to open a session may add
/// one. What is forgotten stays active until this server is gone.
const ABANDONED_MAX: usize = 10_000;

/// See the module. All are in order, so that a simulated server names them in the same order every time.
#[derive(Default)]
pub(crate) struct LeaseRegistry(Mutex<Leases>);

#[derive(Default)]
struct Leases {
    /// Each with what notifies it when it is lost.
    held: BTreeMap<Lease, CancellationToken>,
    abandoned: BTreeMap<(SessionId, UserId), AbandonedSince>,
}

#[derive(Clone, Copy)]
struct AbandonedSince {
    at: Instant,
    epoch: Option<u64>,
}

impl LeaseRegistry {
    /// Registers the lease of a session that has a task, until the guard is dropped.
    pub(crate) fn hold(self: &Arc<Self>, lease: Lease) -> LeaseGuard {
        let lost = CancellationToken::new();
        let mut leases = lock(&self.0);
        leases.abandoned.remove(&key(&lease));
        leases.held.insert(lease.clone(), lost.clone());
        LeaseGuard {
            registry: Arc::clone(self),
            lease,
            lost,
            is_settled: false,
        }
    }

    /// Up to `limit` registered leases after the one given, in order.
    pub(crate) fn after(&self, last: Option<&Lease>, limit: usize) -> Vec<Lease> {
        let start = last.map_or(Bound::Unbounded, Bound::Excluded);
        let leases = lock(&self.0);
        let after = leases.held.range((start, Bound::Unbounded)).take(limit);
        after.map(|(lease, _)| lease.clone()).collect()
    }

    /// Notifies the session that another server has taken it over.
    pub(crate) fn mark_lost(&self, lease: &Lease) {
        if let Some(lost) = lock(&self.0).held.get(lease) {
            lost.cancel();
        }
    }

    /// Remembers a session that this server has claimed, or may have: then the epoch is unknown.
    pub(crate) fn abandon(&self, session_id: SessionId, user_id: UserId, epoch: Option<u64>) {
        let abandoned = &mut lock(&self.0).abandoned;
        if abandoned.len() < ABANDONED_MAX {
            let at = Instant::now();
            abandoned.insert((session_id, user_id), AbandonedSince { at, epoch });
        } else {
            tracing::warn!(abandoned_max = ABANDONED_MAX, "leases.too_many_abandoned");
        }
    }

    /// Up to `limit` sessions that were abandoned longer ago than `grace`.
    pub(crate) fn abandoned_for(&self, grace: Duration, limit: usize) -> Vec<Abandoned> {
        let now = Instant::now();
        let leases = lock(&self.0);
        let due = leases
            .abandoned
            .iter()
            .filter(|(_, since)| since.at + grace <= now);
        let due = due
            .take(limit)
            .map(|((session_id, user_id), since)| Abandoned {
                session_id: session_id.clone(),
                user_id: user_id.clone(),
                epoch: since.epoch,
            });
        due.collect()
    }

    /// Forgets these abandoned sessions.
    pub(crate) fn forget(&self, abandoned: &[Abandoned]) {
        let mut leases = lock(&self.0);
        for session in abandoned {
            let key = (session.session_id.clone(), session.user_id.clone());
            leases.abandoned.remove(&key);
        }
    }
}

fn key(lease: &Lease) -> (SessionId, UserId) {
    (lease.session_id.clone(), lease.user_id.clone())
}

/// A registered lease. If it is dropped unsettled, the session counts as abandoned.
pub(crate) struct LeaseGuard {
    registry: Arc<LeaseRegistry>,
    lease: Lease,
    lost: CancellationToken,
    is_settled: bool,
}

impl LeaseGuard {
    /// Cancelled when the store reports that another server has taken over the session.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// This server does not hold the session any more: it has ended, was released, or is another's.
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        lock(&self.registry.0).held.remove(&self.lease);
        if !self.is_settled {
            let (session_id, user_id) = key(&self.lease);
            self.registry
                .abandon(session_id, user_id, Some(self.lease.epoch));
        }
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
        assert_eq!(
            registry.after(None, usize::MAX),
            (0..100).map(lease).collect::<Vec<_>>()
        );
        drop(guards);
        assert_eq!(registry.after(None, usize::MAX), []);
    }
}
