//! A clock that follows tokio's time, which tests can pause.

use duologue_engine::clock::Clock;
use duologue_protocol::Timestamp;
use tokio::time::Instant;

/// A clock that starts at a fixed moment and follows tokio's (possibly paused) time.
#[derive(Debug)]
pub struct TestClock {
    started: Instant,
}

impl TestClock {
    /// A clock that reads 2026-01-01T00:00:00Z now. Must be called within a runtime.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let epoch = Timestamp::from_second(1_767_225_600).expect("2026 is in range");
        epoch + self.started.elapsed()
    }
}
