//! Claims, leases, and the session's record.

use std::time::Duration;

use duologue_engine::store::{Claim, Claimed, Lease, ServerId, SessionRecord, StoreError};
use duologue_protocol::{SessionId, UserId};
use sqlx::{SqliteConnection, SqlitePool, query, query_scalar};

use super::failure::{SqliteFailure, store_error};
use crate::stored::{ClaimedRow, LostRows, from_json, integer, text_of_time};

/// A session's row as JSON.
macro_rules! session_json {
    () => {
        "json_object(
            'session_id', s.session_id, 'user_id', s.user_id, 'status', s.status,
            'start_time', s.start_time, 'end_time', s.end_time,
            'duration_seconds', s.duration_seconds, 'summary', s.summary,
            'summary_status', s.summary_status, 'end_reason', s.end_reason, 'agent', s.agent,
            'metadata', json(s.metadata), 'last_seq', s.last_seq, 'log_id', s.log_id
        )"
    };
}

/// The moment so many seconds from now, by SQLite's clock, as our times are written.
macro_rules! in_seconds {
    ($seconds:literal) => {
        concat!(
            "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', printf('%+.3f seconds', ",
            $seconds,
            "))"
        )
    };
}
pub(super) use {in_seconds, session_json};

/// Takes back what the file's last process held when it was lost: the holder of the file's lock is
/// alone, so nobody else can be at work on it. The grace of those sessions begins now.
pub(super) async fn take_back(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    query(concat!(
        "update sessions set owner = null, lease_until = ",
        in_seconds!("0"),
        " where status = 'active' and owner is not null"
    ))
    .execute(&mut *connection)
    .await?;
    query(concat!(
        "update session_jobs set worker = null, due_at = ",
        in_seconds!("0"),
        " where outcome is null and worker is not null"
    ))
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes the history that is in the file now a new one: gives every log a new id, and takes every lease and
/// job from its holder. Returns the number of sessions.
pub(super) async fn restored(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    query("update duologue_installation set generation = generation + 1")
        .execute(&mut *connection)
        .await?;
    let renewed = query(concat!(
        // Above every epoch that a server which still runs may have been given after the backup.
        "update sessions set log_id = lower(hex(randomblob(16))), epoch = epoch + 1000000,
            owner = null, lease_until = ",
        in_seconds!("0")
    ))
    .execute(&mut *connection)
    .await?;
    query(concat!(
        "update session_jobs set worker = null, due_at = min(due_at, ",
        in_seconds!("0"),
        ") where outcome is null and worker is not null"
    ))
    .execute(connection)
    .await?;
    Ok(renewed.rows_affected())
}

pub(super) async fn claim(
    connection: &mut SqliteConnection,
    claim: Claim,
) -> Result<Option<Claimed>, SqliteFailure> {
    let claimed = query(concat!(
        "insert into sessions (session_id, user_id, start_time, agent, owner, lease_until)
        values (?1, ?2, ?3, ?4, ?5, ",
        in_seconds!("?6"),
        ") on conflict (session_id) do update set
            status = 'active', end_time = null, duration_seconds = null, end_reason = null,
            summary_status = null, epoch = epoch + 1, owner = excluded.owner,
            lease_until = excluded.lease_until
        where user_id = excluded.user_id"
    ))
    .bind(claim.session_id.as_str())
    .bind(claim.user_id.as_str())
    .bind(text_of_time(claim.now))
    .bind(claim.agent)
    .bind(claim.server.0)
    .bind(claim.lease_duration.as_secs_f64())
    .execute(&mut *connection)
    .await?;
    if claimed.rows_affected() == 0 {
        return Ok(None);
    }
    read_claimed(connection, claim.session_id.as_str())
        .await
        .map(Some)
}

pub(super) async fn claim_lapsed(
    connection: &mut SqliteConnection,
    server: ServerId,
    lease_duration: Duration,
    grace: Duration,
    limit: u32,
) -> Result<Vec<Claimed>, SqliteFailure> {
    let ids: Vec<String> = query_scalar(concat!(
        "update sessions set epoch = epoch + 1, owner = ?1, lease_until = ",
        in_seconds!("?2"),
        " where session_id in (
            select session_id from sessions where status = 'active' and lease_until < ",
        in_seconds!("-?3"),
        " order by lease_until limit ?4
        ) returning session_id"
    ))
    .bind(server.0)
    .bind(lease_duration.as_secs_f64())
    .bind(grace.as_secs_f64())
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let mut claimed = Vec::with_capacity(ids.len());
    for id in ids {
        claimed.push(read_claimed(connection, &id).await?);
    }
    Ok(claimed)
}

async fn read_claimed(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Claimed, SqliteFailure> {
    let json: String = query_scalar(concat!(
        "select json_object(
            'session', ",
        session_json!(),
        ", 'epoch', s.epoch, 'owner', s.owner,
            'reopened', json(iif(exists (
                select 1 from session_events as e
                where e.session_id = s.session_id and e.seq = s.last_seq
                    and e.event_type in ('session_ended', 'session_summarized')
            ), 'true', 'false')),
            'draft', json((
                select json_object('turn_id', d.turn_id, 'text', d.text)
                from session_drafts as d where d.session_id = s.session_id
            ))
        ) from sessions as s where s.session_id = ?1"
    ))
    .bind(id)
    .fetch_one(connection)
    .await?;
    let row: ClaimedRow = from_json(&json)?;
    Ok(row.into())
}

pub(super) async fn renew(
    connection: &mut SqliteConnection,
    server: ServerId,
    leases: String,
    lease_duration: Duration,
) -> Result<LostRows, SqliteFailure> {
    query(concat!(
        "update sessions set lease_until = ",
        in_seconds!("?3"),
        " where owner = ?1 and status = 'active' and (session_id, epoch) in (
            select value ->> 'session_id', value ->> 'epoch' from json_each(?2)
        )"
    ))
    .bind(&*server.0)
    .bind(&*leases)
    .bind(lease_duration.as_secs_f64())
    .execute(&mut *connection)
    .await?;
    let lost: String = query_scalar(
        "select json_group_array(json(value)) from json_each(?1)
        where not exists (
            select 1 from sessions as s
            where s.session_id = value ->> 'session_id' and s.epoch = value ->> 'epoch'
                and coalesce(s.owner, ?2) = ?2
        )",
    )
    .bind(leases)
    .bind(server.0)
    .fetch_one(connection)
    .await?;
    Ok(from_json(&lost)?)
}

pub(super) async fn release(
    connection: &mut SqliteConnection,
    lease: Lease,
) -> Result<(), SqliteFailure> {
    query(concat!(
        "update sessions set owner = null, lease_until = ",
        in_seconds!("0"),
        " where session_id = ?1 and user_id = ?2 and epoch = ?3 and owner = ?4
            and status = 'active'"
    ))
    .bind(lease.session_id.as_str())
    .bind(lease.user_id.as_str())
    .bind(integer(lease.epoch))
    .bind(&*lease.server.0)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn session(
    readers: &SqlitePool,
    user: &UserId,
    session: &SessionId,
) -> Result<Option<SessionRecord>, StoreError> {
    let json: Option<String> = query_scalar(concat!(
        "select ",
        session_json!(),
        " from sessions as s where s.session_id = ?1 and s.user_id = ?2"
    ))
    .bind(session.as_str())
    .bind(user.as_str())
    .fetch_optional(readers)
    .await
    .map_err(store_error)?;
    json.as_deref().map(from_json).transpose()
}
