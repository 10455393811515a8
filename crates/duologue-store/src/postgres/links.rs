//! Connections that are kept for the next call.
//!
//! Unlike a pool of sqlx, this one sends nothing of its own: a connection comes back only after the whole answer
//! to its last message, so it needs no test, which would be another round trip.

use std::{io, sync::Mutex, time::Duration};

use duologue_engine::lock::lock;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep, timeout};

use super::failure::PostgresFailure;

/// How long a connection is kept, so that a server follows the database to another address.
const AGE_MAX: Duration = Duration::from_mins(30);

/// How long a connection is kept that nobody uses. Networks drop idle connections without notice.
const IDLE_MAX: Duration = Duration::from_mins(4);

/// The delay between attempts to connect to a database that is starting.
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Opens connections, and keeps those that are idle.
pub(super) struct Links {
    options: PgConnectOptions,
    /// The one that was used last is at the end, and is used next. `None`: closed.
    idle: Mutex<Option<Vec<Link>>>,
}

/// A connection.
pub(super) struct Link {
    connection: PgConnection,
    opened_at: Instant,
    used_at: Instant,
}

impl Link {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    fn is_fresh(&self) -> bool {
        self.opened_at.elapsed() < AGE_MAX && self.used_at.elapsed() < IDLE_MAX
    }
}

impl Links {
    /// Connects to nothing yet.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self {
            options,
            idle: Mutex::new(Some(Vec::new())),
        }
    }

    /// An idle connection, or else a new one.
    pub(super) async fn take(&self, connect_timeout: Duration) -> Result<Link, PostgresFailure> {
        if let Some(link) = self.take_idle()? {
            return Ok(link);
        }
        let connected = timeout(connect_timeout, self.connect()).await;
        let connection =
            connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        let now = Instant::now();
        Ok(Link {
            connection: connection.map_err(PostgresFailure::NoConnection)?,
            opened_at: now,
            used_at: now,
        })
    }

    fn take_idle(&self) -> Result<Option<Link>, PostgresFailure> {
        let mut idle = lock(&self.idle);
        let idle = idle.as_mut().ok_or(PostgresFailure::Closed)?;
        idle.retain(Link::is_fresh);
        Ok(idle.pop())
    }

    /// Keeps a connection on which nothing is in progress.
    pub(super) fn give_back(&self, mut link: Link) {
        link.used_at = Instant::now();
        if let Some(idle) = &mut *lock(&self.idle) {
            idle.push(link);
        }
    }

    /// Closes the idle connections: when one was lost, the others are probably lost too.
    pub(super) fn discard_idle(&self) {
        if let Some(idle) = &mut *lock(&self.idle) {
            idle.clear();
        }
    }

    /// Closes the idle connections, and opens no others.
    pub(super) async fn close(&self) {
        let idle = lock(&self.idle).take();
        for link in idle.into_iter().flatten() {
            // The database closes it in any case.
            let _ = link.connection.close().await;
        }
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        loop {
            match self.options.connect().await {
                Err(error) if is_starting(&error) => sleep(CONNECT_RETRY_DELAY).await,
                result => return result,
            }
        }
    }
}

/// Whether the database may accept a connection in a moment.
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => error.is_transient_in_connect_phase(),
        _ => false,
    }
}
