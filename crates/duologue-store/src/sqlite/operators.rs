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
        JobRecord, JobState, Jobs, OperatorStore, RetryOutcome, StoredEvent, StoredSession,
    },
};
use duologue_protocol::{Seq, SessionId};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior};
use serde_json::Value;

use super::{
    claims::{self, in_seconds, session_json},
    failure::{SqliteFailure, store_error},
    file::{Access, open},
    readers::Readers,
    startup::{blocking, check_tables},
};
use crate::{
    OpenError, StoreConfig,
    migrations::{self, Age},
    stored::{HeadRow, StoredEventRow, corrupt, from_json, integer},
};

/// A job's row as JSON, with how it stands.
macro_rules! job_json {
    () => {
        concat!(
            "json_object(
                'id', j.id, 'session_id', j.session_id, 'user_id', j.user_id,
                'last_seq', j.last_seq, 'attempt', j.attempt, 'uncounted', j.uncounted, 'worker', j.worker,
                'outcome', j.outcome, 'last_error', j.last_error,
                'due_in_seconds', iif(j.outcome is null,
                    max((julianday(j.due_at) - julianday('now')) * 86400.0, 0.0), 0.0),
                'state', case
                    when j.outcome is null and j.worker is not null and j.due_at > ",
            in_seconds!("0"),
            " then 'running'
                    when j.outcome is null then 'waiting'
                    when j.outcome = 'superseded' then 'superseded'
                    when exists (
                        select 1 from session_events as e
                        where e.session_id = j.session_id and e.seq = j.last_seq + 1
                            and e.event_type = 'session_summarized'
                            and e.payload ->> 'status' = 'done'
                    ) then 'done'
                    when exists (
                        select 1 from sessions as k
                        where k.session_id = j.session_id and k.status = 'completed'
                            and k.last_seq = j.last_seq + 1
                    ) then 'failed'
                    else 'superseded'
                end
            )"
        )
    };
}

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
            .read(move |connection| session_ids(connection, after.as_ref(), limit))
            .await
    }

    async fn stored_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError> {
        let session = session.clone();
        self.readers
            .read(move |connection| stored_session(connection, &session))
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
            .read(move |connection| rows(connection, &session, after, limit))
            .await
    }

    async fn jobs(
        &self,
        which: Jobs,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.readers
            .read(move |connection| jobs(connection, which, after, limit))
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

fn session_ids(
    connection: &Connection,
    after: Option<&SessionId>,
    limit: u32,
) -> Result<Vec<SessionId>, SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "select session_id from sessions where ?1 is null or session_id > ?1
        order by session_id limit ?2",
    )?;
    let mut rows = statement.query((after.map(SessionId::as_str), limit))?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        ids.push(SessionId::new(&id).map_err(corrupt)?);
    }
    Ok(ids)
}

fn stored_session(
    connection: &Connection,
    session: &SessionId,
) -> Result<Option<StoredSession>, SqliteFailure> {
    // One statement, so that it is of one moment.
    let mut statement = connection.prepare_cached(concat!(
        "select json_object(
            'record', ",
        session_json!(),
        ", 'epoch', s.epoch, 'owner', s.owner,
            'log_end', (
                select coalesce(max(e.seq), 0) from session_events as e
                where e.session_id = s.session_id
            ),
            'jobs', json((
                select json_group_array(json(ordered.job)) from (
                    select ",
        job_json!(),
        " as job from session_jobs as j where j.session_id = s.session_id order by j.id
                ) as ordered
            ))
        ) from sessions as s where s.session_id = ?1"
    ))?;
    let json: Option<String> = statement
        .query_row((session.as_str(),), |row| row.get(0))
        .optional()?;
    let row: Option<HeadRow> = json.as_deref().map(from_json).transpose()?;
    Ok(row.map(StoredSession::from))
}

fn rows(
    connection: &Connection,
    session: &SessionId,
    after: Seq,
    limit: u32,
) -> Result<Vec<StoredEvent>, SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "select seq, epoch, occurred_at, event_type, payload from session_events
        where session_id = ?1 and seq > ?2 order by seq limit ?3",
    )?;
    let mut rows = statement.query((session.as_str(), integer(after.0), limit))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(stored_event(row)?);
    }
    Ok(events)
}

fn stored_event(row: &Row<'_>) -> Result<StoredEvent, SqliteFailure> {
    let (seq, epoch, payload): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(4)?);
    let row = StoredEventRow {
        seq: Seq(u64::try_from(seq).map_err(corrupt)?),
        epoch: u64::try_from(epoch).map_err(corrupt)?,
        occurred_at: Some(row.get(2)?),
        event_type: row.get(3)?,
        // No event has it as its payload, so it is reported as what it is: unreadable.
        payload: serde_json::from_str(&payload).unwrap_or(Value::Null),
    };
    Ok(row.into())
}

fn jobs(
    connection: &Connection,
    which: Jobs,
    after: i64,
    limit: u32,
) -> Result<Vec<JobRecord>, SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
        "select ",
        job_json!(),
        " from session_jobs as j
        where j.id > ?1 and (?2 or exists (
            select 1 from sessions as s
            where s.session_id = j.session_id and j.outcome = 'applied'
                and s.status = 'completed' and s.summary_status = 'failed'
                and s.last_seq = j.last_seq + 1
        ))
        order by j.id limit ?3"
    ))?;
    let mut rows = statement.query((after, which == Jobs::All, limit))?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        let json: String = row.get(0)?;
        jobs.push(from_json(&json)?);
    }
    Ok(jobs)
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
