//! What the turns of one session may spend.

use std::sync::Arc;

use crate::{
    budgets::{BudgetQuery, BudgetRefusal, Reservation, UserBudget},
    context::Context,
};

/// The budget of a session's user, as its turns use it. Every method receives the tokens that
/// the session has used.
pub(super) struct SessionBudget {
    context: Arc<Context>,
    user: Arc<UserBudget>,
}

impl SessionBudget {
    pub(super) fn new(context: Arc<Context>, user: Arc<UserBudget>) -> Self {
        Self { context, user }
    }

    /// The user who pays.
    pub(super) fn user(&self) -> &Arc<UserBudget> {
        &self.user
    }

    /// Reserves for a message whose turn starts now.
    pub(super) fn begin(&self, session_tokens: u64) -> Result<Reservation, BudgetRefusal> {
        let query = self.query(session_tokens);
        self.context.budgets.begin(&self.user, query)
    }

    /// Accepts a message that waits for its turn.
    pub(super) fn accept(&self, session_tokens: u64) -> Result<(), BudgetRefusal> {
        let query = self.query(session_tokens);
        self.context.budgets.accept(&self.user, query)
    }

    /// Reserves for a message that has waited; `None` if the tokens are used up.
    pub(super) fn begin_accepted(&self, session_tokens: u64) -> Option<Reservation> {
        let query = self.query(session_tokens);
        self.context.budgets.begin_accepted(&self.user, query).ok()
    }

    /// Reserves for a turn that had started before.
    pub(super) fn begin_unchecked(&self, session_tokens: u64) -> Reservation {
        let query = self.query(session_tokens);
        self.context.budgets.begin_unchecked(&self.user, query)
    }

    /// Why there are no tokens for another turn, if there are none.
    pub(super) fn check(&self, session_tokens: u64) -> Result<(), BudgetRefusal> {
        let query = self.query(session_tokens);
        self.context.budgets.check(&self.user, query)
    }

    /// Reads again from the store what the user has used, if the last read is old. Does not wait.
    pub(super) fn refresh_if_outdated(&self) {
        let now = self.context.clock.now();
        let Some(query) = self.user.outdated(now) else {
            return;
        };
        let (context, user) = (Arc::clone(&self.context), Arc::clone(&self.user));
        self.context.tasks.spawn(async move {
            if let Err(error) = user.refresh(&*context.store, query).await {
                // The last known sum counts until the next attempt; this server's part is exact.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "account.not_refreshed"
                );
            }
        });
    }

    fn query(&self, session_tokens: u64) -> BudgetQuery {
        BudgetQuery {
            session_tokens,
            reserve: self.context.limits.turn.output_tokens_max.into(),
            now: self.context.clock.now(),
        }
    }
}
