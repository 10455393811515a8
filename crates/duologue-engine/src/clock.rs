//! Where the time comes from.

use duologue_protocol::Timestamp;

/// Tells the time of day. Passed in, so that tests and simulations can have their own.
///
/// Only for timestamps that are kept or shown; durations are measured with
/// [`tokio::time::Instant`], and leases are compared by the database's own clock.
pub trait Clock: Send + Sync + 'static {
    /// The current time. It may step back; whoever needs order must see to it.
    fn now(&self) -> Timestamp;
}
