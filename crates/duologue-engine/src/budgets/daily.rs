//! What was spent today, and what may still be spent by what runs.

use std::time::Duration;

use duologue_protocol::Timestamp;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// See the module. The day is that of UTC.
#[derive(Debug, Default)]
pub(crate) struct DailyBudget {
    /// Days since 1970 began.
    day: i64,
    spent: u64,
    reserved: u64,
}

impl DailyBudget {
    /// Whether anything may be spent.
    pub(super) fn may_spend(&mut self, max: u64, now: Timestamp) -> bool {
        self.may_go_on(0, 0, max, now)
    }

    /// Whether a turn that has used so much, which is not booked yet, may go on. What it reserved for
    /// itself does not count against it.
    pub(super) fn may_go_on(&mut self, used: u64, reserve: u64, max: u64, now: Timestamp) -> bool {
        self.roll_over(now);
        let by_others = self.reserved.saturating_sub(reserve);
        self.spent.saturating_add(by_others).saturating_add(used) < max
    }

    /// Spends. How much was spent before, and is now.
    pub(super) fn spend(&mut self, tokens: u64, now: Timestamp) -> (u64, u64) {
        self.roll_over(now);
        let before = self.spent;
        self.spent = before.saturating_add(tokens);
        (before, self.spent)
    }

    /// Learns what was spent by all. It may lack what was spent here and is only just being stored.
    pub(super) fn learn(&mut self, spent: u64, now: Timestamp) {
        self.roll_over(now);
        self.spent = self.spent.max(spent);
    }

    pub(super) fn reserve(&mut self, tokens: u64) {
        self.reserved = self.reserved.saturating_add(tokens);
    }

    pub(super) fn unreserve(&mut self, tokens: u64) {
        self.reserved = self.reserved.saturating_sub(tokens);
    }

    /// A new day begins with nothing spent. A clock that steps back does not bring the old one back.
    fn roll_over(&mut self, now: Timestamp) {
        let today = now.as_second().div_euclid(DAY_SECONDS);
        if today > self.day {
            self.day = today;
            self.spent = 0;
        }
    }
}

/// When the day began, in UTC.
pub(super) fn day_start(now: Timestamp) -> Timestamp {
    let second = now.as_second();
    let start = second - second.rem_euclid(DAY_SECONDS);
    Timestamp::from_second(start).expect("a day that has been reached has begun")
}

/// How long until the next day begins, in UTC.
pub(super) fn until_tomorrow(now: Timestamp) -> Duration {
    let left = DAY_SECONDS - now.as_second().rem_euclid(DAY_SECONDS);
    Duration::from_secs(left.unsigned_abs())
}
