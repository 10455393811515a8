//! What users use: turns, and the tokens of the day.
//!
//! The log is the book: what a session has used is the fold of its log, and what a user has used today
//! is a sum over the logs. Here is only kept what would be too slow to ask for each time: the sum as it
//! was when it was last asked for, what was spent here since, and what running turns may still spend.
//!
//! Invariants:
//!
//! * A turn begins only while what is spent, and what the turns that run may still write, is below the
//!   budget, and asks its model again only while that holds with what it has used itself. So the budget
//!   is overshot by no more than one request of each turn that runs.
//! * Nothing here is bound to a connection, so coming back or coming twice changes nothing.
//! * What is known to be spent never shrinks within a day.
//!
//! Servers learn of each other's spending through the log, see [`REFRESH_INTERVAL`].

mod purse;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use duologue_protocol::{ErrorCode, Timestamp, UserId};
use tokio::time::Instant;

use crate::{
    accounts::purse::{Purse, day_start, until_tomorrow},
    limits::{TokenLimits, UserLimits},
    rate::Rate,
    register::{Forgettable, Register},
    store::{Store, StoreError},
};

/// How old what is known of a user's spending on other servers may be when the user speaks. It is asked
/// for while the message is dealt with, so the message after it is judged by the news.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// What a user who has too many turns running is told to wait. Nobody knows when one will be over.
const RUNNING_RETRY_DELAY: Duration = Duration::from_secs(2);

/// Why a message does not get its turn now.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: &'static str,
    /// How long to wait; none where waiting does not help.
    pub(crate) retry_after: Option<Duration>,
}

/// All accounts of this server, and its own.
#[derive(Debug)]
pub(crate) struct Accounts {
    user: UserLimits,
    tokens: TokenLimits,
    users: Register<UserId, Account>,
    process: Mutex<Purse>,
}

/// What one user uses on this server.
#[derive(Debug)]
pub(crate) struct Account {
    user_id: UserId,
    turns: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    purse: Purse,
    running: u16,
    /// When the store was last asked.
    asked_at: Option<Instant>,
}

/// A turn's place among its user's, and what it may spend. Dropping it gives back both.
#[derive(Debug)]
pub(crate) struct Spending {
    accounts: Arc<Accounts>,
    account: Arc<Account>,
    reserved: u64,
}

/// What is to be looked at besides the account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// What the session has used.
    pub(crate) session_tokens: u64,
    /// What the turn may write.
    pub(crate) reserve: u64,
    pub(crate) now: Timestamp,
}

impl Accounts {
    pub(crate) fn new(user: UserLimits, tokens: TokenLimits) -> Arc<Self> {
        Arc::new(Self {
            user,
            tokens,
            users: Register::default(),
            process: Mutex::default(),
        })
    }

    /// The account of a user, with what its user has used today.
    pub(crate) async fn open(
        &self,
        store: &dyn Store,
        user_id: &UserId,
        now: Timestamp,
    ) -> Result<Arc<Account>, StoreError> {
        let make = || Account {
            user_id: user_id.clone(),
            turns: Rate::per_minute(self.user.turns_per_minute),
            state: Mutex::default(),
        };
        let account = self.users.entry(user_id.clone(), make);
        if account.is_outdated() {
            account.refresh(store, now).await?;
        }
        Ok(account)
    }

    /// Takes a message that begins a turn now.
    pub(crate) fn begin(
        self: &Arc<Self>,
        account: &Arc<Account>,
        wish: Wish,
    ) -> Result<Spending, Refusal> {
        let mut state = account.state();
        self.check_tokens(&mut state.purse, wish)?;
        if state.running >= self.user.turns_running_max {
            return Err(Refusal {
                code: ErrorCode::TooManyRequests,
                message: "you have too many turns running; wait for one to end",
                retry_after: Some(RUNNING_RETRY_DELAY),
            });
        }
        account.take_turn()?;
        Ok(self.enter(account, &mut state, wish))
    }

    /// Takes a message that will wait for its turn. It counts as a turn from now on.
    pub(crate) fn accept(&self, account: &Account, wish: Wish) -> Result<(), Refusal> {
        self.check_tokens(&mut account.state().purse, wish)?;
        account.take_turn()
    }

    /// Why there are no tokens for another turn, if there are none.
    pub(crate) fn check(&self, account: &Account, wish: Wish) -> Result<(), Refusal> {
        self.check_tokens(&mut account.state().purse, wish)
    }

    /// Begins the turn of a message that has waited. Only tokens can still be lacking.
    pub(crate) fn begin_accepted(
        self: &Arc<Self>,
        account: &Arc<Account>,
        wish: Wish,
    ) -> Result<Spending, Refusal> {
        let mut state = account.state();
        self.check_tokens(&mut state.purse, wish)?;
        Ok(self.enter(account, &mut state, wish))
    }

    /// Begins a turn whatever it costs: it had begun before, or costs nothing.
    pub(crate) fn begin_unchecked(
        self: &Arc<Self>,
        account: &Arc<Account>,
        wish: Wish,
    ) -> Spending {
        self.enter(account, &mut account.state(), wish)
    }

    /// Whether a running turn that has used so many tokens may ask its model once more.
    pub(crate) fn may_go_on(&self, account: &Account, wish: Wish, used: u64) -> bool {
        let Wish {
            session_tokens,
            reserve,
            now,
        } = wish;
        let (user_max, process_max) = (
            self.tokens.user_per_day_max,
            self.tokens.process_per_day_max,
        );
        session_tokens.saturating_add(used) < self.tokens.session_max
            && (account.state().purse).may_go_on(used, reserve, user_max, now)
            && lock(&self.process).may_go_on(used, reserve, process_max, now)
    }

    /// Whether the server itself may ask a model now, for no user in particular.
    pub(crate) fn may_spend(&self, now: Timestamp) -> bool {
        lock(&self.process).may_spend(self.tokens.process_per_day_max, now)
    }

    /// Books what the server itself has used, or a turn.
    pub(crate) fn spent(&self, tokens: u64, now: Timestamp) {
        let max = self.tokens.process_per_day_max;
        let (before, after) = lock(&self.process).spend(tokens, now);
        let alarm = max - max / 5;
        if before < alarm && after >= alarm {
            tracing::warn!(spent = after, max, "tokens.nearly_used_up");
        }
    }

    fn check_tokens(&self, user: &mut Purse, wish: Wish) -> Result<(), Refusal> {
        let refusal = |message, retry_after| Refusal {
            code: ErrorCode::OverBudget,
            message,
            retry_after,
        };
        let tomorrow = || Some(until_tomorrow(wish.now));
        if wish.session_tokens >= self.tokens.session_max {
            let message = "this session has used up its tokens; begin another one";
            return Err(refusal(message, None));
        }
        if !user.may_spend(self.tokens.user_per_day_max, wish.now) {
            let message = "you have used up your tokens of the day; come back tomorrow";
            return Err(refusal(message, tomorrow()));
        }
        if !self.may_spend(wish.now) {
            let message = "this server has used up its tokens of the day; come back tomorrow";
            return Err(refusal(message, tomorrow()));
        }
        Ok(())
    }

    fn enter(self: &Arc<Self>, account: &Arc<Account>, state: &mut State, wish: Wish) -> Spending {
        state.running = state.running.saturating_add(1);
        state.purse.reserve(wish.reserve);
        lock(&self.process).reserve(wish.reserve);
        Spending {
            accounts: Arc::clone(self),
            account: Arc::clone(account),
            reserved: wish.reserve,
        }
    }
}

impl Account {
    /// Whether the store should be asked again. Says so once, to whoever will do it.
    pub(crate) fn is_outdated(&self) -> bool {
        let mut state = self.state();
        let is_outdated = state
            .asked_at
            .is_none_or(|asked_at| asked_at.elapsed() >= REFRESH_INTERVAL);
        if is_outdated && state.asked_at.is_some() {
            state.asked_at = Some(Instant::now());
        }
        is_outdated
    }

    /// Asks the store for what the user has used today, on whatever server.
    pub(crate) async fn refresh(
        &self,
        store: &dyn Store,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let asked_at = Instant::now();
        let spent = store.tokens_spent(&self.user_id, day_start(now)).await?;
        let mut state = self.state();
        state.purse.learn(spent, now);
        state.asked_at = Some(asked_at);
        Ok(())
    }

    fn take_turn(&self) -> Result<(), Refusal> {
        self.turns.take().map_err(|wait| Refusal {
            code: ErrorCode::TooManyRequests,
            message: "you begin too many turns; send this again later",
            retry_after: Some(wait),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Forgettable for Account {
    fn is_forgettable(&self) -> bool {
        self.turns.is_idle()
    }
}

impl Spending {
    /// Books what the turn has used in place of what was reserved for it.
    pub(crate) fn settle(&mut self, tokens: u64, now: Timestamp) {
        self.give_back();
        self.account.state().purse.spend(tokens, now);
        self.accounts.spent(tokens, now);
    }

    fn give_back(&mut self) {
        let reserved = std::mem::take(&mut self.reserved);
        self.account.state().purse.unreserve(reserved);
        lock(&self.accounts.process).unreserve(reserved);
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        self.give_back();
        let mut state = self.account.state();
        state.running = state.running.saturating_sub(1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
