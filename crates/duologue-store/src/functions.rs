//! What the SQL functions (`migrations/postgres`) take and give, whether they are called over a
//! connection to Postgres or over HTTP.

use duologue_engine::store::{
    Claim, Claimed, Job, JobEnd, SessionStore, StoreError, normalize::stored_payload,
};
use duologue_protocol::{Event, Seq};
use serde::Deserialize;

use crate::stored::{corrupt, text_of_time};

/// What `duologue_check_origin` found. A database that is not where it was last seen was restored from a
/// backup or has failed over: its logs may lack what clients have seen, so each got a new id, and nobody
/// holds a lease any more.
#[derive(Debug, Deserialize)]
pub(crate) struct OriginCheck {
    /// The number of sessions, if that is so.
    restored: Option<u64>,
    /// What of the origin this role may not read: `system`, `timeline`.
    unreadable: Vec<String>,
}

impl OriginCheck {
    /// Logs what an operator should know.
    pub(crate) fn log(&self) {
        if let Some(sessions) = self.restored {
            tracing::warn!(
                sessions,
                "store.restored: the database was restored or has failed over; clients replay their logs"
            );
        }
        if !self.unreadable.is_empty() {
            tracing::warn!(
                unreadable = self.unreadable.join(", "),
                "store.origin_unreadable: a restore may not be recognised; run `duologue restored` after one"
            );
        }
    }
}

/// Does for a claim what `duologue_claim` does not: starts an empty log, and reads what the user has spent.
pub(crate) async fn complete_claim(
    store: &impl SessionStore,
    claim: &Claim,
    mut claimed: Claimed,
) -> Result<Claimed, StoreError> {
    let events = &claim.first_events;
    if claimed.session.last_seq == Seq::ZERO && !events.is_empty() {
        store.append(&claimed.lease, Seq::ZERO, events).await?;
        claimed.session.last_seq = Seq(events.len() as u64);
        claimed.started = true;
    }
    if let Some(since) = claim.spent_since {
        claimed.tokens_spent = Some(store.tokens_spent(&claim.user_id, since).await?);
    }
    Ok(claimed)
}

/// Reads the answer of a function that says whether the write fitted.
pub(crate) fn conflict_unless(fits: bool) -> Result<(), StoreError> {
    if fits {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

/// Reads the answer of `duologue_finish_job`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is passed on as it was read"
)]
pub(crate) fn job_end(outcome: Option<String>) -> Result<JobEnd, StoreError> {
    match outcome.as_deref() {
        Some("applied") => Ok(JobEnd::Applied),
        Some("superseded") => Ok(JobEnd::Superseded),
        Some(other) => Err(corrupt(format!("a job ended as `{other}`"))),
        None => Err(StoreError::Conflict),
    }
}

/// A number of rows as an `integer`.
pub(crate) fn rows(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// A job's attempt as an `integer`.
pub(crate) fn attempt(job: &Job) -> i32 {
    i32::try_from(job.attempt).unwrap_or(i32::MAX)
}

/// Events as the functions take them.
pub(crate) fn events_json(events: &[Event]) -> String {
    let events: Vec<_> = events.iter().map(event_json).collect();
    format!("[{}]", events.join(","))
}

/// An event as the functions take it. Its number follows from its place.
pub(crate) fn event_json(event: &Event) -> String {
    format!(
        r#"{{"event_type":"{}","occurred_at":"{}","payload":{}}}"#,
        event.body.event_type(),
        text_of_time(event.occurred_at),
        stored_payload(event),
    )
}
