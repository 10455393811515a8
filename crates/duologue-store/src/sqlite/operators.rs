//! The operator's view of a SQLite file: beside the server that owns it, or without one.
//!
//! It does not take the file's lock, which says who *serves* from it. SQLite itself lets many
//! processes read, and one write at a time; so nothing here disturbs a server, which at most waits
//! a moment for the one short write there is.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use duologue_engine::store::{
    StoreError,
    operators::{
        JobRecord, JobState, Jobs, OperatorStore, RetryOutcome, StoredEvent, StoredSession,
    },
};
use duologue_protocol::{Seq, SessionId};
use serde_json::Value;
use sqlx::{
    ConnectOptions, Connection, SqliteConnection, SqlitePool, query, query_as, query_scalar,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use super::{
    claims::{self, in_seconds, session_json},
    failure::store_error,
    file::unusable,
    startup::check_tables,
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
    /// For the one write; readers cannot.
    writing: SqliteConnectOptions,
    readers: SqlitePool,
}

impl SqliteOperatorStore {
    /// Opens the file as it is.
    pub(crate) async fn open(path: &Path, config: &StoreConfig) -> Result<Self, OpenError> {
        let unusable = |source| unusable(path, source);
        if !path.exists() {
            return Err(OpenError::NoSuchFile {
                file: path.to_owned(),
            });
        }
        let existing = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(config.busy_timeout)
            .foreign_keys(true);
        let reading = existing.clone().read_only(true);
        let mut connection = reading.connect().await.map_err(unusable)?;
        let version = check_tables(path, &mut connection).await?;
        connection.close().await.map_err(unusable)?;
        if migrations::age(version) == Age::TooOld {
            return Err(OpenError::NotMigrated {
                place: path.display().to_string(),
            });
        }
        let readers = SqlitePoolOptions::new()
            .max_connections(config.connections_max.get().into())
            .acquire_timeout(config.acquire_timeout)
            .idle_timeout(Duration::from_mins(1))
            .connect_lazy_with(reading);
        Ok(Self {
            writing: existing,
            readers,
        })
    }
}

#[async_trait]
impl OperatorStore for SqliteOperatorStore {
    async fn session_ids(
        &self,
        after: Option<&SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let ids: Vec<String> = query_scalar(
            "select session_id from sessions where ?1 is null or session_id > ?1
            order by session_id limit ?2",
        )
        .bind(after.map(SessionId::as_str))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(store_error)?;
        let ids = ids.iter().map(|id| SessionId::new(id).map_err(corrupt));
        ids.collect()
    }

    async fn stored_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError> {
        // One statement, so that it is of one moment.
        let json: Option<String> = query_scalar(concat!(
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
        ))
        .bind(session.as_str())
        .fetch_optional(&self.readers)
        .await
        .map_err(store_error)?;
        let row: Option<HeadRow> = json.as_deref().map(from_json).transpose()?;
        Ok(row.map(StoredSession::from))
    }

    async fn rows(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows: Vec<(i64, i64, String, String, String)> = query_as(
            "select seq, epoch, occurred_at, event_type, payload from session_events
            where session_id = ?1 and seq > ?2 order by seq limit ?3",
        )
        .bind(session.as_str())
        .bind(integer(after.0))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(store_error)?;
        let kept = rows.into_iter().map(|row| {
            let (seq, epoch, occurred_at, event_type, payload) = row;
            let row = StoredEventRow {
                seq: Seq(u64::try_from(seq).map_err(corrupt)?),
                epoch: u64::try_from(epoch).map_err(corrupt)?,
                occurred_at: Some(occurred_at),
                event_type,
                // No event has it as its payload, so it is reported as what it is: unreadable.
                payload: serde_json::from_str(&payload).unwrap_or(Value::Null),
            };
            Ok(row.into())
        });
        kept.collect()
    }

    async fn jobs(
        &self,
        which: Jobs,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let jobs: Vec<String> = query_scalar(concat!(
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
        ))
        .bind(after)
        .bind(which == Jobs::All)
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(store_error)?;
        jobs.iter().map(|job| from_json(job)).collect()
    }

    async fn retry_job(&self, job: i64) -> Result<Option<RetryOutcome>, StoreError> {
        let mut connection = self.writing.connect().await.map_err(store_error)?;
        let transaction = connection.begin_with("begin immediate").await;
        let mut transaction = transaction.map_err(store_error)?;
        let retry = retry(&mut transaction, job).await?;
        transaction.commit().await.map_err(store_error)?;
        connection.close().await.map_err(store_error)?;
        Ok(retry)
    }

    async fn restored(&self) -> Result<u64, StoreError> {
        let mut connection = self.writing.connect().await.map_err(store_error)?;
        let transaction = connection.begin_with("begin immediate").await;
        let mut transaction = transaction.map_err(store_error)?;
        let renewed = claims::restored(&mut transaction).await;
        let renewed = renewed.map_err(store_error)?;
        transaction.commit().await.map_err(store_error)?;
        connection.close().await.map_err(store_error)?;
        Ok(renewed)
    }
}

async fn retry(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<RetryOutcome>, StoreError> {
    let json: Option<String> = query_scalar(concat!(
        "select ",
        job_json!(),
        " from session_jobs as j where j.id = ?1"
    ))
    .bind(id)
    .fetch_optional(&mut *connection)
    .await
    .map_err(store_error)?;
    let Some(job) = json.as_deref().map(from_json::<JobRecord>).transpose()? else {
        return Ok(None);
    };
    let retry = match job.state {
        JobState::Running => RetryOutcome::Running,
        JobState::Done => RetryOutcome::Done,
        JobState::Waiting => {
            make_due(connection, id).await.map_err(store_error)?;
            RetryOutcome::DueNow
        }
        JobState::Failed => {
            let replaced = replace(connection, &job).await;
            RetryOutcome::Replaced(replaced.map_err(store_error)?)
        }
        // By this very function, perhaps: then the call is a repetition.
        JobState::Superseded => {
            let replacement: Option<i64> = query_scalar(
                "select id from session_jobs
                where session_id = ?1 and last_seq = ?2 and outcome is null",
            )
            .bind(job.session_id.as_str())
            .bind(integer(job.last_seq.next().0))
            .fetch_optional(connection)
            .await
            .map_err(store_error)?;
            replacement.map_or(RetryOutcome::Superseded, RetryOutcome::Replaced)
        }
    };
    Ok(Some(retry))
}

async fn make_due(connection: &mut SqliteConnection, id: i64) -> Result<(), sqlx::Error> {
    query(concat!(
        "update session_jobs set due_at = min(due_at, ",
        in_seconds!("0"),
        ") where id = ?1"
    ))
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts a new job in the place of one that failed. A worker that lost the answer to the old one's end can
/// still ask for it.
async fn replace(connection: &mut SqliteConnection, job: &JobRecord) -> Result<i64, sqlx::Error> {
    query("update sessions set status = 'ended', summary_status = 'pending' where session_id = ?1")
        .bind(job.session_id.as_str())
        .execute(&mut *connection)
        .await?;
    query_scalar(concat!(
        "insert into session_jobs (session_id, user_id, last_seq, due_at) values (?1, ?2, ?3, ",
        in_seconds!("0"),
        ") returning id"
    ))
    .bind(job.session_id.as_str())
    .bind(job.user_id.as_str())
    .bind(integer(job.last_seq.next().0))
    .fetch_one(connection)
    .await
}
