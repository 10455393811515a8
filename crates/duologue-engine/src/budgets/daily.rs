//! The tokens spent and reserved today, against a daily limit.

use std::time::Duration;

use duologue_protocol::Timestamp;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// See the module. Days are those of UTC.
#[derive(Debug, Default)]
pub(crate) struct DailyBudget {
    /// Days since 1970.
    day: i64,
    spent: u64,
    reserved: u64,
}

impl DailyBudget {
    /// Whether anything may be spent.
    pub(super) fn may_spend(&mut self, max: u64, now: Timestamp) -> bool {
        self.may_go_on(0, 0, max, now)
    }

    /// Whether a turn that has used `used`, which is not charged yet, may continue. Its own reservation
    /// does not count against it.
    pub(super) fn may_go_on(&mut self, used: u64, reserve: u64, max: u64, now: Timestamp) -> bool {
        self.roll_over(now);
        let by_others = self.reserved.saturating_sub(reserve);
        self.spent.saturating_add(by_others).saturating_add(used) < max
    }

    /// Charges tokens. Returns the spending before and after.
    pub(super) fn spend(&mut self, tokens: u64, now: Timestamp) -> (u64, u64) {
        self.roll_over(now);
        let before = self.spent;
        self.spent = before.saturating_add(tokens);
        (before, self.spent)
    }

    /// Updates the spending with a sum over all servers, read for the day of `asked_at`. The sum may
    /// lack what was spent here and is just being stored. The sum of a day that is over changes nothing.
    pub(super) fn update(&mut self, spent: u64, asked_at: Timestamp) {
        self.roll_over(asked_at);
        if day(asked_at) == self.day {
            self.spent = self.spent.max(spent);
        }
    }

    pub(super) fn reserve(&mut self, tokens: u64) {
        self.reserved = self.reserved.saturating_add(tokens);
    }

    pub(super) fn unreserve(&mut self, tokens: u64) {
        self.reserved = self.reserved.saturating_sub(tokens);
    }

    /// A new day starts with nothing spent. A clock that steps back does not bring the old day back.
    fn roll_over(&mut self, now: Timestamp) {
        let today = day(now);
        if today > self.day {
            self.day = today;
            self.spent = 0;
        }
    }
}

/// Days since 1970, in UTC.
fn day(now: Timestamp) -> i64 {
    now.as_second().div_euclid(DAY_SECONDS)
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 100;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time in range")
    }

    /// The day changes while the sum is read, and the new day's first turn is charged before the sum
    /// arrives.
    #[test]
    fn a_sum_counts_only_on_the_day_it_was_asked_for() {
        let mut budget = DailyBudget::default();
        let (asked_at, midnight) = (at(10 * DAY_SECONDS - 1), at(10 * DAY_SECONDS));
        budget.spend(1, midnight);
        budget.update(MAX, asked_at);
        assert!(budget.may_spend(MAX, midnight));
        assert_eq!(budget.spend(0, midnight), (1, 1));
        budget.update(MAX, midnight);
        assert!(!budget.may_spend(MAX, midnight));
    }
}
