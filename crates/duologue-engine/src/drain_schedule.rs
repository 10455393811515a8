//! When a stopping server releases each session, and when its clients are asked to reconnect.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use duologue_protocol::SessionId;

/// How much each session adds to the window: a hundred reconnecting clients a second are no overload.
const WINDOW_PER_SESSION: Duration = Duration::from_millis(10);

/// The shortest wait before reconnecting, so that a client does not reach the stopping server again.
const RECONNECT_AFTER_MIN: Duration = Duration::from_millis(500);

/// Spreads the release of sessions, and the return of their clients, over a window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DrainSchedule {
    window: Duration,
}

impl DrainSchedule {
    /// The schedule for this many sessions, within `window_max`.
    pub(crate) fn of(sessions: usize, window_max: Duration) -> Self {
        let count = u32::try_from(sessions).unwrap_or(u32::MAX);
        Self {
            window: WINDOW_PER_SESSION.saturating_mul(count).min(window_max),
        }
    }

    /// How long after the start of the drain a session is released.
    pub(crate) fn release_delay(&self, session: &SessionId) -> Duration {
        self.window.mul_f64(fraction(session, "leave"))
    }

    /// How long after its release its clients are asked to wait.
    pub(crate) fn reconnect_after(&self, session: &SessionId) -> Duration {
        RECONNECT_AFTER_MIN + self.window.mul_f64(fraction(session, "return"))
    }
}

/// A pseudo-random number in `0..1`, the same for the same session and purpose.
fn fraction(session: &SessionId, what: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    session.as_str().hash(&mut hasher);
    what.hash(&mut hasher);
    let drawn = u32::try_from(hasher.finish() >> 32).expect("half of it fits");
    f64::from(drawn) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand sessions: in each tenth of the window about a hundred leave, and return.
    #[test]
    fn departures_and_returns_are_spread_evenly() {
        let drain_schedule = DrainSchedule::of(1000, Duration::from_secs(10));
        let mut tenths = [[0_u32; 10]; 2];
        for number in 0..1000 {
            let session = SessionId::new(&format!("session-{number}")).expect("an id");
            let leave = drain_schedule.release_delay(&session);
            let back = drain_schedule.reconnect_after(&session);
            let back = back.saturating_sub(RECONNECT_AFTER_MIN);
            for (tenths, time) in tenths.iter_mut().zip([leave, back]) {
                tenths[usize::try_from(time.as_secs()).expect("a few seconds")] += 1;
            }
        }
        for tenth in tenths.concat() {
            assert!((60..140).contains(&tenth), "{tenths:?}");
        }
    }

    #[test]
    fn few_sessions_take_less_time_and_none_takes_longer_than_the_window() {
        let session = SessionId::new("s").expect("an id");
        let window = Duration::from_secs(10);
        for (sessions, window_max, at_most) in [
            (1, window, Duration::from_millis(10)),
            (100, window, Duration::from_secs(1)),
            (usize::MAX, window, window),
            (1000, Duration::ZERO, Duration::ZERO),
        ] {
            let drain_schedule = DrainSchedule::of(sessions, window_max);
            assert!(
                drain_schedule.release_delay(&session) <= at_most,
                "{sessions}"
            );
        }
    }
}
