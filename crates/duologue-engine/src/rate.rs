//! How often something may happen: so many times in a period, and so many at once.
//!
//! The arithmetic is governor's; the time is tokio's, so that tests can pause it.

use std::{num::NonZeroU32, sync::Mutex, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use crate::lock::lock;

/// Counts what happens for one address, user or connection. Cheap enough to have many.
#[derive(Debug)]
pub struct Rate {
    limiter: RateLimiter<NotKeyed, InMemoryState, PausableClock, NoOpMiddleware<Duration>>,
    /// How long it takes until all that was used is there again.
    refill: Duration,
    last_asked: Mutex<Instant>,
}

/// The time since a limiter was made.
#[derive(Clone, Copy, Debug)]
struct PausableClock(Instant);

impl Clock for PausableClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Rate {
    /// `count` times in a `period` in the long run, and `burst` times at once.
    pub fn new(count: NonZeroU32, period: Duration, burst: NonZeroU32) -> Self {
        // A rate beyond one in a nanosecond is no limit that anything could reach.
        let interval = (period / count.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(interval).expect("the interval is more than zero");
        let clock = PausableClock(Instant::now());
        Self {
            limiter: RateLimiter::direct_with_clock(quota.allow_burst(burst), clock),
            refill: interval.saturating_mul(burst.get()),
            last_asked: Mutex::new(clock.0),
        }
    }

    /// `count` times a minute, all of them at once if need be.
    pub fn per_minute(count: NonZeroU32) -> Self {
        Self::new(count, Duration::from_mins(1), count)
    }

    /// Takes one. If there is none: how long until there is. Asking in vain costs nothing.
    pub fn take(&self) -> Result<(), Duration> {
        let now = Instant::now();
        *lock(&self.last_asked) = now;
        self.limiter.check().map_err(|refused| {
            let wait = refused.earliest_possible().duration_since(self.elapsed());
            wait.into()
        })
    }

    fn elapsed(&self) -> Duration {
        self.limiter.clock().now()
    }

    /// Whether it is equivalent to a new one, so that evicting it lifts no limit.
    pub fn is_idle(&self) -> bool {
        let last_asked = *lock(&self.last_asked);
        last_asked.elapsed() >= self.refill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_followed_by_the_rate_and_the_wait_is_told() {
        let rate = Rate::new(number(10), Duration::from_secs(1), number(3));
        for _ in 0..3 {
            rate.take().unwrap();
        }
        let wait = rate.take().unwrap_err();
        assert!(wait > Duration::from_millis(90) && wait <= Duration::from_millis(100));
        tokio::time::sleep(wait).await;
        rate.take().unwrap();
        rate.take().unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_when_all_is_there_again() {
        let rate = Rate::per_minute(number(6));
        assert!(!rate.is_idle());
        rate.take().unwrap();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(!rate.is_idle());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(rate.is_idle());
    }
}
