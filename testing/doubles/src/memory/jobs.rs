//! The jobs of the store in memory.

use std::time::Duration;

use duologue_engine::store::{
    Job, JobClaim, JobEnd, JobRelease, ServerId, SessionStatus, StoreError, normalize,
};
use duologue_protocol::{Event, SessionId};
use tokio::time::Instant;

use super::{job_row::JobRow, session::Session, state::State};

impl State {
    pub(super) fn claim_job(&mut self, worker: &ServerId, lease_duration: Duration) -> Option<Job> {
        let now = Instant::now();
        let open = self
            .jobs
            .iter_mut()
            .zip(1_i64..)
            .filter(|(row, _)| row.outcome.is_none());
        let due = open.filter(|(row, _)| row.due_at <= now);
        let (row, id) = due.min_by_key(|(row, id)| (row.due_at, *id))?;
        row.claim(worker, lease_duration);
        row.job(id)
    }

    /// The job that the ending `events` has enqueued, if `claim` was its first one and its worker has it
    /// still.
    pub(super) fn first_claim(
        &self,
        session_id: &SessionId,
        events: &[Event],
        claim: &JobClaim,
    ) -> Option<Job> {
        let last_seq = events.last()?.seq;
        let mut rows = self.jobs.iter().zip(1_i64..);
        let (row, id) =
            rows.find(|(row, _)| row.session_id == *session_id && row.last_seq == last_seq)?;
        let job = row.job(id).filter(|_| row.outcome.is_none())?;
        (job.attempt == 1 && job.worker == claim.worker).then_some(job)
    }

    pub(super) fn renew_job(
        &mut self,
        job: &Job,
        lease_duration: Duration,
    ) -> Result<(), StoreError> {
        let row = self
            .job(job)
            .filter(|row| row.worker.is_some() && row.outcome.is_none());
        row.ok_or(StoreError::Conflict)?.due_at = Instant::now() + lease_duration;
        Ok(())
    }

    pub(super) fn release_job(
        &mut self,
        job: &Job,
        release: &JobRelease,
    ) -> Result<(), StoreError> {
        let row = self.job(job).filter(|row| row.outcome.is_none());
        let row = row.ok_or(StoreError::Conflict)?;
        // Without a worker it was given back by this very attempt: a repetition.
        if row.worker.take().is_some() {
            row.due_at = Instant::now() + release.delay;
            row.uncounted += u32::from(!release.is_counted);
            row.last_error = Some(normalize::stored_text(&release.reason).into_owned());
        }
        Ok(())
    }

    pub(super) fn finish_job(
        &mut self,
        job: &Job,
        summarized: &Event,
    ) -> Result<JobEnd, StoreError> {
        let row = self.job(job).filter(|row| row.worker.is_some());
        if let Some(outcome) = row.ok_or(StoreError::Conflict)?.outcome {
            return Ok(outcome);
        }
        let session = self.sessions.get_mut(&job.session_id);
        let session = session.expect("a job has a session");
        let outcome = if session.is_where(job) {
            session.complete(summarized)?;
            JobEnd::Applied
        } else {
            JobEnd::Superseded
        };
        let row = self.job(job).expect("it was there above");
        row.outcome = Some(outcome);
        Ok(outcome)
    }

    /// The job's row, if no other attempt was counted since. It may have been given back.
    fn job(&mut self, job: &Job) -> Option<&mut JobRow> {
        let at = usize::try_from(job.id).ok()?.checked_sub(1)?;
        let row = self.jobs.get_mut(at)?;
        let same_worker = row
            .worker
            .as_ref()
            .is_none_or(|worker| *worker == job.worker);
        (row.attempt == job.attempt && same_worker).then_some(row)
    }
}

impl Session {
    /// Whether nothing happened since the ending that the job is about.
    fn is_where(&self, job: &Job) -> bool {
        self.record.status == SessionStatus::Ended && self.record.last_seq == job.last_seq
    }

    fn complete(&mut self, summarized: &Event) -> Result<(), StoreError> {
        let result = normalize::summarized(summarized);
        self.append(self.record.last_seq, std::slice::from_ref(summarized))?;
        self.record.status = SessionStatus::Completed;
        self.record.summary_status = Some(result.status);
        let summary = result.summary.as_deref();
        self.record.summary = summary.map(|summary| normalize::stored_text(summary).into_owned());
        Ok(())
    }
}
