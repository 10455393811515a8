//! Jobs as they are stored: who works on them, and how they end.

use std::time::Duration;

use async_trait::async_trait;
use duologue_protocol::{Event, Seq, SessionId, UserId};
use serde::{Deserialize, Serialize};

use super::{error::StoreError, server_id::ServerId};

/// The queue of jobs, for workers. See [`Store`](super::Store) for what holds for every operation.
#[async_trait]
pub trait JobStore: Send + Sync + 'static {
    /// Claims the job that has been due longest, counting the attempt before the work.
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError>;

    /// Renews the lease of a job. [`StoreError::Conflict`]: another worker has it, or it is over.
    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError>;

    /// Ends a job and applies its result, `summarized`, a `session_summarized` event that directly
    /// follows the log which the job has read: appends it, stores summary and summary status, and
    /// marks the session `completed`.
    ///
    /// If the session has gone on since (it was reopened), the job is over without effect. A worker
    /// that no longer holds the job gets [`StoreError::Conflict`].
    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError>;

    /// Gives a job back unfinished, to be claimed again after a delay. A repetition changes nothing, whatever
    /// `release` it has. [`StoreError::Conflict`]: another worker has the job, or it is over.
    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError>;
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
    /// Which claim this is, counted from 1. With `worker` it fences the result.
    pub attempt: u32,
    /// How many earlier claims were given back without counting as attempts.
    pub uncounted: u32,
}

impl Job {
    /// Which attempt this is of those that count, from 1.
    pub fn counted_attempt(&self) -> u32 {
        self.attempt.saturating_sub(self.uncounted)
    }
}

/// A free worker's claim on the job that the end of a session enqueues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobClaim {
    /// The worker.
    pub worker: ServerId,
    /// For how long, unless renewed.
    pub lease_duration: Duration,
}

/// How a worker gives back a job that it has not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRelease {
    /// How long nobody may claim it.
    pub delay: Duration,
    /// Why, for operators.
    pub reason: String,
    /// Whether the claim counts as one of the job's attempts. It does not if the worker's server stops: the
    /// job has not failed.
    pub is_counted: bool,
}

impl JobRelease {
    /// After an attempt that failed.
    pub fn failed(delay: Duration, reason: impl Into<String>) -> Self {
        Self {
            delay,
            reason: reason.into(),
            is_counted: true,
        }
    }

    /// By a server that stops: at once, and without counting the attempt.
    pub fn stopped() -> Self {
        Self {
            delay: Duration::ZERO,
            reason: "the server stopped".to_owned(),
            is_counted: false,
        }
    }
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
