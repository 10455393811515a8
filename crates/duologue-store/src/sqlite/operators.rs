//! The operator's view of a SQLite file: beside the server that owns it, or without one.
//!
//! It does not take the file's lock, which says who *serves* from it. SQLite itself lets many
//! processes read, and one write at a time; so nothing here disturbs a server, which at most waits
//! a moment for the one short write there is.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    sync::Mutex,
    thread::available_parallelism,
    time::Duration,
};

use async_trait::async_trait;
use duologue_engine::{
    lock::lock,
    store::{
        StoreError,
        operators::{
            JobRecord, JobState, Jobs, OperatorStore, ReadLimits, RetryOutcome, SessionRows,
            StoredEvent, StoredSession,
        },
    },
};
use duologue_protocol::{Event, Seq, SessionId};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::{
    claims::{self, in_seconds},
    failure::{SqliteFailure, store_error},
    file::{Access, open},
    inspection::{self, job_columns, job_record},
    migration::check_tables,
    readers::Readers,
    startup::blocking,
};
use crate::{
    OpenError, StoreConfig,
    migrations::{self, Age},
    stored::integer,
};

/// How much of the file is mapped into memory. All of it is read once, and connections wait for each other in
/// SQLite's cache of pages.
const MAPPED_BYTES_MAX: i64 = 1 << 40;

/// See the module.
pub(crate) struct SqliteOperatorStore {
    path: PathBuf,
    busy_timeout: Duration,
    readers: Readers,
    /// The last session of the last page of ids.
    last_id: Mutex<Option<inspection::Position>>,
}

impl SqliteOperatorStore {
    /// Opens the file as it is.
    pub(crate) async fn open(path: &Path, config: &StoreConfig) -> Result<Self, OpenError> {
        let (path, config) = (path.to_owned(), config.clone());
        blocking(move || {
            if !path.exists() {
                return Err(OpenError::NoSuchFile { file: path });
            }
            let busy_timeout = config.busy_timeout;
            let version = check_tables(&path, &open(&path, Access::ReadOnly, busy_timeout)?)?;
            if migrations::age(version) == Age::TooOld {
                return Err(OpenError::NotMigrated {
                    place: path.display().to_string(),
                });
            }
            // More threads than processors would only need more memory.
            let processors = available_parallelism().map_or(NonZero::<u16>::MIN, |processors| {
                processors.try_into().unwrap_or(NonZero::<u16>::MAX)
            });
            let readers = config.connections_max.min(processors);
            let file = path.clone();
            let connect = move || {
                let connection = open(&file, Access::ReadOnly, busy_timeout)?;
                connection.pragma_update(None, "mmap_size", MAPPED_BYTES_MAX)?;
                Ok(connection)
            };
            Ok(Self {
                path,
                busy_timeout,
                readers: Readers::start(readers, config.acquire_timeout, connect),
                last_id: Mutex::new(None),
            })
        })
        .await
    }

    /// Changes the file in one transaction, on a connection for it alone.
    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, SqliteFailure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (path, busy_timeout) = (self.path.clone(), self.busy_timeout);
        let work = move || {
            let connection = open(&path, Access::ReadWrite, busy_timeout);
            let mut connection = connection.map_err(|e| StoreError::Unavailable(e.into()))?;
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(store_error)?;
            let changed = change(&transaction).map_err(|SqliteFailure(error)| error)?;
            transaction.commit().map_err(store_error)?;
            connection
                .close()
                .map_err(|(_, error)| store_error(error))?;
            Ok(changed)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(StoreError::Unavailable(error.into())))
    }
}

#[async_trait]
impl OperatorStore for SqliteOperatorStore {
    async fn session_ids(
        &self,
        after: Option<&SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let after = after.cloned();
        let known = lock(&self.last_id).clone();
        let query = move |connection: &Connection| {
            inspection::session_ids(connection, after.as_ref(), known.as_ref(), limit)
        };
        let page = self.readers.read(query).await?;
        if let Some(last) = page.last() {
            *lock(&self.last_id) = Some(last.clone());
        }
        Ok(page.into_iter().map(|(id, _)| id).collect())
    }

    async fn stored_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError> {
        let session = session.clone();
        self.readers
            .read(move |connection| inspection::stored_session(connection, &session))
            .await
    }

    async fn rows(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let session = session.clone();
        self.readers
            .read(move |connection| {
                inspection::rows(connection, &session, after, limit, Event::read_text)
            })
            .await
    }

    async fn outlines(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let session = session.clone();
        self.readers
            .read(move |connection| {
                inspection::rows(connection, &session, after, limit, Event::read_outline)
            })
            .await
    }

    async fn stored_sessions(
        &self,
        sessions: &[SessionId],
        limits: ReadLimits,
    ) -> Result<Vec<SessionRows>, StoreError> {
        let sessions = sessions.to_vec();
        self.readers
            .read(move |connection| inspection::stored_sessions(connection, sessions, limits))
            .await
    }

    async fn jobs(
        &self,
        which: Jobs,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.readers
            .read(move |connection| inspection::jobs(connection, which, after, limit))
            .await
    }

    async fn retry_job(&self, job: i64) -> Result<Option<RetryOutcome>, StoreError> {
        self.write(move |connection| retry(connection, job)).await
    }

    async fn restored(&self) -> Result<u64, StoreError> {
        let sessions = self.write(|connection| Ok(claims::restored(connection)?));
        Ok(sessions.await? as u64)
    }
}

fn retry(connection: &Connection, id: i64) -> Result<Option<RetryOutcome>, SqliteFailure> {
    let sql = concat!(
        "select ",
        job_columns!(),
        " from session_jobs as j where j.id = ?1"
    );
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query((id,))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let job = job_record(row)?;
    let retry = match job.state {
        JobState::Running => RetryOutcome::Running,
        JobState::Done => RetryOutcome::Done,
        JobState::Waiting => {
            make_due(connection, id)?;
            RetryOutcome::DueNow
        }
        JobState::Failed => RetryOutcome::Replaced(replace(connection, &job)?),
        // By this very function, perhaps: then the call is a repetition.
        JobState::Superseded => {
            let sql = "select id from session_jobs
                where session_id = ?1 and last_seq = ?2 and outcome is null";
            let place = (job.session_id.as_str(), integer(job.last_seq.next().0));
            let replacement: Option<i64> = connection
                .query_row(sql, place, |row| row.get(0))
                .optional()?;
            replacement.map_or(RetryOutcome::Superseded, RetryOutcome::Replaced)
        }
    };
    Ok(Some(retry))
}

fn make_due(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    let sql = concat!(
        "update session_jobs set due_at = min(due_at, ",
        in_seconds!("0"),
        ") where id = ?1"
    );
    connection.execute(sql, (id,))?;
    Ok(())
}

/// Puts a new job in the place of one that failed. A worker that lost the answer to the old one's end can
/// still ask for it.
fn replace(connection: &Connection, job: &JobRecord) -> rusqlite::Result<i64> {
    connection.execute(
        "update sessions set status = 'ended', summary_status = 'pending' where session_id = ?1",
        (job.session_id.as_str(),),
    )?;
    let sql = concat!(
        "insert into session_jobs (session_id, user_id, last_seq, due_at) values (?1, ?2, ?3, ",
        in_seconds!("0"),
        ") returning id"
    );
    let new = (
        job.session_id.as_str(),
        job.user_id.as_str(),
        integer(job.last_seq.next().0),
    );
    connection.query_row(sql, new, |row| row.get(0))
}
