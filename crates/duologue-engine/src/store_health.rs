//! Since when this server has been running without a pause, with a database that answers.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::lock::lock;

/// The health of the connection to the database, as the heartbeat observes it.
///
/// Only healthy time counts as time in which users could have reconnected.
pub(crate) struct StoreHealth {
    /// How long the server's lease lasts after a heartbeat.
    lease: Duration,
    health: Mutex<Health>,
}

struct Health {
    /// Start of the current healthy period.
    healthy_since: Option<Instant>,
    /// The last heartbeat; at first, the start of the server.
    beat_at: Instant,
}

impl StoreHealth {
    /// The health of a server that starts now.
    pub(crate) fn new(lease: Duration) -> Self {
        let health = Health {
            healthy_since: None,
            beat_at: Instant::now(),
        };
        Self {
            lease,
            health: Mutex::new(health),
        }
    }

    /// Start of the current healthy period; `None` while the database is unavailable, and after a pause
    /// until the next heartbeat.
    pub(crate) fn since(&self) -> Option<Instant> {
        let since = lock(&self.health).healthy_since;
        since.filter(|_| !self.has_lapsed())
    }

    /// The lease was renewed. If it had lapsed, a new period starts.
    pub(crate) fn record_heartbeat(&self) {
        let since = self.since();
        let now = Instant::now();
        let mut health = lock(&self.health);
        health.healthy_since = since.or(Some(now));
        health.beat_at = now;
    }

    /// The database did not answer.
    pub(crate) fn record_failure(&self) {
        lock(&self.health).healthy_since = None;
    }

    /// Whether the current healthy period has lasted at least `duration`.
    pub(crate) fn has_lasted(&self, duration: Duration) -> bool {
        self.since()
            .is_some_and(|since| Instant::now() >= since + duration)
    }

    /// Whether the server's lease may have lapsed, so that another server may claim its sessions.
    pub(crate) fn has_lapsed(&self) -> bool {
        Instant::now() - lock(&self.health).beat_at > self.lease
    }
}
