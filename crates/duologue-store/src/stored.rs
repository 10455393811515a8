//! How rows become the engine's types. All backends return sessions, claims and jobs as JSON, so that
//! there is one way to read them.

use std::collections::HashSet;

use duologue_engine::{
    BoxError,
    store::{
        Abandoned, Claimed, Draft, Job, Lease, ServerId, SessionRecord, StoreError,
        operators::{JobRecord, StoredEvent, StoredSession},
    },
};
use duologue_protocol::{Event, PayloadError, Seq, SessionId, Timestamp, TurnId, UserId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A session that was claimed.
#[derive(Deserialize)]
pub(crate) struct ClaimedRow {
    session: SessionRecord,
    epoch: u64,
    owner: ServerId,
    reopened: bool,
    draft: Option<DraftRow>,
    #[serde(default)]
    started: bool,
    #[serde(default)]
    tokens_spent: Option<u64>,
}

#[derive(Deserialize)]
struct DraftRow {
    turn_id: TurnId,
    text: String,
}

/// A lease as a heartbeat names it. The caller knows the session's user.
#[derive(PartialEq, Eq, Hash, Serialize, Deserialize)]
struct LeaseRow {
    session_id: SessionId,
    epoch: u64,
}

/// Leases as a heartbeat takes them.
pub(crate) fn leases_json(leases: &[Lease]) -> String {
    let rows: Vec<_> = leases.iter().map(LeaseRow::of).collect();
    serde_json::to_string(&rows).expect("texts and numbers can be written")
}

/// The leases that a heartbeat found to be lost.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct LostRows(HashSet<LeaseRow>);

/// Sessions as a sweep names them.
pub(crate) fn abandoned_json(sessions: &[Abandoned]) -> String {
    let rows: Vec<_> = sessions.iter().map(AbandonedRow::of).collect();
    serde_json::to_string(&rows).expect("texts and numbers can be written")
}

#[derive(Serialize)]
struct AbandonedRow<'a> {
    session_id: &'a SessionId,
    user_id: &'a UserId,
    epoch: Option<u64>,
}

impl<'a> AbandonedRow<'a> {
    fn of(session: &'a Abandoned) -> Self {
        let Abandoned {
            session_id,
            user_id,
            epoch,
        } = session;
        Self {
            session_id,
            user_id,
            epoch: *epoch,
        }
    }
}

impl LostRows {
    pub(crate) fn of(&self, leases: &[Lease]) -> Vec<Lease> {
        let lost = leases
            .iter()
            .filter(|lease| self.0.contains(&LeaseRow::of(lease)));
        lost.cloned().collect()
    }
}

impl LeaseRow {
    fn of(lease: &Lease) -> Self {
        Self {
            session_id: lease.session_id.clone(),
            epoch: lease.epoch,
        }
    }
}

/// An event of a log.
#[derive(Deserialize)]
pub(crate) struct EventRow {
    seq: Seq,
    occurred_at: Timestamp,
    event_type: String,
    payload: Value,
}

/// A job that was claimed.
#[derive(Deserialize)]
pub(crate) struct JobRow {
    id: i64,
    session_id: SessionId,
    user_id: UserId,
    last_seq: Seq,
    worker: String,
    attempt: u32,
    uncounted: u32,
}

/// What is stored of a session besides its log.
#[derive(Deserialize)]
pub(crate) struct HeadRow {
    record: SessionRecord,
    epoch: u64,
    owner: Option<ServerId>,
    log_end: Seq,
    jobs: Vec<JobRecord>,
}

/// An event of a log as it is stored, which may be unreadable.
#[derive(Deserialize)]
pub(crate) struct StoredEventRow {
    seq: Seq,
    epoch: u64,
    occurred_at: Option<String>,
    event_type: String,
    payload: Value,
}

impl From<HeadRow> for StoredSession {
    fn from(row: HeadRow) -> Self {
        Self {
            record: row.record,
            epoch: row.epoch,
            owner: row.owner,
            log_end: row.log_end,
            jobs: row.jobs,
        }
    }
}

impl From<StoredEventRow> for StoredEvent {
    fn from(row: StoredEventRow) -> Self {
        let StoredEventRow {
            seq,
            epoch,
            occurred_at,
            event_type,
            payload,
        } = row;
        stored_event(seq, epoch, &occurred_at.unwrap_or_default(), |seq, time| {
            Event::read(seq, time, &event_type, payload)
        })
    }
}

/// An event of a log, or why it cannot be read.
pub(crate) fn stored_event(
    seq: Seq,
    epoch: u64,
    occurred_at: &str,
    read: impl FnOnce(Seq, Timestamp) -> Result<Event, PayloadError>,
) -> StoredEvent {
    let event = match occurred_at.parse() {
        // The cause would repeat what somebody said.
        Ok(time) => read(seq, time).map_err(|e| e.to_string()),
        Err(_) => Err("its time cannot be read".to_owned()),
    };
    StoredEvent { seq, epoch, event }
}

impl From<ClaimedRow> for Claimed {
    fn from(row: ClaimedRow) -> Self {
        Self {
            lease: Lease {
                session_id: row.session.session_id.clone(),
                user_id: row.session.user_id.clone(),
                server: row.owner,
                epoch: row.epoch,
            },
            session: row.session,
            reopened: row.reopened,
            draft: row
                .draft
                .map(|DraftRow { turn_id, text }| Draft { turn_id, text }),
            started: row.started,
            tokens_spent: row.tokens_spent,
        }
    }
}

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Self {
        Self {
            id: row.id,
            session_id: row.session_id,
            user_id: row.user_id,
            last_seq: row.last_seq,
            worker: ServerId(row.worker),
            attempt: row.attempt,
            uncounted: row.uncounted,
        }
    }
}

impl EventRow {
    pub(crate) fn event(self) -> Result<Event, StoreError> {
        let event = Event::read(self.seq, self.occurred_at, &self.event_type, self.payload);
        event.map_err(corrupt)
    }
}

/// Reads JSON that a database made.
pub(crate) fn from_json<T: DeserializeOwned>(json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(corrupt)
}

pub(crate) fn corrupt(error: impl Into<BoxError>) -> StoreError {
    StoreError::Corrupt(error.into())
}

/// A number as both databases keep it. The numbers here stay far below the limit.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as text: RFC 3339 in UTC with six decimals.
pub(crate) fn text_of_time(time: Timestamp) -> String {
    format!(
        "{:.6}",
        duologue_engine::store::normalize::stored_time(time)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of times are compared as text, so all have one length and none is rounded up.
    #[test]
    fn a_time_is_written_with_six_decimals() {
        for (nanosecond, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_999, "1970-01-01T00:00:00.000001Z"),
            (999_999_999, "1970-01-01T00:00:00.999999Z"),
            (1_767_225_600_120_000_000, "2026-01-01T00:00:00.120000Z"),
        ] {
            let time = Timestamp::from_nanosecond(nanosecond).unwrap();
            assert_eq!(text_of_time(time), text);
        }
    }
}
