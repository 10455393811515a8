//! Liveness of the client, and the maximum age of a connection.
//!
//! TCP alone detects a vanished peer only after about 15 minutes. So the server sends a ping after
//! `ping_interval`, and treats the client as dead if nothing arrives within `pong_timeout`. A
//! connection is closed at `age_max`, so that clients are distributed over the servers again after a
//! deploy, and so that reconnecting is exercised every day.

use std::time::Duration;

use duologue_engine::rearmed_timer::RearmedTimer;
use tokio::time::Instant;

use crate::config::SocketConfig;

/// An event that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeartbeatEvent {
    /// Send a ping.
    Ping,
    /// Nothing arrived in time after a ping.
    Dead,
    /// Announce that the connection will be closed soon.
    AgeNotice,
    /// Close it.
    TooOld,
}

/// The timers of one connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    ping_interval: Duration,
    pong_timeout: Duration,
    ping_at: Instant,
    dead_at: Option<Instant>,
    notice_at: Option<Instant>,
    close_at: Instant,
    timer: RearmedTimer,
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
            timer: RearmedTimer::default(),
        }
    }

    /// Notes that the client sent something.
    pub(super) fn received(&mut self) {
        self.dead_at = None;
    }

    /// Waits for the next event. Safe to cancel.
    pub(super) async fn next(&mut self) -> HeartbeatEvent {
        let (at, event) = self.due();
        self.timer.wait_until(at).await;
        match event {
            HeartbeatEvent::Ping => {
                let now = Instant::now();
                self.ping_at = now + self.ping_interval;
                self.dead_at.get_or_insert(now + self.pong_timeout);
            }
            HeartbeatEvent::AgeNotice => self.notice_at = None,
            HeartbeatEvent::Dead | HeartbeatEvent::TooOld => {}
        }
        event
    }

    fn due(&self) -> (Instant, HeartbeatEvent) {
        let dead = self.dead_at.map(|at| (at, HeartbeatEvent::Dead));
        let notice = self.notice_at.map(|at| (at, HeartbeatEvent::AgeNotice));
        let always = [
            (self.ping_at, HeartbeatEvent::Ping),
            (self.close_at, HeartbeatEvent::TooOld),
        ];
        let due = dead
            .into_iter()
            .chain(notice)
            .chain(always)
            .min_by_key(|(at, _)| *at);
        due.expect("two of the four are always set")
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
    async fn a_silent_client_is_dead_one_ping_and_one_timeout_after_its_last_frame() {
        let started = Instant::now();
        let (mut heartbeat, config) = start();
        assert_eq!(heartbeat.next().await, HeartbeatEvent::Ping);
        assert_eq!(started.elapsed(), config.ping_interval);
        assert_eq!(heartbeat.next().await, HeartbeatEvent::Dead);
        assert_eq!(
            started.elapsed(),
            config.ping_interval + config.pong_timeout
        );
    }

    /// A client that answers every ping receives a notice before the connection is closed.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_is_pinged_until_the_connection_is_too_old() {
        let started = Instant::now();
        let (mut heartbeat, config) = start();
        let mut pings = 0;
        loop {
            match heartbeat.next().await {
                HeartbeatEvent::Ping => pings += 1,
                HeartbeatEvent::AgeNotice => {
                    assert_eq!(started.elapsed() + config.age_notice, config.age_max);
                }
                HeartbeatEvent::TooOld => break,
                HeartbeatEvent::Dead => panic!("it answered"),
            }
            heartbeat.received();
        }
        assert_eq!(started.elapsed(), config.age_max);
        let expected = config.age_max.as_secs() / config.ping_interval.as_secs();
        assert!((expected - 1..=expected).contains(&pings), "{pings} pings");
    }
}
