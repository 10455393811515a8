//! How far away the database is: the time of a call that does nearly nothing, a heartbeat.
//!
//! The time of a batch says less, since it grows with the load. A heartbeat that took longer than the ones before
//! may only have met a busy moment, so the estimate at most doubles with each; a faster one counts at once.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// From here on a database is far away.
const LONG: Duration = Duration::from_millis(10);

/// Lets an estimate grow from nothing.
const GROWTH_MIN: Duration = Duration::from_millis(1);

/// See the module. In microseconds; 0 before the first heartbeat.
#[derive(Debug, Default)]
pub(super) struct RoundTrip(AtomicU64);

impl RoundTrip {
    /// A heartbeat took so long. Heartbeats come one after the other.
    pub(super) fn observe(&self, took: Duration) {
        let estimate = Duration::from_micros(self.0.load(Ordering::Relaxed));
        let estimate = if estimate.is_zero() {
            took
        } else {
            took.min(estimate * 2 + GROWTH_MIN)
        };
        let micros = u64::try_from(estimate.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros, Ordering::Relaxed);
    }

    /// Whether the database is so far away that the network, not the database, is what a batch waits for.
    pub(super) fn is_long(&self) -> bool {
        Duration::from_micros(self.0.load(Ordering::Relaxed)) > LONG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database next door that is busy now and then, and one that moves away.
    #[test]
    fn one_slow_heartbeat_is_not_a_distance_and_several_are() {
        let round_trip = RoundTrip::default();
        assert!(!round_trip.is_long());
        for millis in [1, 50, 1, 50, 50, 1] {
            round_trip.observe(Duration::from_millis(millis));
            assert!(!round_trip.is_long());
        }
        for _ in 0..4 {
            round_trip.observe(Duration::from_millis(80));
        }
        assert!(round_trip.is_long());
        round_trip.observe(Duration::from_millis(2));
        assert!(!round_trip.is_long());
    }
}
