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

/// A clock that starts at a fixed moment and follows tokio's (possibly paused) time.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub struct TestClock {
    started: tokio::time::Instant,
}

#[cfg(feature = "testing")]
impl TestClock {
    /// A clock that says 2026-01-01T00:00:00Z now. Must be called within a runtime.
    pub fn start() -> Self {
        Self {
            started: tokio::time::Instant::now(),
        }
    }
}

#[cfg(feature = "testing")]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let epoch = Timestamp::from_second(1_767_225_600).expect("2026 is in range");
        epoch + self.started.elapsed()
    }
}
