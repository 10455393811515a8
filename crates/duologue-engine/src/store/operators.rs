//! What operators may see and do: all sessions as they are stored, and their jobs.
//!
//! A second seam to the same databases, since [`SessionStore`](super::SessionStore) finds a session only by
//! its user. No code that serves users has an [`OperatorStore`].

use std::time::Duration;

use async_trait::async_trait;
use duologue_protocol::{Event, Seq, SessionId, UserId};
use serde::{Deserialize, Serialize};

use super::{JobEnd, ServerId, SessionRecord, StoreError};

/// The operator's view of a store. Everything but [`retry_job`](Self::retry_job) and
/// [`restored`](Self::restored) only reads.
#[async_trait]
pub trait OperatorStore: Send + Sync + 'static {
    /// The ids of up to `limit` sessions, those after `after`, in an order of the store's own that
    /// stays. Empty means that there are no more.
    async fn session_ids(
        &self,
        after: Option<&SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError>;

    /// What is stored of a session besides its log, in one snapshot. `None`: it does not exist (any more).
    async fn stored_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError>;

    /// Reads up to `limit` rows of a log after `after`, oldest first, whatever is wrong with them.
    /// There may be fewer though the log goes on. Empty means its end.
    async fn rows(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// The same, for those who do not need all of what is in events: JSON values (arguments and results of tools,
    /// schemas, what predecessors stored) may be null, and texts of answers empty. They were read nevertheless: an
    /// event is an error if one is malformed.
    async fn outlines(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.rows(session, after, limit).await
    }

    /// Reads the first of these sessions, in their order, each as it was at one moment: at least one, and as many as
    /// the limits allow.
    async fn stored_sessions(
        &self,
        sessions: &[SessionId],
        _limits: ReadLimits,
    ) -> Result<Vec<SessionRows>, StoreError> {
        let mut read = Vec::with_capacity(sessions.len());
        for session_id in sessions {
            let head = match self.stored_session(session_id).await {
                Ok(head) => head,
                Err(StoreError::Corrupt(_)) => None,
                Err(error) => return Err(error),
            };
            read.push(SessionRows {
                session_id: session_id.clone(),
                head,
                log: Vec::new(),
            });
        }
        Ok(read)
    }

    /// Up to `limit` jobs whose ids come after `after`, oldest first. Empty means that there are no
    /// more.
    async fn jobs(&self, which: Jobs, after: i64, limit: u32)
    -> Result<Vec<JobRecord>, StoreError>;

    /// Makes a job due now. If it has finally failed, a new job takes its place, with all its attempts, and
    /// the session waits for its summary again.
    ///
    /// `None`: there is no such job. May be repeated.
    async fn retry_job(&self, job: i64) -> Result<Option<RetryOutcome>, StoreError>;

    /// Marks all that is stored as restored from a backup, in one transaction: every session gets a new log
    /// id, so that no client resumes from a position that is gone; every lease and every job is taken from
    /// its holder, and every epoch is raised, so that a server which still runs cannot write.
    ///
    /// Returns the number of sessions. A repetition does it again.
    async fn restored(&self) -> Result<u64, StoreError>;
}

/// How much of the logs [`OperatorStore::stored_sessions`] reads.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Rows, of all sessions together.
    pub rows: u32,
    /// Bytes of payloads, of all sessions together. The last row read may exceed it.
    pub bytes: u32,
}

/// A session as [`OperatorStore::stored_sessions`] reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRows {
    /// Which one.
    pub session_id: SessionId,
    /// All but its log. `None`: it cannot be read, or it does not exist (any more).
    pub head: Option<StoredSession>,
    /// The first rows of its log, as [`OperatorStore::outlines`] returns them. Where they end before `log_end`, that
    /// has the rest.
    pub log: Vec<StoredEvent>,
}

/// What is stored of a session besides its log.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSession {
    /// Its row.
    pub record: SessionRecord,
    /// The number of its last claim.
    pub epoch: u64,
    /// The server that holds it.
    pub owner: Option<ServerId>,
    /// The highest number in its log, whatever the record says; zero if the log is empty.
    pub log_end: Seq,
    /// The jobs about it, in the order of their making.
    pub jobs: Vec<JobRecord>,
}

/// A row of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its position.
    pub seq: Seq,
    /// The number of the claim under which it was written.
    pub epoch: u64,
    /// The event, or why this build cannot read it.
    pub event: Result<Event, String>,
}

/// A job as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its row.
    pub id: i64,
    /// The session it is about.
    pub session_id: SessionId,
    /// The owner whom the job itself names.
    pub user_id: UserId,
    /// The last event of the log that it is about: a `session_ended`, or, where an operator has it
    /// tried again, the `session_summarized` of the failure.
    pub last_seq: Seq,
    /// How it stands.
    pub state: JobState,
    /// How often it was claimed so far.
    pub attempt: u32,
    /// How many of these claims were given back without counting as attempts.
    #[serde(default)]
    pub uncounted: u32,
    /// Who works on it, or who worked on it last.
    pub worker: Option<ServerId>,
    /// How long until it may be claimed, by the store's clock; zero if it may be now, or is over.
    #[serde(rename = "due_in_seconds", with = "seconds")]
    pub due_in: Duration,
    /// How it ended; absent while it is open.
    pub outcome: Option<JobEnd>,
    /// Why the last attempt failed that could still say so.
    pub last_error: Option<String>,
}

impl JobRecord {
    /// The attempts begun so far that count.
    pub fn counted_attempts(&self) -> u32 {
        self.attempt.saturating_sub(self.uncounted)
    }
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// A worker will take it up, now or after a delay.
    Waiting,
    /// A worker has it, and its lease has not expired.
    Running,
    /// The summary is stored.
    Done,
    /// The last attempt failed, and the session is `completed` without a summary.
    Failed,
    /// It is over without effect, or its failure does not matter any more: the session has gone on,
    /// or another job took this one's place.
    Superseded,
}

/// Which jobs are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jobs {
    /// All there ever were.
    All,
    /// Those that are [`JobState::Failed`].
    Failed,
}

/// The effect of a request to retry a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOutcome {
    /// It had failed; this job takes its place and is due now.
    Replaced(i64),
    /// It was waiting, and is due now.
    DueNow,
    /// A worker has it; there is nothing to do.
    Running,
    /// It is done; there is nothing to do.
    Done,
    /// It does not matter any more; there is nothing to do.
    Superseded,
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds.max(0.0)).map_err(serde::de::Error::custom)
    }
}
