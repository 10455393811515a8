//! The log: appending, ending, drafts, reading.

use duologue_engine::store::{
    Draft, JobClaim, Lease, StoreError,
    normalize::{Ending, stored_payload, stored_text},
};
use duologue_protocol::{Event, EventBody, Seq, SessionId, Timestamp, UserId};
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::{
    claims::{in_seconds, is_lost},
    failure::SqliteFailure,
};
use crate::stored::{corrupt, integer, text_of_time};

/// Events on their way into the log.
pub(super) struct NewEvents {
    after: i64,
    last: i64,
    rows: Vec<NewEvent>,
    completes_answer: bool,
}

struct NewEvent {
    seq: i64,
    event_type: String,
    payload: String,
    occurred_at: String,
}

impl NewEvents {
    pub(super) fn new(after: Seq, events: &[Event]) -> Self {
        let after = integer(after.0);
        let rows = (after + 1..).zip(events).map(|(seq, event)| NewEvent {
            seq,
            event_type: event.body.event_type().to_owned(),
            payload: stored_payload(event),
            occurred_at: text_of_time(event.occurred_at),
        });
        let rows: Vec<_> = rows.collect();
        Self {
            after,
            last: rows.last().map_or(after, |event| event.seq),
            rows,
            completes_answer: events
                .iter()
                .any(|event| matches!(event.body, EventBody::AssistantMessage(_))),
        }
    }

    /// The number of the last one.
    pub(super) fn last(&self) -> Seq {
        Seq(self.last.unsigned_abs())
    }
}

pub(super) fn append(
    connection: &Connection,
    lease: &Lease,
    events: &NewEvents,
) -> Result<(), SqliteFailure> {
    if !advance(connection, lease, events)? {
        return must_be_repeated(connection, lease, events);
    }
    let session = lease.session_id.as_str();
    insert(connection, session, integer(lease.epoch), events)?;
    if events.completes_answer {
        delete_draft(connection, &lease.session_id)?;
    }
    Ok(())
}

pub(super) fn end(
    connection: &Connection,
    lease: &Lease,
    events: &NewEvents,
    ending: &Ending,
    claim: Option<&JobClaim>,
) -> Result<(), SqliteFailure> {
    if !advance(connection, lease, events)? {
        return must_be_repeated(connection, lease, events);
    }
    let session = lease.session_id.as_str();
    insert(connection, session, integer(lease.epoch), events)?;
    delete_draft(connection, &lease.session_id)?;
    let mut started =
        connection.prepare_cached("select start_time from sessions where session_id = ?1")?;
    let start_time: String = started.query_row((session,), |row| row.get(0))?;
    let start_time: Timestamp = start_time.parse().map_err(corrupt)?;
    let mut end = connection.prepare_cached(concat!(
        "update sessions set status = 'ended', end_time = ?2, duration_seconds = ?3,
            end_reason = ?4, summary_status = 'pending', owner = null, lease_until = ",
        in_seconds!("0"),
        " where session_id = ?1"
    ))?;
    end.execute((
        session,
        text_of_time(ending.time),
        ending.duration_seconds(start_time),
        ending.reason.as_str(),
    ))?;
    let mut job = connection.prepare_cached(concat!(
        "insert into session_jobs (session_id, user_id, last_seq, worker, attempt, due_at)
        values (?1, ?2, ?3, ?4, iif(?4 is null, 0, 1), ",
        in_seconds!("?5"),
        ")"
    ))?;
    job.execute((
        session,
        lease.user_id.as_str(),
        events.last,
        claim.map(|claim| &*claim.worker.0),
        claim.map_or(0.0, |claim| claim.lease_duration.as_secs_f64()),
    ))?;
    Ok(())
}

/// Saves each draft by itself. Returns those leases under which it could not, and that are lost.
pub(super) fn save_drafts(
    connection: &Connection,
    drafts: &[(Lease, Draft)],
) -> Result<Vec<Lease>, SqliteFailure> {
    let mut lost = Vec::new();
    for (lease, draft) in drafts {
        if !save_draft(connection, lease, draft)? && is_lost(connection, lease)? {
            lost.push(lease.clone());
        }
    }
    Ok(lost)
}

/// Whether the draft could be saved.
fn save_draft(
    connection: &Connection,
    lease: &Lease,
    draft: &Draft,
) -> Result<bool, SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
        "insert into session_drafts (session_id, turn_id, text, saved_at)
        select session_id, ?4, ?5, ",
        in_seconds!("0"),
        " from sessions
        where session_id = ?1 and user_id = ?2 and epoch = ?3 and owner = ?6 and status = 'active'
        on conflict (session_id) do update set
            turn_id = excluded.turn_id, text = excluded.text, saved_at = excluded.saved_at"
    ))?;
    let saved = statement.execute((
        lease.session_id.as_str(),
        lease.user_id.as_str(),
        integer(lease.epoch),
        draft.turn_id.to_string(),
        stored_text(&draft.text),
        &*lease.server.0,
    ))?;
    Ok(saved == 1)
}

pub(super) fn read(
    connection: &Connection,
    user: &UserId,
    session: &SessionId,
    after: Seq,
    limit: u32,
) -> Result<Vec<Event>, SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "select e.seq, e.occurred_at, e.event_type, e.payload
        from session_events as e join sessions as s on s.session_id = e.session_id
        where e.session_id = ?1 and s.user_id = ?2 and e.seq > ?3 order by e.seq limit ?4",
    )?;
    let mut rows = statement.query((session.as_str(), user.as_str(), integer(after.0), limit))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(event(row)?);
    }
    Ok(events)
}

fn event(row: &Row<'_>) -> Result<Event, SqliteFailure> {
    let seq: i64 = row.get(0)?;
    let seq = Seq(u64::try_from(seq).map_err(corrupt)?);
    let occurred_at = text(row, 1)?.parse().map_err(corrupt)?;
    let (event_type, payload) = (text(row, 2)?, text(row, 3)?);
    let event = Event::read_text(seq, occurred_at, event_type, payload);
    Ok(event.map_err(corrupt)?)
}

/// A column's text, without a copy.
pub(super) fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, SqliteFailure> {
    let text = row.get_ref(column)?.as_str();
    Ok(text.map_err(corrupt)?)
}

/// A session that ended before the moment has no answers after it.
pub(super) fn tokens_spent(
    connection: &Connection,
    user: &UserId,
    since: Timestamp,
) -> Result<u64, SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "select coalesce(sum(
            coalesce(e.payload ->> '$.usage.input_tokens', 0)
                + coalesce(e.payload ->> '$.usage.output_tokens', 0)
        ), 0)
        from sessions as s
        join session_events as e
            on e.session_id = s.session_id and e.event_type = 'assistant_message'
                and e.occurred_at >= ?2
        where s.user_id = ?1 and (s.end_time is null or s.end_time >= ?2)",
    )?;
    let spent: i64 = statement.query_row((user.as_str(), text_of_time(since)), |row| row.get(0))?;
    Ok(u64::try_from(spent).map_err(corrupt)?)
}

/// Writes the events themselves. The caller has made sure that they come next.
pub(super) fn insert(
    connection: &Connection,
    session: &str,
    epoch: i64,
    events: &NewEvents,
) -> Result<(), SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        values (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for event in &events.rows {
        let NewEvent {
            seq,
            event_type,
            payload,
            occurred_at,
        } = event;
        statement.execute((session, seq, epoch, event_type, payload, occurred_at))?;
    }
    Ok(())
}

/// Advances the end of the log, if the lease is valid and the log ends where the caller expects.
fn advance(
    connection: &Connection,
    lease: &Lease,
    events: &NewEvents,
) -> Result<bool, SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "update sessions set last_seq = ?5
        where session_id = ?1 and user_id = ?2 and epoch = ?3 and owner = ?6
            and status = 'active' and last_seq = ?4",
    )?;
    let advanced = statement.execute((
        lease.session_id.as_str(),
        lease.user_id.as_str(),
        integer(lease.epoch),
        events.after,
        events.last,
        &*lease.server.0,
    ))?;
    Ok(advanced == 1)
}

/// A write that does not fit is accepted if it is a repetition under the same epoch.
fn must_be_repeated(
    connection: &Connection,
    lease: &Lease,
    events: &NewEvents,
) -> Result<(), SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "select 1 from session_events as e join sessions as s on s.session_id = e.session_id
        where e.session_id = ?1 and s.user_id = ?2 and e.epoch = ?3 and e.seq = ?4
            and e.event_type = ?5 and e.payload = ?6 and e.occurred_at = ?7",
    )?;
    let mut is_stored = |event: &NewEvent| {
        let found = statement.query_row(
            (
                lease.session_id.as_str(),
                lease.user_id.as_str(),
                integer(lease.epoch),
                event.seq,
                &event.event_type,
                &event.payload,
                &event.occurred_at,
            ),
            |_| Ok(()),
        );
        found.optional().map(|found| found.is_some())
    };
    for event in &events.rows {
        conflict_unless(is_stored(event)?)?;
    }
    conflict_unless(!events.rows.is_empty())
}

fn delete_draft(connection: &Connection, session: &SessionId) -> Result<(), SqliteFailure> {
    let mut statement =
        connection.prepare_cached("delete from session_drafts where session_id = ?1")?;
    statement.execute((session.as_str(),))?;
    Ok(())
}

pub(super) fn conflict_unless(fits: bool) -> Result<(), SqliteFailure> {
    if fits {
        Ok(())
    } else {
        Err(SqliteFailure(StoreError::Conflict))
    }
}
