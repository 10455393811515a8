//! Reads sessions and jobs as they are stored, for operators.

use duologue_engine::store::operators::{
    JobRecord, Jobs, PageLimits, PagedSession, StoredEvent, StoredSession,
};
use duologue_protocol::{Seq, SessionId};
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde_json::Value;

use super::{
    claims::{in_seconds, session_json},
    failure::SqliteFailure,
};
use crate::stored::{HeadRow, StoredEventRow, corrupt, from_json, integer};

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
pub(super) use job_json;

/// A session and its jobs as JSON, of sessions `s`.
macro_rules! head_json {
    () => {
        concat!(
            "json_object(
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
            )"
        )
    };
}

pub(super) fn session_ids(
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

pub(super) fn stored_session(
    connection: &Connection,
    session: &SessionId,
) -> Result<Option<StoredSession>, SqliteFailure> {
    // One statement, so that it is of one moment.
    let mut statement = connection.prepare_cached(concat!(
        "select ",
        head_json!(),
        " from sessions as s where s.session_id = ?1"
    ))?;
    let json: Option<String> = statement
        .query_row((session.as_str(),), |row| row.get(0))
        .optional()?;
    let row: Option<HeadRow> = json.as_deref().map(from_json).transpose()?;
    Ok(row.map(StoredSession::from))
}

pub(super) fn page(
    connection: &Connection,
    after: Option<&SessionId>,
    limits: PageLimits,
) -> Result<Vec<PagedSession>, SqliteFailure> {
    // One transaction, so that all is of one moment. It is rolled back, since it changes nothing.
    let transaction = connection.unchecked_transaction()?;
    let mut heads = transaction.prepare_cached(concat!(
        "select s.session_id, ",
        head_json!(),
        " from sessions as s where ?1 is null or s.session_id > ?1 order by s.session_id limit ?2"
    ))?;
    let mut events = transaction.prepare_cached(
        "select seq, epoch, occurred_at, event_type, payload from session_events
        where session_id = ?1 order by seq limit ?2",
    )?;
    let after = after.map(SessionId::as_str);
    let mut heads = heads.query((after, limits.sessions))?;
    let (mut rows_left, mut bytes_left) = (limits.rows, limits.bytes as usize);
    let mut page = Vec::new();
    while rows_left > 0
        && bytes_left > 0
        && let Some(row) = heads.next()?
    {
        let (id, json): (String, String) = (row.get(0)?, row.get(1)?);
        let head = from_json::<HeadRow>(&json).ok();
        let mut log = Vec::new();
        let mut rows = events.query((&id, rows_left))?;
        while bytes_left > 0
            && let Some(row) = rows.next()?
        {
            let payload_bytes = row.get_ref(4)?.as_bytes().map_or(0, <[u8]>::len);
            bytes_left = bytes_left.saturating_sub(payload_bytes);
            rows_left -= 1;
            log.push(stored_event(row)?);
        }
        page.push(PagedSession {
            session_id: SessionId::new(&id).map_err(corrupt)?,
            head: head.map(StoredSession::from),
            log,
        });
    }
    Ok(page)
}

pub(super) fn rows(
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

pub(super) fn jobs(
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
