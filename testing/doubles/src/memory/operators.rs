//! The operator's view of the store in memory.

use async_trait::async_trait;
use duologue_engine::store::{
    JobEnd, SessionStatus, StoreError,
    operators::{
        JobRecord, JobState, Jobs, OperatorStore, RetryOutcome, StoredEvent, StoredSession,
    },
};
use duologue_protocol::{EventBody, Seq, SessionId, SummaryStatus};
use tokio::time::Instant;

use super::{
    MemoryStore,
    job_row::JobRow,
    session::Session,
    state::{State, index, log_id},
};

#[async_trait]
impl OperatorStore for MemoryStore {
    async fn session_ids(
        &self,
        after: Option<&SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let state = self.state();
        let ids = state.sessions.keys();
        let ids = ids.filter(|id| after.is_none_or(|after| *id > after));
        Ok(ids.take(limit as usize).cloned().collect())
    }

    async fn stored_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError> {
        let state = self.state();
        let Some(kept) = state.sessions.get(session) else {
            return Ok(None);
        };
        let jobs = state.job_records();
        Ok(Some(StoredSession {
            record: kept.record.clone(),
            epoch: kept.epoch,
            owner: kept.owner.clone(),
            log_end: Seq(kept.events.len() as u64),
            jobs: jobs.filter(|job| job.session_id == *session).collect(),
        }))
    }

    async fn rows(
        &self,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let state = self.state();
        let Some(session) = state.sessions.get(session) else {
            return Ok(Vec::new());
        };
        let rows = (1..).map(Seq).zip(&session.events).skip(index(after));
        let kept = rows.take(limit as usize).map(|(seq, row)| StoredEvent {
            seq,
            epoch: row.epoch,
            event: row.event(seq).map_err(|error| error.to_string()),
        });
        Ok(kept.collect())
    }

    async fn jobs(
        &self,
        which: Jobs,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let state = self.state();
        let jobs = state.job_records().filter(|job| job.id > after);
        let jobs = jobs.filter(|job| which == Jobs::All || job.state == JobState::Failed);
        Ok(jobs.take(limit as usize).collect())
    }

    async fn retry_job(&self, job: i64) -> Result<Option<RetryOutcome>, StoreError> {
        self.write(|state| Ok(state.retry_for_operator(job)))
    }

    async fn restored(&self) -> Result<u64, StoreError> {
        self.write(|state| {
            for session in state.sessions.values_mut() {
                state.logs += 1;
                session.restored(log_id(state.logs));
            }
            for job in &mut state.jobs {
                if job.outcome.is_none() && job.worker.take().is_some() {
                    job.due_at = job.due_at.min(Instant::now());
                }
            }
            Ok(state.sessions.len() as u64)
        })
    }
}

impl State {
    fn job_records(&self) -> impl Iterator<Item = JobRecord> {
        let now = Instant::now();
        self.jobs.iter().zip(1..).map(move |(row, id)| JobRecord {
            id,
            session_id: row.session_id.clone(),
            user_id: row.user_id.clone(),
            last_seq: row.last_seq,
            state: self.job_state(row),
            attempt: row.attempt,
            uncounted: row.uncounted,
            worker: row.worker.clone(),
            due_in: match row.outcome {
                None => row.due_at.saturating_duration_since(now),
                Some(_) => std::time::Duration::ZERO,
            },
            outcome: row.outcome,
            last_error: row.last_error.clone(),
        })
    }

    fn job_state(&self, row: &JobRow) -> JobState {
        match row.outcome {
            None if row.worker.is_some() && row.due_at > Instant::now() => JobState::Running,
            None => JobState::Waiting,
            Some(JobEnd::Superseded) => JobState::Superseded,
            Some(JobEnd::Applied) => {
                let session = self.sessions.get(&row.session_id);
                session
                    .expect("a job has a session")
                    .state_of_result(row.last_seq.next())
            }
        }
    }

    fn retry_for_operator(&mut self, job: i64) -> Option<RetryOutcome> {
        let at = usize::try_from(job).ok()?.checked_sub(1)?;
        let state = self.job_state(self.jobs.get(at)?);
        let row = self.jobs.get_mut(at)?;
        let (session_id, result) = (row.session_id.clone(), row.last_seq.next());
        Some(match state {
            JobState::Running => RetryOutcome::Running,
            JobState::Done => RetryOutcome::Done,
            JobState::Waiting => {
                row.due_at = row.due_at.min(Instant::now());
                RetryOutcome::DueNow
            }
            JobState::Superseded => {
                let replaces = |(row, _): &(&JobRow, i64)| {
                    row.session_id == session_id && row.last_seq == result && row.outcome.is_none()
                };
                let replacement = self.jobs.iter().zip(1..).find(replaces);
                replacement.map_or(RetryOutcome::Superseded, |(_, id)| {
                    RetryOutcome::Replaced(id)
                })
            }
            JobState::Failed => {
                let session = self.sessions.get_mut(&session_id)?;
                session.record.status = SessionStatus::Ended;
                session.record.summary_status = Some(SummaryStatus::Pending);
                self.jobs.push(JobRow::new(session));
                RetryOutcome::Replaced(i64::try_from(self.jobs.len()).expect("memory is smaller"))
            }
        })
    }
}

impl Session {
    /// What became of a result that was applied: the `session_summarized` at `seq`.
    fn state_of_result(&self, seq: Seq) -> JobState {
        let row = self.events.get(index(seq).saturating_sub(1));
        let event = row.and_then(|row| row.event(seq).ok());
        match event.map(|event| event.body) {
            Some(EventBody::SessionSummarized(result)) if result.status == SummaryStatus::Done => {
                JobState::Done
            }
            _ if self.record.status == SessionStatus::Completed && self.record.last_seq == seq => {
                JobState::Failed
            }
            _ => JobState::Superseded,
        }
    }
}
