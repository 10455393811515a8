//! Since when this server has been running without a pause, with a database that answers.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::lock::lock;

/// The health of the connection to the database, as the lease renewer observes it.
///
/// Only healthy time counts as time in which users could have reconnected.
#[derive(Default)]
pub(crate) struct StoreHealth(Mutex<HealthySince>);

#[derive(Default)]
struct HealthySince {
    since: Option<Instant>,
    renewed_at: Option<Instant>,
}

impl StoreHealth {
    /// Start of the current healthy period; `None` while the database is unavailable.
    pub(crate) fn since(&self) -> Option<Instant> {
        lock(&self.0).since
    }

    /// The leases were renewed. A renewal so late that they had expired starts a new period.
    pub(crate) fn record_renewal(&self, lease_duration: Duration) {
        let now = Instant::now();
        let mut healthy = lock(&self.0);
        if healthy
            .renewed_at
            .is_none_or(|before| now - before > lease_duration)
        {
            healthy.since = Some(now);
        }
        healthy.renewed_at = Some(now);
    }

    /// The database did not answer.
    pub(crate) fn record_failure(&self) {
        *lock(&self.0) = HealthySince::default();
    }

    /// Whether the current healthy period has lasted at least `duration`.
    pub(crate) fn has_lasted(&self, duration: Duration) -> bool {
        self.since()
            .is_some_and(|since| Instant::now() >= since + duration)
    }
}
