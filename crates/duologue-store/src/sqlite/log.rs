//! The log: appending, ending, drafts, reading.

use duologue_engine::store::{
    Draft, JobClaim, Lease, StoreError,
    normalize::{Ending, stored_payload, stored_text},
};
use duologue_protocol::{Event, EventBody, Seq, SessionId, Timestamp, UserId};
use sqlx::{SqliteConnection, SqliteExecutor, SqlitePool, query, query_as, query_scalar};

use super::{
    claims::in_seconds,
    failure::{SqliteFailure, store_error},
};
use crate::stored::{EventRow, corrupt, from_json, integer, text_of_time};

/// Events on their way into the log.
pub(super) struct NewEvents {
    after: i64,
    pub(super) last: i64,
    /// `[[event_type, payload, occurred_at], …]`, where the payload is JSON in a string. One
    /// parameter for all of them, so that the statement is the same, and prepared once, whatever
    /// their number.
    rows: String,
    completes_answer: bool,
}

impl NewEvents {
    pub(super) fn new(after: Seq, events: &[Event]) -> Self {
        let rows: Vec<_> = events
            .iter()
            .map(|event| {
                let time = text_of_time(event.occurred_at);
                [
                    event.body.event_type().to_owned(),
                    stored_payload(event),
                    time,
                ]
            })
            .collect();
        Self {
            after: integer(after.0),
            last: integer(after.0 + events.len() as u64),
            rows: serde_json::to_string(&rows).expect("strings are JSON"),
            completes_answer: events
                .iter()
                .any(|event| matches!(event.body, EventBody::AssistantMessage(_))),
        }
    }
}

pub(super) async fn append(
    connection: &mut SqliteConnection,
    lease: Lease,
    events: NewEvents,
) -> Result<(), SqliteFailure> {
    if !advance(connection, &lease, &events).await? {
        return must_be_repeated(connection, &lease, &events).await;
    }
    insert(
        connection,
        lease.session_id.as_str(),
        integer(lease.epoch),
        &events,
    )
    .await?;
    if events.completes_answer {
        delete_draft(connection, &lease.session_id).await?;
    }
    Ok(())
}

pub(super) async fn end(
    connection: &mut SqliteConnection,
    lease: Lease,
    events: NewEvents,
    ending: Ending,
    claim: Option<JobClaim>,
) -> Result<(), SqliteFailure> {
    if !advance(connection, &lease, &events).await? {
        return must_be_repeated(connection, &lease, &events).await;
    }
    insert(
        connection,
        lease.session_id.as_str(),
        integer(lease.epoch),
        &events,
    )
    .await?;
    delete_draft(connection, &lease.session_id).await?;
    let start_time: String = query_scalar("select start_time from sessions where session_id = ?1")
        .bind(lease.session_id.as_str())
        .fetch_one(&mut *connection)
        .await?;
    let start_time: Timestamp = start_time.parse().map_err(corrupt)?;
    query(concat!(
        "update sessions set status = 'ended', end_time = ?2, duration_seconds = ?3,
            end_reason = ?4, summary_status = 'pending', owner = null, lease_until = ",
        in_seconds!("0"),
        " where session_id = ?1"
    ))
    .bind(lease.session_id.as_str())
    .bind(text_of_time(ending.time))
    .bind(ending.duration_seconds(start_time))
    .bind(ending.reason.as_str())
    .execute(&mut *connection)
    .await?;
    query(concat!(
        "insert into session_jobs (session_id, user_id, last_seq, worker, attempt, due_at)
        values (?1, ?2, ?3, ?4, iif(?4 is null, 0, 1), ",
        in_seconds!("?5"),
        ")"
    ))
    .bind(lease.session_id.as_str())
    .bind(lease.user_id.as_str())
    .bind(events.last)
    .bind(claim.as_ref().map(|claim| &*claim.worker.0))
    .bind(
        claim
            .as_ref()
            .map_or(0.0, |claim| claim.lease_duration.as_secs_f64()),
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// Saves each draft by itself. Returns those leases under which it could not, and that are lost.
pub(super) async fn save_drafts(
    connection: &mut SqliteConnection,
    drafts: Vec<(Lease, Draft)>,
) -> Result<Vec<Lease>, SqliteFailure> {
    let mut lost = Vec::new();
    for (lease, draft) in drafts {
        if !save_draft(connection, &lease, draft).await? && is_lost(connection, &lease).await? {
            lost.push(lease);
        }
    }
    Ok(lost)
}

async fn is_lost(connection: &mut SqliteConnection, lease: &Lease) -> Result<bool, SqliteFailure> {
    let lost = query_scalar(
        "select not exists (
            select 1 from sessions
            where session_id = ?1 and epoch = ?2 and coalesce(owner, ?3) = ?3
        )",
    )
    .bind(lease.session_id.as_str())
    .bind(integer(lease.epoch))
    .bind(&*lease.server.0)
    .fetch_one(connection)
    .await?;
    Ok(lost)
}

/// Whether the draft could be saved.
async fn save_draft(
    connection: &mut SqliteConnection,
    lease: &Lease,
    draft: Draft,
) -> Result<bool, SqliteFailure> {
    let saved = query(concat!(
        "insert into session_drafts (session_id, turn_id, text, saved_at)
        select session_id, ?4, ?5, ",
        in_seconds!("0"),
        " from sessions
        where session_id = ?1 and user_id = ?2 and epoch = ?3 and owner = ?6 and status = 'active'
        on conflict (session_id) do update set
            turn_id = excluded.turn_id, text = excluded.text, saved_at = excluded.saved_at"
    ))
    .bind(lease.session_id.as_str())
    .bind(lease.user_id.as_str())
    .bind(integer(lease.epoch))
    .bind(draft.turn_id.to_string())
    .bind(stored_text(&draft.text))
    .bind(&*lease.server.0)
    .execute(connection)
    .await?;
    Ok(saved.rows_affected() == 1)
}

pub(super) async fn read(
    readers: &SqlitePool,
    user: &UserId,
    session: &SessionId,
    after: Seq,
    limit: u32,
) -> Result<Vec<Event>, StoreError> {
    let rows: Vec<(i64, String, String, String)> = query_as(
        "select e.seq, e.occurred_at, e.event_type, e.payload
        from session_events as e join sessions as s on s.session_id = e.session_id
        where e.session_id = ?1 and s.user_id = ?2 and e.seq > ?3 order by e.seq limit ?4",
    )
    .bind(session.as_str())
    .bind(user.as_str())
    .bind(integer(after.0))
    .bind(limit)
    .fetch_all(readers)
    .await
    .map_err(store_error)?;
    let events = rows
        .into_iter()
        .map(|(seq, occurred_at, event_type, payload)| {
            let row = EventRow {
                seq: Seq(u64::try_from(seq).map_err(corrupt)?),
                occurred_at: occurred_at.parse().map_err(corrupt)?,
                event_type,
                payload: from_json(&payload)?,
            };
            row.event()
        });
    events.collect()
}

/// A session that ended before the moment has no answers after it.
pub(super) async fn tokens_spent(
    executor: impl SqliteExecutor<'_>,
    user: &UserId,
    since: Timestamp,
) -> Result<u64, StoreError> {
    let spent: i64 = query_scalar(
        "select coalesce(sum(
            coalesce(e.payload ->> '$.usage.input_tokens', 0)
                + coalesce(e.payload ->> '$.usage.output_tokens', 0)
        ), 0)
        from sessions as s
        join session_events as e
            on e.session_id = s.session_id and e.event_type = 'assistant_message'
                and e.occurred_at >= ?2
        where s.user_id = ?1 and (s.end_time is null or s.end_time >= ?2)",
    )
    .bind(user.as_str())
    .bind(text_of_time(since))
    .fetch_one(executor)
    .await
    .map_err(store_error)?;
    u64::try_from(spent).map_err(corrupt)
}

pub(super) async fn nothing(connection: &mut SqliteConnection) -> Result<(), SqliteFailure> {
    query("select 1").execute(connection).await?;
    Ok(())
}

/// Writes the events themselves. The caller has made sure that they come next.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    session: &str,
    epoch: i64,
    events: &NewEvents,
) -> Result<(), SqliteFailure> {
    query(
        "insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        select ?1, ?2 + 1 + key, ?3, value ->> 0, value ->> 1, value ->> 2 from json_each(?4)",
    )
    .bind(session)
    .bind(events.after)
    .bind(epoch)
    .bind(events.rows.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Advances the end of the log, if the lease is valid and the log ends where the caller expects.
async fn advance(
    connection: &mut SqliteConnection,
    lease: &Lease,
    events: &NewEvents,
) -> Result<bool, SqliteFailure> {
    let advanced = query(
        "update sessions set last_seq = ?5
        where session_id = ?1 and user_id = ?2 and epoch = ?3 and owner = ?6
            and status = 'active' and last_seq = ?4",
    )
    .bind(lease.session_id.as_str())
    .bind(lease.user_id.as_str())
    .bind(integer(lease.epoch))
    .bind(events.after)
    .bind(events.last)
    .bind(&*lease.server.0)
    .execute(connection)
    .await?;
    Ok(advanced.rows_affected() == 1)
}

/// A write that does not fit is accepted if it is a repetition under the same epoch.
async fn must_be_repeated(
    connection: &mut SqliteConnection,
    lease: &Lease,
    events: &NewEvents,
) -> Result<(), SqliteFailure> {
    let stored: i64 = query_scalar(
        "select count(*)
        from json_each(?5) as new
        join session_events as e on e.session_id = ?1 and e.seq = ?4 + 1 + new.key
        join sessions as s on s.session_id = e.session_id
        where s.user_id = ?2 and e.epoch = ?3 and e.event_type = new.value ->> 0
            and e.payload = new.value ->> 1 and e.occurred_at = new.value ->> 2",
    )
    .bind(lease.session_id.as_str())
    .bind(lease.user_id.as_str())
    .bind(integer(lease.epoch))
    .bind(events.after)
    .bind(events.rows.as_str())
    .fetch_one(connection)
    .await?;
    conflict_unless(stored > 0 && stored == events.last - events.after)
}

async fn delete_draft(
    connection: &mut SqliteConnection,
    session: &SessionId,
) -> Result<(), SqliteFailure> {
    query("delete from session_drafts where session_id = ?1")
        .bind(session.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) fn conflict_unless(fits: bool) -> Result<(), SqliteFailure> {
    if fits {
        Ok(())
    } else {
        Err(SqliteFailure(StoreError::Conflict))
    }
}
