//! The model: what a store must keep, and what it must answer, in as few words as possible.

use std::collections::BTreeMap;

use duologue_engine::store::{
    Abandoned, Claim, Claimed, Draft, Job, JobEnd, Lease, ServerId, SessionRecord, SessionStatus,
    Sweep,
    normalize::Ending,
    operators::{JobState, RetryOutcome},
};
use duologue_protocol::{Event, EventBody, LogId, Seq, SessionId, SummaryStatus, UserId};
use serde_json::json;

use super::operation::Span;

/// Another writer came first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflict;

#[derive(Default)]
pub(super) struct Model {
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// By the ids that the store gave them.
    pub(super) jobs: BTreeMap<i64, Row>,
    /// Jobs that were made, and whose ids are not known yet.
    pub(super) unnamed: Vec<Row>,
}

pub(super) struct Session {
    pub(super) record: SessionRecord,
    pub(super) epoch: u64,
    pub(super) owner: Option<ServerId>,
    pub(super) log: Vec<(u64, Event)>,
    pub(super) draft: Option<Draft>,
    /// Whether its lease has lapsed: leases here are long, so only by a release.
    pub(super) is_lapsed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) session_id: SessionId,
    pub(super) last_seq: Seq,
    pub(super) attempt: u32,
    pub(super) uncounted: u32,
    pub(super) worker: Option<ServerId>,
    pub(super) is_due: bool,
    pub(super) outcome: Option<JobEnd>,
}

impl Row {
    fn new(session: &Session) -> Self {
        Self {
            session_id: session.record.session_id.clone(),
            last_seq: session.record.last_seq,
            attempt: 0,
            uncounted: 0,
            worker: None,
            is_due: true,
            outcome: None,
        }
    }

    fn claim(&mut self, worker: &ServerId, lease: Span) {
        self.attempt += 1;
        self.worker = Some(worker.clone());
        self.is_due = lease == Span::None;
    }
}

/// Of a job that was claimed: the end that it is about, its worker, its attempt, and how many of these do not
/// count.
pub(super) type JobParts = (Seq, ServerId, u32, u32);

impl Session {
    fn claim(&mut self, server: &ServerId) -> Claimed {
        self.epoch += 1;
        self.owner = Some(server.clone());
        self.is_lapsed = false;
        Claimed {
            lease: Lease {
                session_id: self.record.session_id.clone(),
                user_id: self.record.user_id.clone(),
                server: server.clone(),
                epoch: self.epoch,
            },
            session: self.record.clone(),
            reopened: self.is_over(),
            draft: self.draft.clone(),
            started: false,
            tokens_spent: None,
        }
    }

    /// Whether its log ends with an ending.
    pub(super) fn is_over(&self) -> bool {
        let last = self.log.last().map(|(_, event)| event.body.event_type());
        matches!(last, Some("session_ended" | "session_summarized"))
    }

    fn is_active(&self) -> bool {
        self.record.status == SessionStatus::Active
    }

    fn push(&mut self, epoch: u64, events: &[Event]) {
        self.log
            .extend(events.iter().map(|event| (epoch, event.clone())));
        self.record.last_seq = Seq(self.log.len() as u64);
    }
}

impl Model {
    /// A new session has the log id that the store has chosen.
    pub(super) fn claim(&mut self, claim: &Claim, log_id: Option<&LogId>) -> Option<Claimed> {
        let new = || Session {
            record: SessionRecord {
                session_id: claim.session_id.clone(),
                user_id: claim.user_id.clone(),
                status: SessionStatus::Active,
                start_time: claim.now,
                end_time: None,
                duration_seconds: None,
                summary: None,
                summary_status: None,
                end_reason: None,
                agent: claim.agent.clone(),
                metadata: json!({}),
                last_seq: Seq::ZERO,
                log_id: log_id.expect("a new session has a log id").clone(),
            },
            epoch: 0,
            owner: None,
            log: Vec::new(),
            draft: None,
            is_lapsed: false,
        };
        let id = claim.session_id.clone();
        let session = self.sessions.entry(id).or_insert_with(new);
        if session.record.user_id != claim.user_id {
            return None;
        }
        if !session.is_active() {
            session.record = SessionRecord {
                status: SessionStatus::Active,
                end_time: None,
                duration_seconds: None,
                summary_status: None,
                end_reason: None,
                ..session.record.clone()
            };
        }
        let mut claimed = session.claim(&claim.server);
        if session.log.is_empty() && !claim.first_events.is_empty() {
            session.push(claimed.lease.epoch, &claim.first_events);
            claimed.session = session.record.clone();
            claimed.started = true;
        }
        claimed.tokens_spent = claim.spent_since.map(|_| 0);
        Some(claimed)
    }

    /// What a sweeper gets that takes this session. `None`: it may not.
    pub(super) fn claim_lapsed(&mut self, id: &SessionId, sweep: &Sweep) -> Option<Claimed> {
        let session = self.sessions.get_mut(id)?;
        let is_named = |named: &Abandoned| {
            let fits = named.epoch.is_none_or(|epoch| epoch == session.epoch);
            fits && named.session_id == *id && named.user_id == session.record.user_id
        };
        let is_own = session.owner.as_ref() == Some(&sweep.server);
        let is_abandoned = is_own && sweep.abandoned.iter().any(is_named);
        let may_be_claimed = session.is_active() && (session.is_lapsed || is_abandoned);
        may_be_claimed.then(|| session.claim(&sweep.server))
    }

    /// Those of the leases that are not valid any more.
    pub(super) fn lost(&self, leases: &[Lease]) -> Vec<Lease> {
        let lost = leases.iter().filter(|lease| self.is_lost(lease));
        lost.cloned().collect()
    }

    fn is_lost(&self, lease: &Lease) -> bool {
        self.sessions.get(&lease.session_id).is_none_or(|session| {
            let owner = session.owner.as_ref();
            session.epoch != lease.epoch || owner.is_some_and(|owner| *owner != lease.server)
        })
    }

    /// The session, if this lease may write to it.
    fn held(&mut self, lease: &Lease) -> Result<&mut Session, Conflict> {
        let session = self.sessions.get_mut(&lease.session_id);
        session
            .filter(|session| session.epoch == lease.epoch && session.is_active())
            .filter(|session| session.owner.as_ref() == Some(&lease.server))
            .ok_or(Conflict)
    }

    /// An append, or an end where the last event is one.
    pub(super) fn write(
        &mut self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<(&ServerId, Span)>,
    ) -> Result<Option<JobParts>, Conflict> {
        let session = &self.sessions[&lease.session_id];
        let at = usize::try_from(after.0).expect("a few");
        let stored = session.log.iter().skip(at).take(events.len());
        let same = events.iter().map(|event| (lease.epoch, event.clone()));
        if stored.cloned().eq(same) {
            return Ok(claim.and_then(|(worker, _)| self.first_claim(lease, events, worker)));
        }
        let session = self.held(lease)?;
        if session.record.last_seq != after {
            return Err(Conflict);
        }
        session.push(lease.epoch, events);
        let is_answer = |event: &Event| matches!(event.body, EventBody::AssistantMessage(_));
        if events.iter().any(is_answer) {
            session.draft = None;
        }
        let last = events.last().map(|event| &event.body);
        if !matches!(last, Some(EventBody::SessionEnded(_))) {
            return Ok(None);
        }
        let ending = Ending::of(events);
        let record = &mut session.record;
        record.status = SessionStatus::Ended;
        record.end_time = Some(ending.time);
        record.duration_seconds = Some(ending.duration_seconds(record.start_time));
        record.end_reason = Some(ending.reason);
        record.summary_status = Some(SummaryStatus::Pending);
        session.draft = None;
        session.owner = None;
        let mut row = Row::new(session);
        if let Some((worker, span)) = claim {
            row.claim(worker, span);
        }
        self.unnamed.push(row);
        Ok(claim.and_then(|(worker, _)| self.first_claim(lease, events, worker)))
    }

    /// What a holder receives that ends a session with a worker for its job.
    fn first_claim(&self, lease: &Lease, events: &[Event], worker: &ServerId) -> Option<JobParts> {
        let last_seq = events.last()?.seq;
        let mut rows = self.jobs.values().chain(&self.unnamed);
        let row =
            rows.find(|row| row.session_id == lease.session_id && row.last_seq == last_seq)?;
        let is_first = row.attempt == 1 && row.worker.as_ref() == Some(worker);
        (is_first && row.outcome.is_none()).then(|| (last_seq, worker.clone(), 1, row.uncounted))
    }

    pub(super) fn release(&mut self, lease: &Lease) {
        if let Ok(session) = self.held(lease) {
            session.owner = None;
            session.is_lapsed = true;
        }
    }

    /// Returns whether the lease is lost.
    pub(super) fn save_draft(&mut self, lease: &Lease, draft: &Draft) -> bool {
        if let Ok(session) = self.held(lease) {
            session.draft = Some(draft.clone());
            return false;
        }
        self.is_lost(lease)
    }

    pub(super) fn read(&self, user: &UserId, id: &SessionId, after: u64, limit: u32) -> Vec<Event> {
        let session = self.sessions.get(id);
        let Some(session) = session.filter(|session| session.record.user_id == *user) else {
            return Vec::new();
        };
        let events = session.log.iter().map(|(_, event)| event);
        let page = events.filter(|event| event.seq.0 > after);
        page.take(limit as usize).cloned().collect()
    }

    /// Gives a job that was made before the id that the store gave it.
    pub(super) fn name(&mut self, id: i64, session: &SessionId, last_seq: Seq) {
        let is_it = |row: &Row| row.session_id == *session && row.last_seq == last_seq;
        if let Some(at) = self.unnamed.iter().position(is_it) {
            let row = self.unnamed.remove(at);
            self.jobs.insert(id, row);
        }
    }

    pub(super) fn is_any_due(&self) -> bool {
        let mut rows = self.jobs.values().chain(&self.unnamed);
        rows.any(|row| row.is_due && row.outcome.is_none())
    }

    /// A claim of this job, which must be due. The attempt that it counts.
    pub(super) fn claim_job(&mut self, id: i64, worker: &ServerId, lease: Span) -> Option<u32> {
        let row = self.jobs.get_mut(&id)?;
        if !row.is_due || row.outcome.is_some() {
            return None;
        }
        row.claim(worker, lease);
        Some(row.attempt)
    }

    pub(super) fn renew_job(&mut self, job: &Job) -> Result<(), Conflict> {
        let row = self.jobs.get_mut(&job.id).ok_or(Conflict)?;
        if !is_held(row, job) || row.outcome.is_some() {
            return Err(Conflict);
        }
        row.is_due = false;
        Ok(())
    }

    pub(super) fn release_job(
        &mut self,
        job: &Job,
        delay: Span,
        is_counted: bool,
    ) -> Result<(), Conflict> {
        let row = self.jobs.get_mut(&job.id).ok_or(Conflict)?;
        let was_given_back = row.worker.is_none() && row.attempt == job.attempt;
        if row.outcome.is_some() || !(is_held(row, job) || was_given_back) {
            return Err(Conflict);
        }
        if row.worker.take().is_some() {
            row.is_due = delay == Span::None;
            row.uncounted += u32::from(!is_counted);
        }
        Ok(())
    }

    pub(super) fn finish_job(&mut self, job: &Job, event: &Event) -> Result<JobEnd, Conflict> {
        let row = self.jobs.get_mut(&job.id).ok_or(Conflict)?;
        if !is_held(row, job) {
            return Err(Conflict);
        }
        if let Some(outcome) = row.outcome {
            return Ok(outcome);
        }
        let session = self.sessions.get_mut(&job.session_id).expect("it has one");
        let record = &mut session.record;
        let fits = record.status == SessionStatus::Ended && record.last_seq == job.last_seq;
        let end = if fits {
            JobEnd::Applied
        } else {
            JobEnd::Superseded
        };
        row.outcome = Some(end);
        if let (true, EventBody::SessionSummarized(result)) = (fits, &event.body) {
            record.status = SessionStatus::Completed;
            record.summary_status = Some(result.status);
            record.summary.clone_from(&result.summary);
            let epoch = session.epoch;
            session.push(epoch, std::slice::from_ref(event));
        }
        Ok(end)
    }

    pub(super) fn state(&self, row: &Row) -> JobState {
        let session = &self.sessions[&row.session_id];
        let record = &session.record;
        match row.outcome {
            None if row.worker.is_some() && !row.is_due => JobState::Running,
            None => JobState::Waiting,
            Some(JobEnd::Superseded) => JobState::Superseded,
            Some(JobEnd::Applied) => {
                let at = usize::try_from(row.last_seq.0).expect("a few");
                let is_done = matches!(&session.log[at].1.body, EventBody::SessionSummarized(result)
                    if result.status == SummaryStatus::Done);
                let is_last = record.last_seq == row.last_seq.next();
                match (is_done, record.status) {
                    (true, _) => JobState::Done,
                    (false, SessionStatus::Completed) if is_last => JobState::Failed,
                    (false, _) => JobState::Superseded,
                }
            }
        }
    }

    /// What an operator receives. A job that takes another's place has the id zero, since only the
    /// store knows it.
    pub(super) fn operate(&mut self, id: i64) -> Option<RetryOutcome> {
        let row = self.jobs.get(&id)?.clone();
        Some(match self.state(&row) {
            JobState::Running => RetryOutcome::Running,
            JobState::Done => RetryOutcome::Done,
            JobState::Waiting => {
                self.jobs.get_mut(&id)?.is_due = true;
                RetryOutcome::DueNow
            }
            JobState::Failed => {
                let session = self.sessions.get_mut(&row.session_id)?;
                session.record.status = SessionStatus::Ended;
                session.record.summary_status = Some(SummaryStatus::Pending);
                let row = Row::new(session);
                self.unnamed.push(row);
                RetryOutcome::Replaced(0)
            }
            JobState::Superseded => {
                let mut rows = self.jobs.values().chain(&self.unnamed);
                let is_replaced = rows.any(|other| {
                    other.session_id == row.session_id
                        && other.last_seq == row.last_seq.next()
                        && other.outcome.is_none()
                });
                if is_replaced {
                    RetryOutcome::Replaced(0)
                } else {
                    RetryOutcome::Superseded
                }
            }
        })
    }
}

fn is_held(row: &Row, job: &Job) -> bool {
    row.worker.as_ref() == Some(&job.worker) && row.attempt == job.attempt
}
