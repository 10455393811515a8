//! The operator's view of a SQLite file: beside the server that owns it, or without one.
//!
//! It does not take the file's lock, which says who *serves* from it. SQLite itself lets many
//! processes read, and one write at a time; so nothing here disturbs a server, which at most waits
//! a moment for the one short write there is.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use duologue_engine::store::{
    StoreError,
    operators::{
        JobRecord, JobState, Jobs, OperatorStore, PageLimits, PagedSession, RetryOutcome,
        StoredEvent, StoredSession,
    },
};
use duologue_protocol::{Seq, SessionId};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::{
    claims::{self, in_seconds},
    failure::{SqliteFailure, store_error},
    file::{Access, open},
    inspection::{self, job_json},
    migration::check_tables,
    readers::Readers,
    startup::blocking,
};
use crate::{
    OpenError, StoreConfig,
    migrations::{self, Age},
    stored::{from_json, integer},
};

/// See the module.
pub(crate) struct SqliteOperatorStore {
    path: PathBuf,
    busy_timeout: Duration,
    readers: Readers,
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
            let file = path.clone();
            let connect = move || Ok(open(&file, Access::ReadOnly, busy_timeout)?);
            Ok(Self {
                path,
                busy_timeout,
                readers: Readers::start(NonZero::<u16>::MIN, config.acquire_timeout, connect),
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
        self.readers
            .read(move |connection| inspection::session_ids(connection, after.as_ref(), limit))
            .await
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
            .read(move |connection| inspection::rows(connection, &session, after, limit))
            .await
    }

    async fn stored_page(
        &self,
        after: Option<&SessionId>,
        limits: PageLimits,
    ) -> Result<Vec<PagedSession>, StoreError> {
        let after = after.cloned();
        self.readers
            .read(move |connection| inspection::page(connection, after.as_ref(), limits))
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
        job_json!(),
        " from session_jobs as j where j.id = ?1"
    );
    let json: Option<String> = connection
        .query_row(sql, (id,), |row| row.get(0))
        .optional()?;
    let Some(job) = json.as_deref().map(from_json::<JobRecord>).transpose()? else {
        return Ok(None);
    };
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
