//! What the database has seen with its own eyes, at its own time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use duologue_engine::store::{
    Job, JobEnd, JobRelease, ServerId,
    layer::{Call, Reply},
};
use duologue_protocol::{EndReason, Event, EventBody, SessionId};

/// A session's end, as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) session_id: SessionId,
    pub(crate) reason: EndReason,
    pub(crate) at: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Each ending once, however often it was written.
    pub(crate) endings: Vec<Ending>,
    /// The attempts at each job whose result the store reported as applied.
    pub(crate) applied: BTreeMap<i64, BTreeSet<(String, u32)>>,
    /// Attempts at jobs, by session.
    pub(crate) attempts: BTreeMap<SessionId, u32>,
    /// Those of them that do not count, since their server stopped: job and claim.
    pub(crate) uncounted: BTreeSet<(i64, u32)>,
    seen_endings: BTreeSet<(SessionId, u64)>,
    seen_claims: BTreeSet<(i64, u32)>,
}

impl Ledger {
    /// Notes what a call did, from its reply.
    pub(super) fn note(&mut self, call: &Call, reply: &Reply, at: Duration) {
        if let Call::Append(lease, _, events) | Call::End(lease, _, events, _) = call {
            self.appended(&lease.session_id, events, at);
        }
        if let Reply::End(Some(job)) | Reply::ClaimJob(Some(job)) = reply {
            self.job_claimed(job);
        }
        match (call, reply) {
            (Call::FinishJob(job, _), Reply::FinishJob(JobEnd::Applied)) => self.job_applied(job),
            (Call::ReleaseJob(job, release), _) => self.job_released(job, release),
            _ => {}
        }
    }

    fn appended(&mut self, session_id: &SessionId, events: &[Event], at: Duration) {
        for event in events {
            let EventBody::SessionEnded(ended) = &event.body else {
                continue;
            };
            if self.seen_endings.insert((session_id.clone(), event.seq.0)) {
                self.endings.push(Ending {
                    session_id: session_id.clone(),
                    reason: ended.reason,
                    at,
                });
            }
        }
    }

    fn job_claimed(&mut self, job: &Job) {
        // A repeated end returns the same claim again.
        if self.seen_claims.insert((job.id, job.attempt)) {
            *self.attempts.entry(job.session_id.clone()).or_default() += 1;
        }
    }

    fn job_released(&mut self, job: &Job, release: &JobRelease) {
        if !release.is_counted {
            self.uncounted.insert((job.id, job.attempt));
        }
    }

    fn job_applied(&mut self, job: &Job) {
        let ServerId(worker) = &job.worker;
        let applied = self.applied.entry(job.id).or_default();
        applied.insert((worker.clone(), job.attempt));
    }
}
