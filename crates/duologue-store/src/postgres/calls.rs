//! How a SQL function is called, whatever stands between us and the database.
//!
//! sqlx parses and executes a statement in two round trips. A transaction pooler may send them to
//! two servers, unless they are in one transaction; so each call opens one. That is also where the
//! time limits can be set for this call alone: a pooler shares the rest of the connection with
//! others. Statements have no names, since names would stay behind on the pooled connection.

use std::{sync::Arc, time::Duration};

use duologue_engine::store::StoreError;
use serde::de::DeserializeOwned;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, Postgres,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions},
    query::QueryScalar,
    query_scalar,
};
use tokio::time::timeout;

use super::failure::{PostgresFailure, store_error};
use crate::{StoreConfig, stored::from_json};

/// How often a call is repeated that Postgres broke off in favour of another.
const REPETITIONS_MAX: u32 = 3;

/// What the answer may take on top of what the database may take, before we hang up.
const NETWORK_ALLOWANCE: Duration = Duration::from_secs(1);

/// A call in the making: `select f(…)::text`, with its arguments.
type Call<'q> = QueryScalar<'q, Postgres, Option<String>, PgArguments>;

/// What a call may take that changes every row: no server serves meanwhile.
const LONG_CALL_TIMEOUT: Duration = Duration::from_hours(1);

/// What one call may take.
struct TimeLimits {
    /// Opens a transaction with these limits, in one round trip.
    begin: Arc<str>,
    call_timeout: Duration,
}

impl TimeLimits {
    fn new(statement_timeout: Duration, lock_timeout: Duration) -> Self {
        let call_timeout = statement_timeout + NETWORK_ALLOWANCE;
        let begin = format!(
            "begin; set local statement_timeout = {}; set local lock_timeout = {}; \
             set local idle_in_transaction_session_timeout = {}",
            milliseconds(statement_timeout),
            milliseconds(lock_timeout),
            milliseconds(call_timeout),
        );
        Self {
            begin: begin.into(),
            call_timeout,
        }
    }
}

/// Calls functions over a pool of connections.
pub(super) struct PostgresCalls {
    pool: PgPool,
    /// What most calls may take.
    usual: TimeLimits,
    /// What a call may take that changes every row.
    long: TimeLimits,
    connections_max: u32,
}

impl PostgresCalls {
    pub(super) fn new(options: PgConnectOptions, config: &StoreConfig) -> Self {
        let connections_max = config.connections_max.get().into();
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(config.acquire_timeout)
            // The beginning of the transaction finds out; see `call`.
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Self {
            pool,
            usual: TimeLimits::new(config.statement_timeout, config.lock_timeout),
            long: TimeLimits::new(LONG_CALL_TIMEOUT, LONG_CALL_TIMEOUT),
            connections_max,
        }
    }

    /// Calls a function and reads its answer. SQL's null is JSON's.
    pub(super) async fn call<'q, T>(&self, call: impl Fn() -> Call<'q>) -> Result<T, StoreError>
    where
        T: DeserializeOwned,
    {
        self.call_within(&self.usual, call).await
    }

    /// Calls a function that may change every row there is.
    pub(super) async fn long_call<T>(&self, call: &'static str) -> Result<T, StoreError>
    where
        T: DeserializeOwned,
    {
        self.call_within(&self.long, || query_scalar(call)).await
    }

    async fn call_within<'q, T>(
        &self,
        limits: &TimeLimits,
        call: impl Fn() -> Call<'q>,
    ) -> Result<T, StoreError>
    where
        T: DeserializeOwned,
    {
        let mut repetitions = 0;
        let mut dead_connections = 0;
        loop {
            match self.attempt(limits, call()).await {
                Ok(json) => return from_json(json.as_deref().unwrap_or("null")),
                // Nothing has happened yet. After a restart of the database every connection that
                // waits in the pool is dead, so try as often as there may be such.
                Err(failure)
                    if failure.is_dead_connection() && dead_connections < self.connections_max =>
                {
                    dead_connections += 1;
                }
                Err(failure) if failure.is_broken_off() && repetitions < REPETITIONS_MAX => {
                    repetitions += 1;
                }
                Err(failure) => return Err(store_error(failure)),
            }
        }
    }

    async fn attempt(
        &self,
        limits: &TimeLimits,
        call: Call<'_>,
    ) -> Result<Option<String>, PostgresFailure> {
        let mut connection = self
            .pool
            .acquire()
            .await
            .map_err(PostgresFailure::NoConnection)?;
        let transaction = in_transaction(limits, &mut connection, call);
        let result = timeout(limits.call_timeout, transaction).await;
        let result = result.unwrap_or(Err(PostgresFailure::TimedOut));
        // Otherwise the pool would wait for this connection to answer before it counts as gone.
        if result
            .as_ref()
            .is_err_and(PostgresFailure::is_of_connection)
        {
            connection.close_on_drop();
        }
        result
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

async fn in_transaction(
    limits: &TimeLimits,
    connection: &mut PgConnection,
    call: Call<'_>,
) -> Result<Option<String>, PostgresFailure> {
    // Made of numbers only, when the store was opened.
    let begin = AssertSqlSafe(Arc::clone(&limits.begin));
    let mut transaction = connection
        .begin_with(begin)
        .await
        .map_err(PostgresFailure::NotBegun)?;
    let answer = call.persistent(false).fetch_one(&mut *transaction).await;
    let answer = answer.map_err(PostgresFailure::Call)?;
    transaction.commit().await.map_err(PostgresFailure::Call)?;
    Ok(answer)
}

/// Zero would mean "no limit" to Postgres.
fn milliseconds(limit: Duration) -> u128 {
    limit.as_millis().max(1)
}
