//! SQL functions over connections to Postgres.
//!
//! A call is one message of the simple query protocol, `set local …; select f(…)::text`: one round trip, and
//! one transaction that Postgres ends by itself, whatever becomes of the caller. A transaction pooler sends
//! one message to one server, and nothing stays behind on its connection: no statement has a name, and the
//! time limits hold for this transaction only.

mod failure;
mod inspection;
mod links;
mod operators;
mod startup;
mod statement;

use std::{sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use sqlx::{
    AssertSqlSafe, Executor, Row,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

pub(crate) use self::startup::{check, migrate, open, open_for_operators};
use self::{
    failure::PostgresFailure,
    links::{Link, Links},
    statement::{TimeLimits, call_statement, query_statement},
};
use crate::{
    StoreConfig,
    functions::{Call, CallFailure, FunctionCaller, Lane, Repetition, repeat},
};

/// What the answer may take on top of what the database may take, before the connection is closed.
const NETWORK_ALLOWANCE: Duration = Duration::from_secs(1);

/// What a call may take that changes every row: no server serves meanwhile.
const LONG_CALL_TIMEOUT: Duration = Duration::from_hours(1);

/// Of the configured connections, how many are for the writer.
const WRITER_CONNECTIONS: u16 = 2;

/// See the module.
pub(crate) struct PostgresCaller {
    links: Links,
    /// Bounds the connections of [`Lane::Shared`].
    shared: Semaphore,
    shared_max: u32,
    acquire_timeout: Duration,
    statement_timeout: Duration,
    lock_timeout: Duration,
}

impl PostgresCaller {
    fn new(options: PgConnectOptions, config: &StoreConfig) -> Self {
        let shared_max = config
            .connections_max
            .get()
            .saturating_sub(WRITER_CONNECTIONS);
        let shared_max = shared_max.max(1);
        Self {
            links: Links::new(options),
            shared: Semaphore::new(shared_max.into()),
            shared_max: shared_max.into(),
            acquire_timeout: config.acquire_timeout,
            statement_timeout: config.statement_timeout,
            lock_timeout: config.lock_timeout,
        }
    }

    fn limits(&self, lane: Lane) -> TimeLimits {
        match lane {
            Lane::Shared | Lane::Writer => TimeLimits {
                statement: self.statement_timeout,
                lock: self.lock_timeout,
            },
            Lane::Long => TimeLimits {
                statement: LONG_CALL_TIMEOUT,
                lock: LONG_CALL_TIMEOUT,
            },
        }
    }

    async fn call_in_time<T: DeserializeOwned>(&self, call: &Call) -> Result<T, PostgresFailure> {
        let statement = |limits| call_statement(call, limits);
        let rows = self.run(call.lane, call.repetition, statement).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound);
        let answer: Result<Option<&str>, _> = row.and_then(|row| row.try_get(0));
        let answer = answer.map_err(PostgresFailure::Call)?;
        serde_json::from_str(answer.unwrap_or("null")).map_err(PostgresFailure::Unreadable)
    }

    /// Runs a query that only reads, in a schema. Times are in UTC and as ISO 8601 has them.
    async fn query(&self, schema: Option<&str>, sql: &str) -> Result<Vec<PgRow>, CallFailure> {
        let statement = |limits| query_statement(schema, sql, limits);
        let rows = self.run(Lane::Shared, Repetition::Harmless, statement);
        let rows = rows.await;
        rows.map_err(|failure| CallFailure::of(failure, Repetition::Harmless))
    }

    async fn run(
        &self,
        lane: Lane,
        repetition: Repetition,
        statement: impl FnOnce(TimeLimits) -> String,
    ) -> Result<Vec<PgRow>, PostgresFailure> {
        let acquired = match lane {
            Lane::Writer => None,
            Lane::Shared | Lane::Long => {
                let permit = timeout(self.acquire_timeout, self.shared.acquire()).await;
                Some(
                    permit
                        .map_err(|_| PostgresFailure::Busy)?
                        .map_err(|_| PostgresFailure::Closed)?,
                )
            }
        };
        let limits = self.limits(lane);
        let sql: Arc<str> = statement(limits).into();
        let deadline = Instant::now() + self.acquire_timeout + limits.statement + NETWORK_ALLOWANCE;
        let attempt = || self.attempt(&sql, limits);
        let answer = repeat(repetition, deadline, attempt).await;
        drop(acquired);
        answer
    }

    async fn attempt(
        &self,
        sql: &Arc<str>,
        limits: TimeLimits,
    ) -> Result<Vec<PgRow>, PostgresFailure> {
        let mut link = self.links.take(self.acquire_timeout).await?;
        let time = limits.statement + NETWORK_ALLOWANCE;
        let answer = timeout(time, execute(&mut link, Arc::clone(sql))).await;
        let answer = answer.unwrap_or(Err(PostgresFailure::TimedOut));
        match &answer {
            Err(failure) if failure.is_of_connection() => self.links.discard_idle(),
            _ => self.links.give_back(link),
        }
        answer
    }
}

/// Sends the message and reads to the end of the answer: the commit may fail after the rows have arrived.
async fn execute(link: &mut Link, sql: Arc<str>) -> Result<Vec<PgRow>, PostgresFailure> {
    // Its texts are quoted by `statement`.
    let rows = link
        .connection()
        .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)))
        .await;
    rows.map_err(PostgresFailure::Call)
}

impl FunctionCaller for PostgresCaller {
    async fn call<T>(&self, call: &Call) -> Result<T, CallFailure>
    where
        T: DeserializeOwned + Send,
    {
        self.call_in_time(call)
            .await
            .map_err(|failure| CallFailure::of(failure, call.repetition))
    }

    async fn close(&self) {
        drop(self.shared.acquire_many(self.shared_max).await);
        self.shared.close();
        self.links.close().await;
    }
}
