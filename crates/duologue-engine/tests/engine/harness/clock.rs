//! A clock that a test can set back.

use std::{sync::Mutex, time::Duration};

use duologue_doubles::clock::TestClock;
use duologue_engine::clock::Clock;
use jiff::Timestamp;

/// Follows paused time, behind it by what it was set back.
#[derive(Debug)]
pub(crate) struct SteppingClock {
    clock: TestClock,
    behind: Mutex<Duration>,
}

impl SteppingClock {
    pub(super) fn start() -> Self {
        Self {
            clock: TestClock::start(),
            behind: Mutex::default(),
        }
    }

    pub(crate) fn step_back(&self, by: Duration) {
        *self.behind.lock().expect("no holder panics") += by;
    }
}

impl Clock for SteppingClock {
    fn now(&self) -> Timestamp {
        self.clock.now() - *self.behind.lock().expect("no holder panics")
    }
}
