//! SQL functions over connections to Postgres.
//!
//! A call is one message of the simple query protocol, `set local …; select f(…)::text`: one round trip, and
//! one transaction that Postgres ends by itself, whatever becomes of the caller. A transaction pooler sends
//! one message to one server, and nothing stays behind on its connection: no statement has a name, and the
//! time limits hold for this transaction only.

mod failure;
mod links;
mod startup;
mod statement;

use std::{sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use sqlx::{AssertSqlSafe, Executor, Row, postgres::PgConnectOptions};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

pub(crate) use self::startup::{check, migrate, open};
use self::{
    failure::PostgresFailure,
    links::{Link, Links},
    statement::{TimeLimits, statement},
};
use crate::{
    StoreConfig,
    functions::{Call, CallFailure, FunctionCaller, Lane, repeat},
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
        let acquired = match call.lane {
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
        let limits = self.limits(call.lane);
        let sql: Arc<str> = statement(call, limits).into();
        let deadline = Instant::now() + self.acquire_timeout + limits.statement + NETWORK_ALLOWANCE;
        let attempt = || self.attempt(&sql, limits);
        let answer = repeat(call.repetition, deadline, attempt).await;
        drop(acquired);
        serde_json::from_str(answer?.as_deref().unwrap_or("null"))
            .map_err(PostgresFailure::Unreadable)
    }

    async fn attempt(
        &self,
        sql: &Arc<str>,
        limits: TimeLimits,
    ) -> Result<Option<String>, PostgresFailure> {
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

/// Sends the message and reads to the end of the answer: the commit may fail after the row has arrived.
async fn execute(link: &mut Link, sql: Arc<str>) -> Result<Option<String>, PostgresFailure> {
    // Its texts are quoted by `statement`.
    let row = link
        .connection()
        .fetch_one(sqlx::raw_sql(AssertSqlSafe(sql)))
        .await;
    row.and_then(|row| row.try_get(0))
        .map_err(PostgresFailure::Call)
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
