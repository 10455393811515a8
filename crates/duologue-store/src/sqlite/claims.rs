//! Claims, leases, and the session's record.

use duologue_engine::store::{Abandoned, Claim, Claimed, Lease, ServerId, SessionRecord, Sweep};
use duologue_protocol::{SessionId, UserId};
use rusqlite::{Connection, OptionalExtension as _};

use super::failure::SqliteFailure;
use crate::stored::{ClaimedRow, from_json, integer, text_of_time};

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
pub(super) use in_seconds;

/// Takes back what the file's last process held when it was lost: the holder of the file's lock is
/// alone, so nobody else can be at work on it. The grace of those sessions begins now.
pub(super) fn take_back(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        concat!(
            "update sessions set owner = null, lease_until = ",
            in_seconds!("0"),
            " where status = 'active' and owner is not null"
        ),
        (),
    )?;
    connection.execute(
        concat!(
            "update session_jobs set worker = null, due_at = ",
            in_seconds!("0"),
            " where outcome is null and worker is not null"
        ),
        (),
    )?;
    Ok(())
}

/// Makes the history that is in the file now a new one: gives every log a new id, and takes every lease and
/// job from its holder. Returns the number of sessions.
pub(super) fn restored(connection: &Connection) -> rusqlite::Result<usize> {
    connection.execute(
        "update duologue_installation set generation = generation + 1",
        (),
    )?;
    let renewed = connection.execute(
        concat!(
            // Above every epoch that a server which still runs may have been given after the backup.
            "update sessions set log_id = lower(hex(randomblob(16))), epoch = epoch + 1000000,
                owner = null, lease_until = ",
            in_seconds!("0")
        ),
        (),
    )?;
    connection.execute(
        concat!(
            "update session_jobs set worker = null, due_at = min(due_at, ",
            in_seconds!("0"),
            ") where outcome is null and worker is not null"
        ),
        (),
    )?;
    Ok(renewed)
}

pub(super) fn claim(
    connection: &Connection,
    claim: &Claim,
) -> Result<Option<Claimed>, SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
        "insert into sessions (session_id, user_id, start_time, agent, owner, lease_until)
        values (?1, ?2, ?3, ?4, ?5, ",
        in_seconds!("?6"),
        ") on conflict (session_id) do update set
            status = 'active', end_time = null, duration_seconds = null, end_reason = null,
            summary_status = null, epoch = epoch + 1, owner = excluded.owner,
            lease_until = excluded.lease_until
        where user_id = excluded.user_id"
    ))?;
    let claimed = statement.execute((
        claim.session_id.as_str(),
        claim.user_id.as_str(),
        text_of_time(claim.now),
        &*claim.agent,
        &*claim.server.0,
        claim.lease_duration.as_secs_f64(),
    ))?;
    if claimed == 0 {
        return Ok(None);
    }
    read_claimed(connection, claim.session_id.as_str()).map(Some)
}

/// Claims what a sweep finds, where `lapsed` are the servers whose leases have.
pub(super) fn claim_lapsed(
    connection: &Connection,
    sweep: &Sweep,
    lapsed: &[ServerId],
) -> Result<Vec<Claimed>, SqliteFailure> {
    let limit = usize::try_from(sweep.limit).unwrap_or(usize::MAX);
    let mut ids = find_lapsed(connection, sweep, lapsed)?;
    for abandoned in &sweep.abandoned {
        let is_held = ids.len() < limit && holds(connection, &sweep.server, abandoned)?;
        let id = abandoned.session_id.as_str();
        if is_held && !ids.iter().any(|found| found == id) {
            ids.push(id.to_owned());
        }
    }
    let mut take = connection.prepare_cached(concat!(
        "update sessions set epoch = epoch + 1, owner = ?2, lease_until = ",
        in_seconds!("?3"),
        " where session_id = ?1"
    ))?;
    let claimed = ids.iter().map(|id| {
        take.execute((id, &*sweep.server.0, sweep.lease_duration.as_secs_f64()))?;
        read_claimed(connection, id)
    });
    claimed.collect()
}

/// The sessions that were released, or whose server's lease has lapsed.
fn find_lapsed(
    connection: &Connection,
    sweep: &Sweep,
    lapsed: &[ServerId],
) -> Result<Vec<String>, SqliteFailure> {
    let mut find = connection.prepare_cached(concat!(
        "select session_id from sessions where status = 'active' and (
            (owner is null and lease_until < ",
        in_seconds!("-?2"),
        ") or owner in (select value from json_each(?1))
        ) order by lease_until limit ?3"
    ))?;
    let lapsed = serde_json::to_string(lapsed).expect("texts can be written");
    let found = find.query_map((lapsed, sweep.grace.as_secs_f64(), sweep.limit), |row| {
        row.get(0)
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn holds(
    connection: &Connection,
    server: &ServerId,
    abandoned: &Abandoned,
) -> Result<bool, SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "select 1 from sessions where session_id = ?1 and user_id = ?2 and owner = ?3
            and epoch = coalesce(?4, epoch) and status = 'active'",
    )?;
    let named = (
        abandoned.session_id.as_str(),
        abandoned.user_id.as_str(),
        &*server.0,
        abandoned.epoch.map(integer),
    );
    Ok(statement.exists(named)?)
}

fn read_claimed(connection: &Connection, id: &str) -> Result<Claimed, SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
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
    ))?;
    let json: String = statement.query_row((id,), |row| row.get(0))?;
    let row: ClaimedRow = from_json(&json)?;
    Ok(row.into())
}

/// Whether the session was claimed again since, or is gone.
pub(super) fn is_lost(connection: &Connection, lease: &Lease) -> Result<bool, SqliteFailure> {
    let mut statement = connection.prepare_cached(
        "select 1 from sessions
        where session_id = ?1 and epoch = ?2 and coalesce(owner, ?3) = ?3",
    )?;
    let named = (
        lease.session_id.as_str(),
        integer(lease.epoch),
        &*lease.server.0,
    );
    Ok(!statement.exists(named)?)
}

pub(super) fn release(connection: &Connection, lease: &Lease) -> Result<(), SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
        "update sessions set owner = null, lease_until = ",
        in_seconds!("0"),
        " where session_id = ?1 and user_id = ?2 and epoch = ?3 and owner = ?4
            and status = 'active'"
    ))?;
    statement.execute((
        lease.session_id.as_str(),
        lease.user_id.as_str(),
        integer(lease.epoch),
        &*lease.server.0,
    ))?;
    Ok(())
}

pub(super) fn session(
    connection: &Connection,
    user: &UserId,
    session: &SessionId,
) -> Result<Option<SessionRecord>, SqliteFailure> {
    let mut statement = connection.prepare_cached(concat!(
        "select ",
        session_json!(),
        " from sessions as s where s.session_id = ?1 and s.user_id = ?2"
    ))?;
    let json: Option<String> = statement
        .query_row((session.as_str(), user.as_str()), |row| row.get(0))
        .optional()?;
    Ok(json.as_deref().map(from_json).transpose()?)
}
