//! Whether the peer is still there.
//!
//! TCP alone notices a vanished peer after a quarter of an hour. So each side of a silence is
//! bounded: we ping after `ping_interval`, and hear something within `pong_timeout`, or the peer is
//! dead.

use std::time::Duration;

use tokio::time::Instant;

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Ask the peer for a sign of life.
    Ping,
    /// It gave none.
    Dead,
}

/// The clock of one connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    ping_interval: Duration,
    pong_timeout: Duration,
    ping_at: Instant,
    dead_at: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn start(ping_interval: Duration, pong_timeout: Duration) -> Self {
        let ping_at = Instant::now() + ping_interval;
        Self {
            ping_interval,
            pong_timeout,
            ping_at,
            dead_at: None,
        }
    }

    /// The peer sent something, whatever it was.
    pub(super) fn heard(&mut self) {
        self.dead_at = None;
    }

    /// Waits for what is due next. Safe to cancel.
    pub(super) async fn next(&mut self) -> Beat {
        match self.dead_at {
            Some(dead_at) if dead_at < self.ping_at => {
                tokio::time::sleep_until(dead_at).await;
                Beat::Dead
            }
            _ => {
                tokio::time::sleep_until(self.ping_at).await;
                let now = Instant::now();
                self.ping_at = now + self.ping_interval;
                self.dead_at.get_or_insert(now + self.pong_timeout);
                Beat::Ping
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: Duration = Duration::from_secs(25);
    const PONG: Duration = Duration::from_secs(8);

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_dead_one_ping_and_one_timeout_after_its_last_sign() {
        let started = Instant::now();
        let mut heartbeat = Heartbeat::start(PING, PONG);
        assert_eq!(heartbeat.next().await, Beat::Ping);
        assert_eq!(started.elapsed(), PING);
        assert_eq!(heartbeat.next().await, Beat::Dead);
        assert_eq!(started.elapsed(), PING + PONG);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_is_pinged_again_and_again() {
        let mut heartbeat = Heartbeat::start(PING, PONG);
        for _ in 0..10 {
            assert_eq!(heartbeat.next().await, Beat::Ping);
            heartbeat.heard();
        }
    }
}
