//! The waits between attempts to connect.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use fastrand::Rng;

/// How long a client waits before each attempt.
///
/// A wait is random, up to a bound that doubles with each attempt, so that clients which lost their
/// connections together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffOptions {
    /// The bound of the first wait.
    pub first_max: Duration,
    /// The largest bound.
    pub max: Duration,
    /// After this many attempts in a row the client gives up; `None`: it never does.
    pub attempts_max: Option<usize>,
}

impl Default for BackoffOptions {
    /// As `docs/protocol.md` recommends: from half a second to half a minute, without an end.
    fn default() -> Self {
        Self {
            first_max: Duration::from_millis(500),
            max: Duration::from_secs(30),
            attempts_max: None,
        }
    }
}

/// A series of waits. It starts over when a connection is established.
#[derive(Debug)]
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    bounds: ExponentialBackoff,
    rng: Rng,
}

impl Backoff {
    pub(crate) fn new(options: &BackoffOptions, rng: Rng) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(options.first_max)
            .with_max_delay(options.max);
        let builder = match options.attempts_max {
            Some(attempts_max) => builder.with_max_times(attempts_max),
            None => builder.without_max_times(),
        };
        Self {
            builder,
            bounds: builder.build(),
            rng,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.bounds = self.builder.build();
    }

    /// The next wait, or `None` when the attempts are used up.
    pub(crate) fn next_wait(&mut self) -> Option<Duration> {
        let bound = self.bounds.next()?;
        Some(bound.mul_f64(self.rng.f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_random_below_a_bound_that_doubles_up_to_its_maximum() {
        let mut longest = [Duration::ZERO; 9];
        for seed in 0..200 {
            let mut backoff = Backoff::new(&BackoffOptions::default(), Rng::with_seed(seed));
            for longest in &mut longest {
                *longest = (*longest).max(backoff.next_wait().unwrap());
            }
        }
        let mut bound = Duration::from_millis(500);
        for longest in longest {
            assert!(longest <= bound, "{longest:?} is above {bound:?}");
            assert!(longest > bound.mul_f64(0.8), "{longest:?} of {bound:?}");
            bound = (bound * 2).min(Duration::from_secs(30));
        }
    }

    #[test]
    fn attempts_end_and_start_over_after_a_reset() {
        let options = BackoffOptions {
            attempts_max: Some(3),
            ..BackoffOptions::default()
        };
        let mut backoff = Backoff::new(&options, Rng::with_seed(1));
        for _ in 0..3 {
            assert!(backoff.next_wait().is_some());
        }
        assert_eq!(backoff.next_wait(), None);
        backoff.reset();
        assert!(backoff.next_wait().is_some());
    }

    #[test]
    fn the_same_seed_waits_the_same() {
        let waits = |seed| {
            let mut backoff = Backoff::new(&BackoffOptions::default(), Rng::with_seed(seed));
            std::iter::repeat_with(move || backoff.next_wait())
                .take(5)
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }
}
