//! The time of day, and durations as they are sent and stored.

use std::time::Duration;

use duologue_protocol::Timestamp;

/// Returns the time of day. Passed in, so that tests and simulations can replace it.
///
/// Only for timestamps that are stored or shown; durations are measured with
/// [`tokio::time::Instant`], and leases are compared by the database's clock.
pub trait Clock: Send + Sync + 'static {
    /// The current time. It may step back; a caller that needs order must enforce it.
    fn now(&self) -> Timestamp;
}

/// A duration in whole milliseconds, as frames and events state it.
pub fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
