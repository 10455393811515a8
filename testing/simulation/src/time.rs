//! Simulated time: one for the trace, one for the database, and a clock for each server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use duologue_engine::clock::Clock;
use duologue_protocol::Timestamp;
use tokio::runtime::{Builder, EnterGuard, Runtime};

/// 2026-01-01T00:00:00Z, in milliseconds: when every simulation begins.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// How long the simulation has run. Clones are the same time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    /// The time since the beginning, to the last tick.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, now: Duration) {
        let now = now.as_millis().try_into().unwrap_or(u64::MAX);
        self.0.store(now, Ordering::Relaxed);
    }
}

/// A server's idea of the time of day, which may be wrong.
#[derive(Debug)]
pub(crate) struct SkewedClock {
    time: Time,
    offset_ms: Arc<AtomicI64>,
}

impl SkewedClock {
    pub(crate) fn new(time: Time, offset_ms: Arc<AtomicI64>) -> Self {
        Self { time, offset_ms }
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.time.now().as_millis()).unwrap_or(i64::MAX);
        let now = EPOCH_MS + elapsed + self.offset_ms.load(Ordering::Relaxed);
        Timestamp::from_millisecond(now).expect("simulations are short")
    }
}

/// The database's own clock, which leases are compared by.
///
/// Each simulated host has a runtime, and with it a clock of its own, which starts again with
/// the host. The store in memory asks tokio for the time, so it is entered into a runtime that
/// outlives them all.
#[derive(Debug)]
pub(crate) struct DatabaseClock {
    runtime: Runtime,
    time: Time,
}

impl DatabaseClock {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        Self {
            runtime: runtime.expect("a runtime without IO needs nothing"),
            time: Time::default(),
        }
    }

    /// The time that the trace bears, which goes with the database's.
    pub(crate) fn time(&self) -> Time {
        self.time.clone()
    }

    /// Goes on to `now`. Must be called outside of all runtimes.
    pub(crate) fn advance_to(&self, now: Duration) {
        let by = now.saturating_sub(self.time.now());
        self.runtime.block_on(tokio::time::advance(by));
        self.time.set(now);
    }

    /// A way to do something at the database's time.
    pub(crate) fn handle(&self) -> ClockHandle {
        ClockHandle(self.runtime.handle().clone())
    }
}

/// See [`DatabaseClock::handle`].
#[derive(Clone, Debug)]
pub(crate) struct ClockHandle(tokio::runtime::Handle);

impl ClockHandle {
    /// Until the guard is dropped, tokio's time is the database's.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.0.enter()
    }
}
