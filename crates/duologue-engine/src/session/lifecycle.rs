//! How long a session lives: whether it is active, draining or ending, and its deadlines.
//!
//! Pure: every method receives the time, and the session's task waits for the deadlines.

use std::time::Duration;

use duologue_protocol::EndReason;
use tokio::time::Instant;

/// Why the next deadline matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// The server is stopping, and it is this session's turn to be released.
    Release,
    /// No reader came back in time.
    Grace,
    /// Its user sent no message for too long.
    Idle,
    /// No turn could be started, and perhaps one can now.
    HeldBack,
}

/// What a session does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterTurn {
    /// It starts the turn of the next message.
    Continue,
    /// It ends.
    End(EndReason),
    /// It is released, because the server is stopping.
    Release,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lifecycle {
    resume_grace: Duration,
    idle_timeout: Duration,
    /// Set if the session ends as soon as its turn is over.
    ending: Option<EndReason>,
    /// Whether the server is stopping.
    is_draining: bool,
    /// When the session is released, if the drain started between turns.
    release_at: Option<Instant>,
    /// When the session ends unless a reader comes. Only while it has none.
    grace_until: Option<Instant>,
    /// When the session ends unless its user sends a message.
    idle_until: Instant,
    /// When to look whether turns may start again. Only while they may not.
    held_back_until: Option<Instant>,
}

impl Lifecycle {
    /// A session without readers, which ends unless one comes within `first_grace`.
    pub(super) fn new(
        (resume_grace, idle_timeout): (Duration, Duration),
        first_grace: Duration,
        now: Instant,
    ) -> Self {
        Self {
            resume_grace,
            idle_timeout,
            ending: None,
            is_draining: false,
            release_at: None,
            grace_until: Some(now + first_grace),
            idle_until: now + idle_timeout,
            held_back_until: None,
        }
    }

    /// Whether the server is stopping.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Whether the session ends after the running turn.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// The next deadline. During a turn there is none. A session that drains is only released: what
    /// happens while the server is stopping is no reason to end.
    pub(super) fn next_deadline(&self, has_turn: bool) -> Option<(Instant, Deadline)> {
        if has_turn {
            return None;
        }
        if self.is_draining {
            return self.release_at.map(|at| (at, Deadline::Release));
        }
        let deadlines = [
            self.held_back_until.map(|at| (at, Deadline::HeldBack)),
            self.grace_until.map(|at| (at, Deadline::Grace)),
            Some((self.idle_until, Deadline::Idle)),
        ];
        deadlines.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Turns may not start, and it is time to look again at this moment; or they may.
    pub(super) fn hold_back(&mut self, until: Option<Instant>) {
        self.held_back_until = until;
    }

    /// A reader has come.
    pub(super) fn reader_attached(&mut self, now: Instant) {
        self.grace_until = None;
        self.idle_until = now + self.idle_timeout;
    }

    /// The last reader is gone.
    pub(super) fn last_reader_lost(&mut self, now: Instant) {
        self.grace_until = Some(now + self.resume_grace);
    }

    /// The grace deadline has passed. Whether it counts: only time in which storage was available does,
    /// as users cannot reconnect without it. Otherwise the grace restarts at `healthy_since`.
    pub(super) fn is_grace_over(&mut self, now: Instant, healthy_since: Option<Instant>) -> bool {
        let grace_until = healthy_since.unwrap_or(now) + self.resume_grace;
        if grace_until > now {
            self.grace_until = Some(grace_until);
        }
        grace_until <= now
    }

    /// The session is to end after the running turn. The first reason counts.
    pub(super) fn end_after_turn(&mut self, reason: EndReason) {
        self.ending.get_or_insert(reason);
    }

    /// A turn is over.
    pub(super) fn turn_ended(&mut self, now: Instant) -> AfterTurn {
        self.idle_until = now + self.idle_timeout;
        match self.ending {
            Some(reason) => AfterTurn::End(reason),
            None if self.is_draining => AfterTurn::Release,
            None => AfterTurn::Continue,
        }
    }

    /// The server is stopping. With `release_at` the session is released then, else after its turn.
    pub(super) fn start_draining(&mut self, release_at: Option<Instant>) {
        self.is_draining = true;
        self.release_at = release_at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_mins(10);

    fn new(now: Instant) -> Lifecycle {
        Lifecycle::new((GRACE, IDLE), GRACE, now)
    }

    #[test]
    fn a_session_without_readers_waits_for_one_and_then_for_messages() {
        let now = Instant::now();
        let mut lifecycle = new(now);
        let grace = (now + GRACE, Deadline::Grace);
        assert_eq!(lifecycle.next_deadline(false), Some(grace));
        let later = now + GRACE / 2;
        lifecycle.reader_attached(later);
        let idle = (later + IDLE, Deadline::Idle);
        assert_eq!(lifecycle.next_deadline(false), Some(idle));
        lifecycle.last_reader_lost(later);
        let grace = (later + GRACE, Deadline::Grace);
        assert_eq!(lifecycle.next_deadline(false), Some(grace));
    }

    #[test]
    fn the_earlier_deadline_counts() {
        let now = Instant::now();
        let mut lifecycle = new(now);
        let late = now + IDLE - GRACE / 2;
        lifecycle.last_reader_lost(late);
        let idle = (now + IDLE, Deadline::Idle);
        assert_eq!(lifecycle.next_deadline(false), Some(idle));
    }

    #[test]
    fn nothing_ends_a_session_during_a_turn_and_the_turns_end_extends_its_idle_time() {
        let now = Instant::now();
        let mut lifecycle = new(now);
        lifecycle.reader_attached(now);
        assert_eq!(lifecycle.next_deadline(true), None);
        let later = now + IDLE * 2;
        assert_eq!(lifecycle.turn_ended(later), AfterTurn::Continue);
        let idle = (later + IDLE, Deadline::Idle);
        assert_eq!(lifecycle.next_deadline(false), Some(idle));
    }

    #[test]
    fn the_grace_counts_only_while_storage_is_available() {
        let now = Instant::now();
        let mut lifecycle = new(now);
        let over = now + GRACE;
        assert!(!lifecycle.is_grace_over(over, None));
        let grace = (over + GRACE, Deadline::Grace);
        assert_eq!(lifecycle.next_deadline(false), Some(grace));
        let healthy_since = over + GRACE / 2;
        assert!(!lifecycle.is_grace_over(over + GRACE, Some(healthy_since)));
        let grace = (healthy_since + GRACE, Deadline::Grace);
        assert_eq!(lifecycle.next_deadline(false), Some(grace));
        assert!(lifecycle.is_grace_over(healthy_since + GRACE, Some(healthy_since)));
    }

    #[test]
    fn a_session_that_may_start_no_turn_looks_again() {
        let now = Instant::now();
        let mut lifecycle = new(now);
        lifecycle.reader_attached(now);
        let soon = now + Duration::from_secs(1);
        lifecycle.hold_back(Some(soon));
        let look = (soon, Deadline::HeldBack);
        assert_eq!(lifecycle.next_deadline(false), Some(look));
        lifecycle.hold_back(None);
        let idle = (now + IDLE, Deadline::Idle);
        assert_eq!(lifecycle.next_deadline(false), Some(idle));
    }

    #[test]
    fn a_draining_session_is_only_released() {
        let now = Instant::now();
        let mut lifecycle = new(now);
        let release_at = now + GRACE * 2;
        lifecycle.start_draining(Some(release_at));
        let release = (release_at, Deadline::Release);
        assert_eq!(lifecycle.next_deadline(false), Some(release));
        assert!(lifecycle.is_draining());
    }

    #[test]
    fn a_session_that_drains_during_a_turn_is_released_after_it_unless_it_ends() {
        let now = Instant::now();
        let mut lifecycle = new(now);
        lifecycle.start_draining(None);
        assert_eq!(lifecycle.turn_ended(now), AfterTurn::Release);
        lifecycle.end_after_turn(EndReason::Requested);
        lifecycle.end_after_turn(EndReason::Closed);
        assert!(lifecycle.is_ending());
        assert_eq!(
            lifecycle.turn_ended(now),
            AfterTurn::End(EndReason::Requested)
        );
    }
}
