//! The budgets of users and of the process: turns, and tokens per day.
//!
//! The log is the source of truth: what a session has used is the fold of its log, and what a user has
//! used today is a sum over the logs. This module only caches what would be too slow to read each time:
//! the sum as it was last read, what was spent here since, and what running turns may still spend.
//!
//! Invariants:
//!
//! * A turn starts only while the tokens spent, and those that running turns may still write, are below
//!   the budget. It asks its model again only while that holds including what it has used itself. So the
//!   budget is exceeded by at most one request of each running turn.
//! * Nothing here belongs to a connection, so reconnecting or connecting twice changes nothing.
//! * The known spending never shrinks within a day.
//!
//! Servers read each other's spending from the log, see [`REFRESH_INTERVAL`].

mod daily;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use duologue_protocol::{ErrorCode, Timestamp, UserId};
use tokio::time::Instant;

use crate::{
    budgets::daily::{DailyBudget, day_start, until_tomorrow},
    evicting_map::{Evictable, EvictingMap},
    limits::{TokenLimits, UserLimits},
    lock::lock,
    rate::Rate,
    store::{Store, StoreError},
};

/// The maximum age of a user's sum over all servers when the user sends a message. An older sum is read
/// again while the message is handled, so it counts for the next one.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// The suggested wait for a user with too many running turns. The end of a turn is not predictable.
const RUNNING_RETRY_DELAY: Duration = Duration::from_secs(2);

/// Why a message's turn cannot start now.
#[derive(Debug, PartialEq)]
pub(crate) struct BudgetRefusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: &'static str,
    /// How long to wait; `None` if waiting does not help.
    pub(crate) retry_after: Option<Duration>,
}

/// The budgets of all users on this server, and of the process.
#[derive(Debug)]
pub(crate) struct Budgets {
    user: UserLimits,
    tokens: TokenLimits,
    users: EvictingMap<UserId, UserBudget>,
    process: Mutex<DailyBudget>,
}

/// What one user uses on this server.
#[derive(Debug)]
pub(crate) struct UserBudget {
    user_id: UserId,
    turns: Rate,
    state: Mutex<UserUsage>,
}

#[derive(Debug, Default)]
struct UserUsage {
    daily: DailyBudget,
    running: u16,
    /// When the sum was last read from the store.
    asked_at: Option<Instant>,
}

/// A turn's place among its user's running turns, and what it may spend. Dropping it returns both.
#[derive(Debug)]
pub(crate) struct Reservation {
    budgets: Arc<Budgets>,
    user_budget: Arc<UserBudget>,
    reserved: u64,
}

/// What has to be read from the store: what a user has used today, on all servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpendingQuery {
    /// When the day began.
    pub(crate) since: Timestamp,
    now: Timestamp,
    asked_at: Instant,
}

/// What a check considers besides the user's budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BudgetQuery {
    /// What the session has used.
    pub(crate) session_tokens: u64,
    /// What the turn may write.
    pub(crate) reserve: u64,
    pub(crate) now: Timestamp,
}

impl Budgets {
    pub(crate) fn new(user: UserLimits, tokens: TokenLimits) -> Arc<Self> {
        Arc::new(Self {
            user,
            tokens,
            users: EvictingMap::default(),
            process: Mutex::default(),
        })
    }

    /// The budget of a user. Nothing can be spent from it before its sum was read.
    pub(crate) fn open(&self, user_id: &UserId) -> Arc<UserBudget> {
        let make = || UserBudget {
            user_id: user_id.clone(),
            turns: Rate::per_minute(self.user.turns_per_minute),
            state: Mutex::default(),
        };
        self.users.entry(user_id.clone(), make)
    }

    /// Reserves for a message whose turn starts now.
    pub(crate) fn begin(
        self: &Arc<Self>,
        user_budget: &Arc<UserBudget>,
        budget_query: BudgetQuery,
    ) -> Result<Reservation, BudgetRefusal> {
        let mut state = user_budget.state();
        self.check_tokens(&mut state.daily, budget_query)?;
        if state.running >= self.user.turns_running_max {
            return Err(BudgetRefusal {
                code: ErrorCode::TooManyRequests,
                message: "you have too many turns running; wait for one to end",
                retry_after: Some(RUNNING_RETRY_DELAY),
            });
        }
        user_budget.take_turn()?;
        Ok(self.enter(user_budget, &mut state, budget_query))
    }

    /// Accepts a message that waits for its turn. It counts as a turn from now on.
    pub(crate) fn accept(
        &self,
        user_budget: &UserBudget,
        budget_query: BudgetQuery,
    ) -> Result<(), BudgetRefusal> {
        self.check_tokens(&mut user_budget.state().daily, budget_query)?;
        user_budget.take_turn()
    }

    /// Why there are no tokens for another turn, if there are none.
    pub(crate) fn check(
        &self,
        user_budget: &UserBudget,
        budget_query: BudgetQuery,
    ) -> Result<(), BudgetRefusal> {
        self.check_tokens(&mut user_budget.state().daily, budget_query)
    }

    /// Reserves for the turn of a message that has waited. Only tokens can still be missing.
    pub(crate) fn begin_accepted(
        self: &Arc<Self>,
        user_budget: &Arc<UserBudget>,
        budget_query: BudgetQuery,
    ) -> Result<Reservation, BudgetRefusal> {
        let mut state = user_budget.state();
        self.check_tokens(&mut state.daily, budget_query)?;
        Ok(self.enter(user_budget, &mut state, budget_query))
    }

    /// Reserves for a turn without a check: it had started before.
    pub(crate) fn begin_unchecked(
        self: &Arc<Self>,
        user_budget: &Arc<UserBudget>,
        budget_query: BudgetQuery,
    ) -> Reservation {
        self.enter(user_budget, &mut user_budget.state(), budget_query)
    }

    /// Whether a running turn that has used `used` tokens may ask its model again.
    pub(crate) fn may_go_on(
        &self,
        user_budget: &UserBudget,
        budget_query: BudgetQuery,
        used: u64,
    ) -> bool {
        let BudgetQuery {
            session_tokens,
            reserve,
            now,
        } = budget_query;
        let (user_max, process_max) = (
            self.tokens.user_per_day_max,
            self.tokens.process_per_day_max,
        );
        session_tokens.saturating_add(used) < self.tokens.session_max
            && (user_budget.state().daily).may_go_on(used, reserve, user_max, now)
            && lock(&self.process).may_go_on(used, reserve, process_max, now)
    }

    /// Whether the server itself may ask a model now, on behalf of no user.
    pub(crate) fn may_spend(&self, now: Timestamp) -> bool {
        lock(&self.process).may_spend(self.tokens.process_per_day_max, now)
    }

    /// Charges what the server itself or a turn has used.
    pub(crate) fn spent(&self, tokens: u64, now: Timestamp) {
        let max = self.tokens.process_per_day_max;
        let (before, after) = lock(&self.process).spend(tokens, now);
        let alarm = max - max / 5;
        if before < alarm && after >= alarm {
            tracing::warn!(spent = after, max, "tokens.nearly_used_up");
        }
    }

    fn check_tokens(
        &self,
        user: &mut DailyBudget,
        budget_query: BudgetQuery,
    ) -> Result<(), BudgetRefusal> {
        let refusal = |message, retry_after| BudgetRefusal {
            code: ErrorCode::OverBudget,
            message,
            retry_after,
        };
        let tomorrow = || Some(until_tomorrow(budget_query.now));
        if budget_query.session_tokens >= self.tokens.session_max {
            let message = "this session has used up its tokens; begin another one";
            return Err(refusal(message, None));
        }
        if !user.may_spend(self.tokens.user_per_day_max, budget_query.now) {
            let message = "you have used up your tokens of the day; come back tomorrow";
            return Err(refusal(message, tomorrow()));
        }
        if !self.may_spend(budget_query.now) {
            let message = "this server has used up its tokens of the day; come back tomorrow";
            return Err(refusal(message, tomorrow()));
        }
        Ok(())
    }

    fn enter(
        self: &Arc<Self>,
        user_budget: &Arc<UserBudget>,
        state: &mut UserUsage,
        budget_query: BudgetQuery,
    ) -> Reservation {
        state.running = state.running.saturating_add(1);
        state.daily.reserve(budget_query.reserve);
        lock(&self.process).reserve(budget_query.reserve);
        Reservation {
            budgets: Arc::clone(self),
            user_budget: Arc::clone(user_budget),
            reserved: budget_query.reserve,
        }
    }
}

impl UserBudget {
    /// The query by which the sum should be read again, if it is outdated. An outdated sum is read by one
    /// caller only; one that was never read, by all.
    pub(crate) fn outdated(&self, now: Timestamp) -> Option<SpendingQuery> {
        let mut state = self.state();
        let asked_at = Instant::now();
        if let Some(before) = state.asked_at {
            if asked_at - before < REFRESH_INTERVAL {
                return None;
            }
            state.asked_at = Some(asked_at);
        }
        Some(SpendingQuery {
            since: day_start(now),
            now,
            asked_at,
        })
    }

    /// Reads from the store what the user has used today, on all servers.
    pub(crate) async fn refresh(
        &self,
        store: &dyn Store,
        query: SpendingQuery,
    ) -> Result<(), StoreError> {
        let spent = store.tokens_spent(&self.user_id, query.since).await?;
        self.update(query, spent);
        Ok(())
    }

    /// Updates the sum with what was read.
    pub(crate) fn update(&self, query: SpendingQuery, spent: u64) {
        let mut state = self.state();
        state.daily.update(spent, query.now);
        state.asked_at = Some(query.asked_at);
    }

    fn take_turn(&self) -> Result<(), BudgetRefusal> {
        self.turns.take().map_err(|wait| BudgetRefusal {
            code: ErrorCode::TooManyRequests,
            message: "you begin too many turns; send this again later",
            retry_after: Some(wait),
        })
    }

    fn state(&self) -> MutexGuard<'_, UserUsage> {
        lock(&self.state)
    }
}

impl Evictable for UserBudget {
    fn is_evictable(&self) -> bool {
        self.turns.is_idle()
    }
}

impl Reservation {
    /// Charges what the turn has used in place of its reservation.
    pub(crate) fn settle(&mut self, tokens: u64, now: Timestamp) {
        self.return_reserved();
        self.user_budget.state().daily.spend(tokens, now);
        self.budgets.spent(tokens, now);
    }

    fn return_reserved(&mut self) {
        let reserved = std::mem::take(&mut self.reserved);
        self.user_budget.state().daily.unreserve(reserved);
        lock(&self.budgets.process).unreserve(reserved);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.return_reserved();
        let mut state = self.user_budget.state();
        state.running = state.running.saturating_sub(1);
    }
}
