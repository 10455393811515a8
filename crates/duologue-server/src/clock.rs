//! The system clock.

use duologue_engine::clock::Clock;
use duologue_protocol::Timestamp;

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that is passed in"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
