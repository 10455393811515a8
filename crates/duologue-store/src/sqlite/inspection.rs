//! Reads sessions and jobs as they are stored, for operators.

use std::time::Duration;

use duologue_engine::store::{
    ServerId, SessionRecord, StoreError,
    operators::{JobRecord, Jobs, ReadLimits, SessionRows, StoredEvent, StoredSession},
};
use duologue_protocol::{Event, PayloadError, Seq, SessionId, Timestamp};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, Rows};
use serde::de::{DeserializeOwned, IntoDeserializer as _, value::StrDeserializer};

use super::{claims::in_seconds, failure::SqliteFailure, log::text};
use crate::stored::{self, corrupt, from_json, integer};

/// The columns of a job `j`, for [`job_record`].
macro_rules! job_columns {
    () => {
        concat!(
            "j.id, j.session_id, j.user_id, j.last_seq, j.attempt, j.uncounted, j.worker, j.outcome,
                j.last_error,
                iif(j.outcome is null,
                    round(max((julianday(j.due_at) - julianday('now')) * 86400.0, 0.0), 3), 0.0),
                case
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
                end"
        )
    };
}
pub(super) use job_columns;

/// A session, and its position in the order of creation.
pub(super) type Position = (SessionId, i64);

/// Sessions in the order of their creation: what was written at the same time is read at the same time. `known` is
/// where an earlier call ended, in case that session has been deleted since.
pub(super) fn session_ids(
    connection: &Connection,
    after: Option<&SessionId>,
    known: Option<&Position>,
    limit: u32,
) -> Result<Vec<Position>, SqliteFailure> {
    let rowid = match after {
        Some(after) => rowid_of(connection, after, known)?,
        None => i64::MIN,
    };
    let mut statement = connection.prepare_cached(
        "select session_id, rowid from sessions where rowid > ?1 order by rowid limit ?2",
    )?;
    let mut rows = statement.query((rowid, limit))?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        let id = SessionId::new(text(row, 0)?).map_err(corrupt)?;
        ids.push((id, row.get(1)?));
    }
    Ok(ids)
}

fn rowid_of(
    connection: &Connection,
    session: &SessionId,
    known: Option<&Position>,
) -> Result<i64, SqliteFailure> {
    let mut statement =
        connection.prepare_cached("select rowid from sessions where session_id = ?1")?;
    let stored = statement.query_row((session.as_str(),), |row| row.get(0));
    let known = known
        .filter(|(id, _)| id == session)
        .map(|(_, rowid)| *rowid);
    let rowid = stored.optional()?.or(known);
    Ok(rowid.ok_or_else(|| corrupt("the session after which to continue is deleted"))?)
}

pub(super) fn stored_session(
    connection: &Connection,
    session: &SessionId,
) -> Result<Option<StoredSession>, SqliteFailure> {
    // One transaction, so that all is of one moment. It is rolled back, since it changes nothing.
    let transaction = connection.unchecked_transaction()?;
    HeadQueries::prepare(&transaction)?.read(session)
}

/// Reads the row of a session and its jobs.
struct HeadQueries<'c> {
    row: CachedStatement<'c>,
    jobs: CachedStatement<'c>,
}

impl<'c> HeadQueries<'c> {
    fn prepare(connection: &'c Connection) -> Result<Self, SqliteFailure> {
        let row = connection.prepare_cached(
        "select user_id, status, start_time, end_time, duration_seconds, summary, summary_status,
            end_reason, agent, metadata, last_seq, log_id, epoch, owner, (
                select coalesce(max(e.seq), 0) from session_events as e
                where e.session_id = s.session_id
            )
        from sessions as s where session_id = ?1",
        )?;
        let jobs = connection.prepare_cached(concat!(
            "select ",
            job_columns!(),
            " from session_jobs as j where j.session_id = ?1 order by j.id"
        ))?;
        Ok(Self { row, jobs })
    }

    fn read(&mut self, session: &SessionId) -> Result<Option<StoredSession>, SqliteFailure> {
        let mut rows = self.row.query((session.as_str(),))?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let record = SessionRecord {
            session_id: session.clone(),
            user_id: value(text(row, 0)?)?,
            status: value(text(row, 1)?)?,
            start_time: value(text(row, 2)?)?,
            end_time: optional(row, 3)?,
            duration_seconds: row.get(4)?,
            summary: row.get(5)?,
            summary_status: optional(row, 6)?,
            end_reason: optional(row, 7)?,
            agent: row.get(8)?,
            metadata: from_json(text(row, 9)?)?,
            last_seq: Seq(number(row, 10)?),
            log_id: value(text(row, 11)?)?,
        };
        Ok(Some(StoredSession {
            record,
            epoch: number(row, 12)?,
            owner: row.get::<_, Option<String>>(13)?.map(ServerId),
            log_end: Seq(number(row, 14)?),
            jobs: read_jobs(self.jobs.query((session.as_str(),))?)?,
        }))
    }
}

/// What serde reads from a text.
fn value<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    let text: StrDeserializer<'_, serde_json::Error> = text.into_deserializer();
    T::deserialize(text).map_err(corrupt)
}

fn optional<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<Option<T>, SqliteFailure> {
    let text = row.get_ref(column)?.as_str_or_null().map_err(corrupt)?;
    Ok(text.map(value).transpose()?)
}

fn number(row: &Row<'_>, column: usize) -> Result<u64, SqliteFailure> {
    let number: i64 = row.get(column)?;
    Ok(u64::try_from(number).map_err(corrupt)?)
}

pub(super) fn stored_sessions(
    connection: &Connection,
    sessions: Vec<SessionId>,
    limits: ReadLimits,
) -> Result<Vec<SessionRows>, SqliteFailure> {
    // One transaction, so that all is of one moment. It is rolled back, since it changes nothing.
    let transaction = connection.unchecked_transaction()?;
    let mut events = transaction.prepare_cached(
        "select seq, epoch, occurred_at, event_type, payload from session_events
        where session_id = ?1 order by seq",
    )?;
    let mut heads = HeadQueries::prepare(&transaction)?;
    let (mut rows_left, mut bytes_left) = (limits.rows, limits.bytes as usize);
    let mut read = Vec::with_capacity(sessions.len());
    for session_id in sessions {
        if rows_left == 0 || bytes_left == 0 {
            break;
        }
        let head = match heads.read(&session_id) {
            Ok(head) => head,
            Err(SqliteFailure(StoreError::Corrupt(_))) => None,
            Err(failure) => return Err(failure),
        };
        let log_end = head.as_ref().map_or(0, |head| head.log_end.0);
        let mut log = Vec::with_capacity(
            usize::try_from(log_end)
                .unwrap_or(0)
                .min(rows_left as usize),
        );
        let mut rows = events.query((session_id.as_str(),))?;
        // A limit in the query would be another one for each session, and SQLite would plan it again.
        while rows_left > 0
            && bytes_left > 0
            && let Some(row) = rows.next()?
        {
            let payload_bytes = row.get_ref(4)?.as_bytes().map_or(0, <[u8]>::len);
            bytes_left = bytes_left.saturating_sub(payload_bytes);
            rows_left -= 1;
            log.push(stored_event(row, Event::read_outline)?);
        }
        read.push(SessionRows {
            session_id,
            head,
            log,
        });
    }
    Ok(read)
}

/// How the payload of an event is read.
type ReadPayload = fn(Seq, Timestamp, &str, &str) -> Result<Event, PayloadError>;

pub(super) fn rows(
    connection: &Connection,
    session: &SessionId,
    after: Seq,
    limit: u32,
    read: ReadPayload,
) -> Result<Vec<StoredEvent>, SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "select seq, epoch, occurred_at, event_type, payload from session_events
        where session_id = ?1 and seq > ?2 order by seq limit ?3",
    )?;
    let mut rows = statement.query((session.as_str(), integer(after.0), limit))?;
    let mut events = Vec::with_capacity(limit as usize);
    while let Some(row) = rows.next()? {
        events.push(stored_event(row, read)?);
    }
    Ok(events)
}

fn stored_event(row: &Row<'_>, read: ReadPayload) -> Result<StoredEvent, SqliteFailure> {
    let (time, event_type) = (text(row, 2)?, text(row, 3)?);
    Ok(stored::stored_event(
        Seq(number(row, 0)?),
        number(row, 1)?,
        time,
        |seq, time| read(seq, time, event_type, text(row, 4).unwrap_or_default()),
    ))
}

pub(super) fn jobs(
    connection: &Connection,
    which: Jobs,
    after: i64,
    limit: u32,
) -> Result<Vec<JobRecord>, SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
        "select ",
        job_columns!(),
        " from session_jobs as j
        where j.id > ?1 and (?2 or exists (
            select 1 from sessions as s
            where s.session_id = j.session_id and j.outcome = 'applied'
                and s.status = 'completed' and s.summary_status = 'failed'
                and s.last_seq = j.last_seq + 1
        ))
        order by j.id limit ?3"
    ))?;
    let rows = statement.query((after, which == Jobs::All, limit))?;
    read_jobs(rows)
}

fn read_jobs(mut rows: Rows<'_>) -> Result<Vec<JobRecord>, SqliteFailure> {
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        jobs.push(job_record(row)?);
    }
    Ok(jobs)
}

/// A job of the columns of `job_columns`.
pub(super) fn job_record(row: &Row<'_>) -> Result<JobRecord, SqliteFailure> {
    let due_in: f64 = row.get(9)?;
    Ok(JobRecord {
        id: row.get(0)?,
        session_id: value(text(row, 1)?)?,
        user_id: value(text(row, 2)?)?,
        last_seq: Seq(number(row, 3)?),
        attempt: row.get(4)?,
        uncounted: row.get(5)?,
        worker: row.get::<_, Option<String>>(6)?.map(ServerId),
        outcome: optional(row, 7)?,
        last_error: row.get(8)?,
        due_in: Duration::try_from_secs_f64(due_in).map_err(corrupt)?,
        state: value(text(row, 10)?)?,
    })
}
