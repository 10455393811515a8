//! Plain queries that read sessions as they are stored, many at a time.

use std::collections::HashMap;

use duologue_engine::store::{
    StoreError,
    operators::{ReadLimits, SessionRows, StoredEvent, StoredSession},
};
use duologue_protocol::{Event, Seq, SessionId};
use sqlx::{Row as _, postgres::PgRow};

use super::{
    PostgresCaller,
    statement::{literal, text_array},
};
use crate::stored::{HeadRow, corrupt, from_json, integer, stored_event};

/// The schema of the functions, if they run as this role: then they see what it sees.
const SCHEMA_OF_OWNER: &str = "\
    select quote_ident(n.nspname)
    from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
    where p.oid = to_regprocedure('duologue_inspect_head(text)')
        and pg_get_userbyid(p.proowner) = current_user";

/// What is stored of sessions besides their logs, as `duologue_inspect_head` has it.
const HEADS: &str = "\
    select s.session_id, jsonb_build_object(
        'record', jsonb_build_object(
            'session_id', s.session_id, 'user_id', s.user_id, 'status', s.status,
            'start_time', s.start_time, 'end_time', s.end_time,
            'duration_seconds', s.duration_seconds, 'summary', s.summary,
            'summary_status', s.summary_status, 'end_reason', s.end_reason, 'agent', s.agent,
            'metadata', s.metadata, 'last_seq', s.last_seq, 'log_id', s.log_id
        ),
        'epoch', s.epoch, 'owner', s.owner,
        'log_end', (
            select coalesce(max(e.seq), 0) from session_events as e
            where e.session_id = s.session_id
        ),
        'jobs', (
            select coalesce(jsonb_agg(jsonb_build_object(
                'id', j.id, 'session_id', j.session_id, 'user_id', j.user_id,
                'last_seq', j.last_seq, 'attempt', j.attempt, 'uncounted', j.uncounted,
                'worker', j.worker, 'outcome', j.outcome, 'last_error', j.last_error,
                'due_in_seconds', case when j.outcome is null
                    then greatest(extract(epoch from j.due_at - clock_timestamp()), 0) else 0 end,
                'state', case
                    when j.outcome is null and j.worker is not null
                        and j.due_at > clock_timestamp() then 'running'
                    when j.outcome is null then 'waiting'
                    when j.outcome = 'superseded' then 'superseded'
                    when exists (
                        select from session_events as e
                        where e.session_id = j.session_id and e.seq = j.last_seq + 1
                            and e.event_type = 'session_summarized'
                            and e.payload ->> 'status' = 'done'
                    ) then 'done'
                    when s.status = 'completed' and s.last_seq = j.last_seq + 1 then 'failed'
                    else 'superseded'
                end
            ) order by j.id), '[]')
            from session_jobs as j where j.session_id = s.session_id
        )
    )::text
    from sessions as s where s.session_id = any(";

/// Which schema's tables these queries can be used on, with its name quoted.
pub(super) async fn schema(caller: &PostgresCaller) -> Result<Option<String>, StoreError> {
    let rows = caller.query(None, SCHEMA_OF_OWNER).await?;
    let name = rows.first().map(|row| row.try_get(0).map_err(corrupt));
    name.transpose()
}

/// See [`OperatorStore::outlines`](duologue_engine::store::operators::OperatorStore::outlines).
pub(super) async fn outlines(
    caller: &PostgresCaller,
    schema: &str,
    session: &SessionId,
    after: Seq,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let sql = format!(
        "select seq, epoch, occurred_at::text, event_type, payload::text from session_events
        where session_id = {} and seq > {} order by seq limit {limit}",
        literal(session.as_str()),
        integer(after.0),
    );
    let rows = caller.query(Some(schema), &sql).await?;
    rows.iter().map(event).collect()
}

/// See [`OperatorStore::stored_sessions`](duologue_engine::store::operators::OperatorStore::stored_sessions).
///
/// The heads come first. They say where the logs end, and what is in a log before its end never changes.
pub(super) async fn stored_sessions(
    caller: &PostgresCaller,
    schema: &str,
    sessions: &[SessionId],
    limits: ReadLimits,
) -> Result<Vec<SessionRows>, StoreError> {
    let mut heads = heads(caller, schema, sessions).await?;
    let mut rows_left = u64::from(limits.rows);
    let mut read = Vec::with_capacity(sessions.len());
    let mut row_counts = Vec::with_capacity(sessions.len());
    for session_id in sessions {
        if rows_left == 0 {
            break;
        }
        let head = heads.remove(session_id.as_str()).flatten();
        let log_end = head.as_ref().map_or(0, |head| head.log_end.0);
        row_counts.push(log_end.min(rows_left));
        rows_left = rows_left.saturating_sub(log_end);
        read.push(SessionRows {
            session_id: session_id.clone(),
            head,
            log: Vec::new(),
        });
    }
    let events = logs(caller, schema, &read, &row_counts, limits.bytes).await?;
    for (position, event) in events {
        let session = position.checked_sub(1).and_then(|at| read.get_mut(at));
        let session = session.ok_or_else(|| corrupt("rows of no session"))?;
        session.log.push(event);
    }
    // Those that the limit of bytes left out are read by the next call.
    let is_read = |(session, rows): (&SessionRows, &u64)| *rows == 0 || !session.log.is_empty();
    let count = read
        .iter()
        .zip(&row_counts)
        .skip(1)
        .take_while(|s| is_read(*s));
    let count = 1 + count.count();
    read.truncate(count);
    Ok(read)
}

async fn heads(
    caller: &PostgresCaller,
    schema: &str,
    sessions: &[SessionId],
) -> Result<HashMap<String, Option<StoredSession>>, StoreError> {
    let ids = text_array(sessions.iter().map(SessionId::as_str));
    let rows = caller
        .query(Some(schema), &format!("{HEADS}{ids})"))
        .await?;
    let head = |row: &PgRow| -> sqlx::Result<_> {
        let (id, json) = (row.try_get(0)?, row.try_get(1)?);
        let row: Result<HeadRow, _> = from_json(json);
        Ok((id, row.map(StoredSession::from).ok()))
    };
    let heads: sqlx::Result<_> = rows.iter().map(head).collect();
    heads.map_err(corrupt)
}

/// The first rows of logs, each with the position of its session: as many as are named, and until there are so many
/// bytes, as Postgres stores them.
async fn logs(
    caller: &PostgresCaller,
    schema: &str,
    sessions: &[SessionRows],
    row_counts: &[u64],
    bytes: u32,
) -> Result<Vec<(usize, StoredEvent)>, StoreError> {
    let ids = text_array(sessions.iter().map(|session| session.session_id.as_str()));
    let row_counts: Vec<_> = row_counts.iter().map(u64::to_string).collect();
    let row_counts = row_counts.join(", ");
    let sql = format!(
        "select seq, epoch, occurred_at::text, event_type, payload::text, position
        from (
            select e.*, w.position,
                sum(pg_column_size(e.payload)) over so_far - pg_column_size(e.payload) as bytes_before
            from unnest({ids}, array[{row_counts}]::bigint[])
                with ordinality as w (session_id, row_count, position)
            cross join lateral (
                select e.seq, e.epoch, e.occurred_at, e.event_type, e.payload
                from session_events as e where e.session_id = w.session_id
                order by e.seq limit w.row_count
            ) as e
            window so_far as (order by w.position, e.seq rows unbounded preceding)
        ) as e
        where bytes_before < {bytes} order by position, seq"
    );
    let rows = caller.query(Some(schema), &sql).await?;
    let rows = rows.iter().map(|row| {
        let position: i64 = row.try_get(5).map_err(corrupt)?;
        Ok((usize::try_from(position).map_err(corrupt)?, event(row)?))
    });
    rows.collect()
}

/// A row whose first columns are number, epoch, time, type and payload.
fn event(row: &PgRow) -> Result<StoredEvent, StoreError> {
    let number = |column: usize| -> Result<u64, StoreError> {
        let number: i64 = row.try_get(column).map_err(corrupt)?;
        u64::try_from(number).map_err(corrupt)
    };
    let text = |column: usize| row.try_get::<&str, _>(column).map_err(corrupt);
    let (time, event_type, payload) = (text(2)?, text(3)?, text(4)?);
    Ok(stored_event(
        Seq(number(0)?),
        number(1)?,
        time,
        |seq, time| Event::read_outline(seq, time, event_type, payload),
    ))
}
