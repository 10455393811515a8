//! Sessions as they are stored: their leases, logs and drafts.

use std::time::Duration;

use async_trait::async_trait;
use duologue_protocol::{
    EndReason, Event, LogId, Seq, SessionId, SummaryStatus, Timestamp, TurnId, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    error::StoreError,
    jobs::{Job, JobClaim},
    server_id::ServerId,
};

/// Sessions, by their users: leases, logs, drafts. See [`Store`](super::Store) for what holds for every
/// operation.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Claims a session for a server: creates it, or takes it over from its holder, or reopens
    /// it if it had ended (`active` again, without end time, reason and summary status; an
    /// unfinished summary job is superseded when it is finished). If its log is empty, the claim's
    /// `first_events` are appended in the same transaction.
    ///
    /// `None`: the session belongs to another user.
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError>;

    /// Claims active sessions that nobody looks after; see [`Sweep`].
    async fn claim_lapsed(&self, sweep: &Sweep) -> Result<Vec<Claimed>, StoreError>;

    /// Says that `server` is alive: its lease, under which it holds all its sessions, lasts for
    /// `lease_duration` from now. This writes to no session.
    ///
    /// Returns those of `held` that are lost: the session was claimed again since, or was deleted. One that
    /// has just been released, or has ended, is not lost.
    async fn heartbeat(
        &self,
        server: &ServerId,
        lease_duration: Duration,
        held: &[Lease],
    ) -> Result<Vec<Lease>, StoreError>;

    /// Releases a session without ending it: nobody holds it from now on. Under an old epoch it does nothing.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;

    /// Appends `events` directly after `after`: all of them or none.
    ///
    /// The events have the numbers `after + 1`, `after + 2`, …. If one of them is an
    /// `assistant_message`, the session's draft is deleted in the same transaction.
    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError>;

    /// Appends `events`, the last of which is `session_ended`, and in the same transaction marks
    /// the session `ended`, sets its end time and duration, releases its lease, and enqueues the job that
    /// summarises it.
    ///
    /// With `claim`, the job is enqueued as claimed for the first time by that worker, and returned. A
    /// repetition returns it again while that worker has it. `None`: the job waits, due now.
    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError>;

    /// Stores the texts of answers in progress, each in place of its session's draft before. Each session
    /// occurs once.
    ///
    /// A draft whose lease is no longer valid is not stored. Returns those of these leases that are lost: the
    /// session was claimed again since, or was deleted. One that has been released, or has ended, is not lost.
    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError>;

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

    /// The tokens that a user has used since a moment, in all sessions: the sum of the `usage` of
    /// every `assistant_message` that occurred then or later.
    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError>;
}

/// A request for a session's lease.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Which session.
    pub session_id: SessionId,
    /// For whom: the first claim binds the owner, and later ones must agree.
    pub user_id: UserId,
    /// The agent that a new session gets.
    pub agent: String,
    /// The server that requests it.
    pub server: ServerId,
    /// How long the server's lease lasts from now, if it is the server's first.
    pub lease_duration: Duration,
    /// The start time of a new session.
    pub now: Timestamp,
    /// The first events of the log. They are stored only if it is empty.
    pub first_events: Vec<Event>,
    /// Also requests the tokens that the user has used since this moment.
    pub spent_since: Option<Timestamp>,
}

/// A search for sessions that nobody looks after.
///
/// The lease of a session is that of the server that holds it. It has lapsed when the server's has, and when
/// the server has released the session.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The server that claims what is found.
    pub server: ServerId,
    /// How long its lease lasts from now, if it is its first.
    pub lease_duration: Duration,
    /// Sessions are found whose lease has lapsed longer ago than this.
    pub grace: Duration,
    /// And those of these that the server itself still holds.
    pub abandoned: Vec<Abandoned>,
    /// How many are claimed at most.
    pub limit: u32,
}

/// A session that its server holds, or may hold, although it has no task there: its task has failed, or the
/// answer to its claim was lost. The server's lease does not lapse, so the server has to name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// The session.
    pub session_id: SessionId,
    /// The session's user.
    pub user_id: UserId,
    /// Under which epoch, if that is known.
    pub epoch: Option<u64>,
}

/// A session with its lease.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// What later writes are checked against.
    pub lease: Lease,
    /// The session as it is now.
    pub session: SessionRecord,
    /// Whether this claim stored its `first_events`: then they are the whole log. A repeated claim finds
    /// the log that the first one has started, and returns false.
    pub started: bool,
    /// Whether the session had ended and is open again: its log still ends with `session_ended`
    /// or `session_summarized`. So a repeated claim returns true as well, until an event is appended.
    pub reopened: bool,
    /// The answer that was in progress when the session's last holder was lost.
    pub draft: Option<Draft>,
    /// The tokens that the user has used since the claim's `spent_since`, if that was given.
    pub tokens_spent: Option<u64>,
}

/// The right to write to a session, until it is claimed again.
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

/// The text of an answer in progress.
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
