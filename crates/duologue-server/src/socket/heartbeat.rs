//! Whether the peer is still there, and whether the connection has lived long enough.
//!
//! TCP alone notices a vanished peer after a quarter of an hour. So each side of a silence is
//! bounded: we ping after `ping_interval`, and hear something within `pong_timeout`, or the peer is
//! dead. And no connection lives longer than `age_max`, so that clients spread over servers again
//! after a deploy, and their way of coming back is in use every day.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::SocketConfig;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Ask the peer for a sign of life.
    Ping,
    /// It gave none.
    Dead,
    /// Tell the peer that the connection will be closed soon.
    Notice,
    /// Close it.
    TooOld,
}

/// The clock of one connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    ping_interval: Duration,
    pong_timeout: Duration,
    ping_at: Instant,
    dead_at: Option<Instant>,
    notice_at: Option<Instant>,
    close_at: Instant,
}

impl Heartbeat {
    pub(super) fn start(config: &SocketConfig) -> Self {
        let now = Instant::now();
        let close_at = now + config.age_max;
        Self {
            ping_interval: config.ping_interval,
            pong_timeout: config.pong_timeout,
            ping_at: now + config.ping_interval,
            dead_at: None,
            notice_at: Some(close_at - config.age_notice.min(config.age_max)),
            close_at,
        }
    }

    /// The peer sent something, whatever it was.
    pub(super) fn heard(&mut self) {
        self.dead_at = None;
    }

    /// Waits for what is due next. Safe to cancel.
    pub(super) async fn next(&mut self) -> Beat {
        let (at, beat) = self.due();
        tokio::time::sleep_until(at).await;
        match beat {
            Beat::Ping => {
                let now = Instant::now();
                self.ping_at = now + self.ping_interval;
                self.dead_at.get_or_insert(now + self.pong_timeout);
            }
            Beat::Notice => self.notice_at = None,
            Beat::Dead | Beat::TooOld => {}
        }
        beat
    }

    fn due(&self) -> (Instant, Beat) {
        let dead = self.dead_at.map(|at| (at, Beat::Dead));
        let notice = self.notice_at.map(|at| (at, Beat::Notice));
        let always = [(self.ping_at, Beat::Ping), (self.close_at, Beat::TooOld)];
        let due = dead
            .into_iter()
            .chain(notice)
            .chain(always)
            .min_by_key(|(at, _)| *at);
        due.expect("two of the four are always there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    fn start() -> (Heartbeat, SocketConfig) {
        let loaded = config::load(None, &Environment::default(), Vec::new()).unwrap();
        let config = loaded.config.socket;
        (Heartbeat::start(&config), config)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_dead_one_ping_and_one_timeout_after_its_last_sign() {
        let started = Instant::now();
        let (mut heartbeat, config) = start();
        assert_eq!(heartbeat.next().await, Beat::Ping);
        assert_eq!(started.elapsed(), config.ping_interval);
        assert_eq!(heartbeat.next().await, Beat::Dead);
        assert_eq!(
            started.elapsed(),
            config.ping_interval + config.pong_timeout
        );
    }

    /// A peer that answers every ping is told of the end in time, and then let go.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_is_pinged_until_the_connection_is_too_old() {
        let started = Instant::now();
        let (mut heartbeat, config) = start();
        let mut pings = 0;
        loop {
            match heartbeat.next().await {
                Beat::Ping => pings += 1,
                Beat::Notice => {
                    assert_eq!(started.elapsed() + config.age_notice, config.age_max);
                }
                Beat::TooOld => break,
                Beat::Dead => panic!("it answered"),
            }
            heartbeat.heard();
        }
        assert_eq!(started.elapsed(), config.age_max);
        let expected = config.age_max.as_secs() / config.ping_interval.as_secs();
        assert!((expected - 1..=expected).contains(&pings), "{pings} pings");
    }
}
