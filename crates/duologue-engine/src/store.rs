//! The seam to the database: sessions, their events, and the jobs they leave behind.
//!
//! Whoever holds a session holds it under an *epoch*, a number that each claim raises; every write
//! names its epoch and is refused under an old one. So a server that lost a session without
//! noticing can do no harm. Leases are compared by the database's clock only.

pub mod inspect;
pub mod normalize;
pub(crate) mod spawned;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use duologue_protocol::{
    EndReason, Event, LogId, Seq, SessionId, SummaryStatus, Timestamp, TurnId, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::BoxError;

/// Where sessions outlive the process.
///
/// One implementation per backend, chosen by configuration and shared as `Arc<dyn Store>`. An
/// implementation is correct when it passes the contract suite (`duologue-conformance`); nothing else
/// defines it.
///
/// Every write may be repeated by a caller that lost the answer: a repetition of what succeeded
/// changes nothing and succeeds.
///
/// What is kept differs from what was given in two ways, the same in every implementation: times
/// lose what is finer than a microsecond, and U+0000 becomes U+FFFD (see [`normalize`]).
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Claims a session for a server: creates it, or takes it over from whoever held it, or reopens
    /// it if it had ended (`active` again, without end time, reason and summary status; an
    /// unfinished summary job is superseded when it is finished).
    ///
    /// `None`: the session belongs to another user.
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError>;

    /// Claims up to `limit` active sessions whose lease lapsed more than `grace` ago, for `server`.
    async fn claim_lapsed(
        &self,
        server: &ServerId,
        lease: Duration,
        grace: Duration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError>;

    /// Prolongs the leases of those of `holds` that `server` still holds, and of nothing else.
    ///
    /// Answers those that are lost for good: the session was claimed anew since, or is gone. One that
    /// has just been released, or has ended, is neither renewed nor lost.
    async fn renew(
        &self,
        server: &ServerId,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Lets go of a session without ending it: its lease lapses now. Under an old epoch it does
    /// nothing.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;

    /// Appends `events` directly after `after`: all of them or none.
    ///
    /// The events bear the numbers `after + 1`, `after + 2`, …. If one of them is an
    /// `assistant_message`, the session's draft is deleted in the same transaction.
    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError>;

    /// Appends `events`, the last of which is `session_ended`, and in the same transaction marks
    /// the session `ended`, sets its end time and duration, gives it up, and enqueues the job that
    /// summarises it, due now.
    async fn end(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError>;

    /// Keeps the text of a forming answer, replacing what was kept before.
    async fn save_draft(&self, lease: &Lease, draft: &Draft) -> Result<(), StoreError>;

    /// Reads up to `limit` events after `after`, oldest first. Empty means the end of the log, or
    /// that `user` has no such session.
    async fn read(
        &self,
        user: &UserId,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError>;

    /// The facts of a session. `None`: there is none, or it belongs to another user.
    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError>;

    /// The tokens that a user has used since a moment, in all sessions: the sum of what the `usage` of
    /// every `assistant_message` says that occurred then or later.
    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError>;

    /// Claims the job that has been due longest, counting the attempt before the work.
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease: Duration,
    ) -> Result<Option<Job>, StoreError>;

    /// Prolongs the lease of a job. [`StoreError::Conflict`]: another worker has it, or it is over.
    async fn renew_job(&self, job: &Job, lease: Duration) -> Result<(), StoreError>;

    /// Ends a job and applies its result, `summarized`, a `session_summarized` event that directly
    /// follows the log which the job has read: appends it, stores summary and summary status, and
    /// marks the session `completed`.
    ///
    /// If the session has gone on since (it was reopened), the job is over without effect. A worker
    /// that no longer holds the job gets [`StoreError::Conflict`].
    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError>;

    /// Gives a job back, to be claimed again after `delay`. `why` is kept for operators.
    async fn retry_job(&self, job: &Job, delay: Duration, why: &str) -> Result<(), StoreError>;

    /// One harmless round trip.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Finishes what is queued and closes the connections. The store must not be used after.
    async fn close(&self);
}

/// Why a store could not do what it was asked.
///
/// The variants answer "what should the caller do now?", so none of them names a driver. A missing
/// row is not an error: lookups return `Option`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer came first, or holds what the caller thought it held. Give it up.
    #[error("another writer came first")]
    Conflict,
    /// The backend did not answer, or not in time. Retry: every write may be repeated.
    #[error("the store is unavailable")]
    Unavailable(#[source] BoxError),
    /// The backend answered with something this build cannot read. Do not retry.
    #[error("the store holds data that this build cannot read")]
    Corrupt(#[source] BoxError),
}

/// One run of the server. Restarting makes a new one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServerId(pub String);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A wish to hold a session.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Which session.
    pub session_id: SessionId,
    /// For whom: the first claim binds the owner, and later ones must agree.
    pub user_id: UserId,
    /// The agent that a new session gets.
    pub agent: String,
    /// The server that wants it.
    pub server: ServerId,
    /// For how long, unless renewed.
    pub lease: Duration,
    /// The start time of a new session.
    pub now: Timestamp,
}

/// A session, held.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// What later writes must show.
    pub lease: Lease,
    /// The session as it is now. A new one has `last_seq` zero: its log is empty.
    pub session: SessionRecord,
    /// Whether the session had ended and is open again: its log still ends with the ending. So it
    /// stays true for whoever repeats the claim, until an event is appended.
    pub reopened: bool,
    /// The answer that was forming when the session's last holder was lost.
    pub draft: Option<Draft>,
}

/// The right to write to a session, as long as nobody claims it anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// The session.
    pub session_id: SessionId,
    /// The session's user.
    pub user_id: UserId,
    /// The server that claimed it. Writes compare it as well as the epoch, since after a restore from a
    /// backup two servers may have been given the same epoch.
    pub server: ServerId,
    /// The claim's number, which fences writes.
    pub epoch: u64,
}

/// The text of a forming answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its turn.
    pub turn_id: TurnId,
    /// All the text so far.
    pub text: String,
}

/// The facts of a session: one row of `sessions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub session_id: SessionId,
    /// Its owner.
    pub user_id: UserId,
    /// How far it has come.
    pub status: SessionStatus,
    /// When it was created.
    pub start_time: Timestamp,
    /// When it ended; absent while it is active.
    pub end_time: Option<Timestamp>,
    /// From start to end, in seconds with three decimals.
    pub duration_seconds: Option<f64>,
    /// What it was about. Kept from the last ending while a reopened session is active.
    pub summary: Option<String>,
    /// How the summary of the last ending stands; absent while the session is active.
    pub summary_status: Option<SummaryStatus>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// The agent that answers in it.
    pub agent: String,
    /// Free for the application's own use; a JSON object.
    pub metadata: Value,
    /// The last event of its log.
    pub last_seq: Seq,
    /// Names this history of the session. See [`LogId`].
    pub log_id: LogId,
}

/// How far a session has come: `active → ended → completed`, and back to `active` when reopened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// It goes on.
    Active,
    /// It has ended; its summary is being made.
    Ended,
    /// It has ended and its summary is there, or has finally failed.
    Completed,
}

/// A unit of work that outlives its session, leased to a worker. So far there is one kind: make the
/// session's summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its row.
    pub id: i64,
    /// The session it is about.
    pub session_id: SessionId,
    /// The session's owner.
    pub user_id: UserId,
    /// The last event of the log that it is about: the `session_ended`, or the `session_summarized`
    /// of a failure that an operator has tried again.
    pub last_seq: Seq,
    /// Who works on it.
    pub worker: ServerId,
    /// Which attempt this is, counted from 1. With `worker` it fences the result.
    pub attempt: u32,
}

/// How a job's end took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEnd {
    /// The result is stored.
    Applied,
    /// The session has gone on meanwhile; its next end makes a new job.
    Superseded,
}
