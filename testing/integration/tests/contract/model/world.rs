//! Follows a plan in a store and in the model at once, and says where they differ.

use std::{fmt::Debug, time::Duration};

use duologue_engine::{
    store::{
        Abandoned, Claim, Claimed, Draft, Job, JobClaim, JobRelease, Lease, ServerId, Store,
        StoreError, Sweep,
        operators::{Jobs, OperatorStore, RetryOutcome},
    },
    verify,
};
use duologue_protocol::{
    EndReason, Event, EventBody, Seq, SessionEnded, SessionId, SessionSummarized, SummaryStatus,
    TurnId, UserId,
};
use proptest::sample::Index;

use super::{
    events::{answered, connected, first_events, said, started},
    operation::{Operation, Place, Span, moment},
    pure::{Conflict, Model},
};

const LONG: Duration = Duration::from_mins(10);

/// A difference, in words.
type Checked = Result<(), String>;

/// An append, or an end, that was accepted.
#[derive(Clone)]
struct Write {
    lease: Lease,
    after: Seq,
    events: Vec<Event>,
    claim: Option<(u8, Span)>,
}

pub(super) struct World<'a> {
    store: &'a dyn Store,
    inspect: &'a dyn OperatorStore,
    model: Model,
    leases: Vec<Lease>,
    writes: Vec<Write>,
    jobs: Vec<Job>,
}

impl<'a> World<'a> {
    pub(super) fn new(store: &'a dyn Store, inspect: &'a dyn OperatorStore) -> Self {
        Self {
            store,
            inspect,
            model: Model::default(),
            leases: Vec::new(),
            writes: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// Does what the plan says, compares each answer, and in the end all that is kept.
    pub(super) async fn follow(mut self, plan: &[Operation]) -> Checked {
        for operation in plan {
            let done = self.perform(operation).await;
            done.map_err(|difference| format!("{operation:?}: {difference}"))?;
        }
        self.compare_all().await
    }

    async fn perform(&mut self, operation: &Operation) -> Checked {
        match operation {
            Operation::Claim {
                session,
                user,
                server,
                is_first,
            } => self.claim(*session, *user, *server, *is_first).await,
            Operation::Append { lease, place } => {
                let write =
                    chosen(&self.leases, *lease).map(|lease| self.next(lease, *place, false));
                self.send(write).await
            }
            Operation::End {
                lease,
                place,
                claim,
            } => {
                let write = chosen(&self.leases, *lease).map(|lease| Write {
                    claim: *claim,
                    ..self.next(lease, *place, true)
                });
                self.send(write).await
            }
            Operation::SendAgain { write } => {
                let write = chosen(&self.writes, *write).cloned();
                self.send(write).await
            }
            Operation::Release { lease } => self.release(*lease).await,
            Operation::Draft { lease } => self.save_draft(*lease).await,
            Operation::Impersonate { lease, server } => {
                if let Some(lease) = chosen(&self.leases, *lease) {
                    let server = server_id(*server);
                    self.leases.push(Lease {
                        server,
                        ..lease.clone()
                    });
                }
                Ok(())
            }
            Operation::ClaimLapsed { server, abandoned } => {
                self.claim_lapsed(*server, *abandoned).await
            }
            Operation::Heartbeat { server } => self.heartbeat(*server).await,
            Operation::Read {
                session,
                user,
                after,
                limit,
            } => {
                let (user, session) = (user_id(*user), session_id(*session));
                let (after, limit) = (u64::from(*after), u32::from(*limit));
                let read = self.store.read(&user, &session, Seq(after), limit).await;
                same(
                    answer(read)?,
                    Ok(self.model.read(&user, &session, after, limit)),
                )
            }
            Operation::ClaimJob { worker, lease } => self.claim_job(*worker, *lease).await,
            Operation::Finish { job, is_failure } => self.finish(*job, *is_failure).await,
            Operation::Retry {
                job,
                delay,
                is_counted,
            } => self.release_job(*job, *delay, *is_counted).await,
            Operation::Renew { job } => self.renew_job(*job).await,
            Operation::Operate { job } => self.operate(*job).await,
        }
    }

    async fn renew_job(&mut self, job: Index) -> Checked {
        let Some(job) = chosen(&self.jobs, job) else {
            return Ok(());
        };
        let renewed = self.store.renew_job(job, LONG).await;
        same(answer(renewed)?, self.model.renew_job(job))
    }

    async fn claim(&mut self, session: u8, user: u8, server: u8, is_first: bool) -> Checked {
        let mut claim = Claim {
            session_id: session_id(session),
            user_id: user_id(user),
            agent: "guide".to_owned(),
            server: server_id(server),
            lease_duration: LONG,
            now: moment(0),
            first_events: Vec::new(),
            spent_since: is_first.then(|| moment(0)),
        };
        if is_first {
            claim.first_events = first_events(&claim);
        }
        let claimed = answer(self.store.claim(&claim).await)?;
        let log_id = claimed.as_ref().ok().and_then(Option::as_ref);
        let log_id = log_id.map(|claimed| &claimed.session.log_id);
        if log_id.is_none() && !self.model.sessions.contains_key(&claim.session_id) {
            return Err("nobody has this session, and it was refused".to_owned());
        }
        let expected = self.model.claim(&claim, log_id);
        if let Some(claimed) = &expected {
            self.leases.push(claimed.lease.clone());
        }
        same(
            claimed.map(|claimed| claimed.as_ref().map(parts)),
            Ok(expected.as_ref().map(parts)),
        )
    }

    /// Which lapsed sessions a sweeper gets is the store's choice; all it gets it must be allowed to have.
    async fn claim_lapsed(&mut self, server: u8, abandoned: Option<(Index, bool)>) -> Checked {
        let named = abandoned.and_then(|(lease, knows_epoch)| {
            let lease = chosen(&self.leases, lease)?;
            Some(Abandoned {
                session_id: lease.session_id.clone(),
                user_id: lease.user_id.clone(),
                epoch: knows_epoch.then_some(lease.epoch),
            })
        });
        let sweep = Sweep {
            server: server_id(server),
            lease_duration: LONG,
            grace: Duration::ZERO,
            abandoned: Vec::from_iter(named),
            limit: 2,
        };
        let lapsed = self.store.claim_lapsed(&sweep).await;
        for claimed in answer(lapsed)?.map_err(|_| "a conflict")? {
            let expected = self.model.claim_lapsed(&claimed.lease.session_id, &sweep);
            let expected = expected.ok_or_else(|| format!("had not lapsed: {claimed:?}"))?;
            self.leases.push(claimed.lease.clone());
            // It is reopened on request, and nobody requests it here.
            same(Ok(parts(&claimed)), Ok(parts(&expected)))?;
        }
        Ok(())
    }

    async fn heartbeat(&mut self, server: u8) -> Checked {
        let server = server_id(server);
        let leases = self.leases.iter();
        let held: Vec<_> = leases
            .filter(|lease| lease.server == server)
            .cloned()
            .collect();
        let lost = self.store.heartbeat(&server, LONG, &held).await;
        same(answer(lost)?, Ok(self.model.lost(&held)))
    }

    /// What comes next in the log of this session.
    fn next(&self, lease: &Lease, place: Place, is_end: bool) -> Write {
        let session = &self.model.sessions[&lease.session_id];
        let last = session.record.last_seq;
        let after = match place {
            Place::End => last,
            Place::Behind => Seq(last.0.saturating_sub(1)),
            Place::Beyond => last.next(),
        };
        let open_turn = session
            .log
            .iter()
            .rev()
            .find_map(|(_, event)| match &event.body {
                EventBody::UserMessage(_) => Some(event.turn_id),
                EventBody::AssistantMessage(_) | EventBody::SessionEnded(_) => Some(None),
                _ => None,
            });
        let open_turn = open_turn.flatten();
        let mut bodies = Vec::new();
        if last == Seq::ZERO {
            bodies.push((None, started(lease)));
        }
        match open_turn {
            Some(turn) => bodies.push((Some(turn), answered(lease))),
            None if is_end => {}
            None if last == Seq::ZERO || session.is_over() => {
                bodies.push((None, connected(lease, session.is_over())));
            }
            None => bodies.push((Some(TurnId(turn_after(session.log.len()))), said(lease))),
        }
        if is_end {
            let reason = EndReason::Closed;
            bodies.push((None, EventBody::SessionEnded(SessionEnded { reason })));
        }
        let numbered = bodies.into_iter().zip(after.0 + 1..);
        let events = numbered.map(|((turn_id, body), seq)| Event {
            seq: Seq(seq),
            occurred_at: moment(seq),
            turn_id,
            body,
        });
        Write {
            lease: lease.clone(),
            after,
            events: events.collect(),
            claim: None,
        }
    }

    async fn send(&mut self, write: Option<Write>) -> Checked {
        let Some(write) = write else { return Ok(()) };
        let Write {
            lease,
            after,
            events,
            claim,
        } = &write;
        let last = events.last().map(|event| &event.body);
        let claim = claim.map(|(worker, span)| (server_id(worker), span));
        let written = if matches!(last, Some(EventBody::SessionEnded(_))) {
            let claim = claim.clone().map(|(worker, span)| JobClaim {
                worker,
                lease_duration: time(span),
            });
            let ended = self.store.end(lease, *after, events, claim.as_ref()).await;
            answer(ended)?
        } else {
            let appended = self.store.append(lease, *after, events).await;
            answer(appended)?.map(|()| None)
        };
        let claim = claim.as_ref().map(|(worker, span)| (worker, *span));
        let expected = self.model.write(lease, *after, events, claim);
        let given = written.map(|job| {
            job.map(|job| {
                self.model.name(job.id, &job.session_id, job.last_seq);
                let parts = (job.last_seq, job.worker.clone(), job.attempt, job.uncounted);
                self.jobs.push(job);
                parts
            })
        });
        // A writer that was refused gives up: what it wanted to append would make no sense any more.
        if expected.is_ok() {
            self.writes.push(write);
        }
        same(given, expected)
    }

    async fn release(&mut self, lease: Index) -> Checked {
        let Some(lease) = chosen(&self.leases, lease) else {
            return Ok(());
        };
        let released = self.store.release(lease).await;
        self.model.release(lease);
        same(answer(released)?, Ok(()))
    }

    async fn save_draft(&mut self, lease: Index) -> Checked {
        let Some(lease) = chosen(&self.leases, lease) else {
            return Ok(());
        };
        let draft = Draft {
            turn_id: TurnId(1),
            text: format!("so far {}", lease.epoch),
        };
        let drafts = [(lease.clone(), draft.clone())];
        let saved = self.store.save_drafts(&drafts).await;
        let lost = self.model.save_draft(lease, &draft);
        let lost = Vec::from_iter(lost.then(|| lease.clone()));
        same(answer(saved)?, Ok(lost))
    }

    /// Which of the due jobs a worker gets is the store's choice.
    async fn claim_job(&mut self, worker: u8, lease: Span) -> Checked {
        let worker = server_id(worker);
        let claimed = self.store.claim_job(&worker, time(lease)).await;
        let Some(job) = answer(claimed)?.map_err(|_| "a conflict")? else {
            if self.model.is_any_due() {
                return Err("a job is due, and there was none".to_owned());
            }
            return Ok(());
        };
        self.model.name(job.id, &job.session_id, job.last_seq);
        let attempt = self.model.claim_job(job.id, &worker, lease);
        let attempt = attempt.ok_or_else(|| format!("was not due: {job:?}"))?;
        same(Ok((job.attempt, &job.worker)), Ok((attempt, &worker)))?;
        self.jobs.push(job);
        Ok(())
    }

    async fn finish(&mut self, job: Index, is_failure: bool) -> Checked {
        let Some(job) = chosen(&self.jobs, job) else {
            return Ok(());
        };
        let seq = job.last_seq.next();
        let summary = (!is_failure).then(|| format!("of job {}, attempt {}", job.id, job.attempt));
        let result = SessionSummarized {
            status: if is_failure {
                SummaryStatus::Failed
            } else {
                SummaryStatus::Done
            },
            summary,
        };
        let event = Event {
            seq,
            occurred_at: moment(seq.0),
            turn_id: None,
            body: EventBody::SessionSummarized(result),
        };
        let finished = self.store.finish_job(job, &event).await;
        same(answer(finished)?, self.model.finish_job(job, &event))
    }

    async fn release_job(&mut self, job: Index, delay: Span, is_counted: bool) -> Checked {
        let Some(job) = chosen(&self.jobs, job) else {
            return Ok(());
        };
        let release = JobRelease {
            delay: time(delay),
            reason: "in vain".to_owned(),
            is_counted,
        };
        let released = self.store.release_job(job, &release).await;
        let expected = self.model.release_job(job, delay, is_counted);
        same(answer(released)?, expected)
    }

    async fn operate(&mut self, job: Index) -> Checked {
        let Some(job) = chosen(&self.jobs, job) else {
            return Ok(());
        };
        let retry = answer(self.inspect.retry_job(job.id).await)?;
        let anonymous = retry.map(|retry| match retry {
            Some(RetryOutcome::Replaced(_)) => Some(RetryOutcome::Replaced(0)),
            other => other,
        });
        same(anonymous, Ok(self.model.operate(job.id)))
    }

    async fn compare_all(&mut self) -> Checked {
        for job in answer(self.inspect.jobs(Jobs::All, 0, 1000).await)?.map_err(|_| "a conflict")? {
            self.model.name(job.id, &job.session_id, job.last_seq);
            let row = self.model.jobs.get(&job.id);
            let row = row.ok_or_else(|| format!("nobody made {job:?}"))?;
            let kept = (job.state, job.attempt, &job.worker, job.outcome);
            let expected = (self.model.state(row), row.attempt, &row.worker, row.outcome);
            same(Ok(kept), Ok(expected))?;
            same(Ok(job.uncounted), Ok(row.uncounted))?;
        }
        same(Ok(&self.model.unnamed), Ok(&Vec::new()))?;
        for (id, session) in &self.model.sessions {
            let kept = answer(verify::read(self.inspect, id).await)?.map_err(|_| "a conflict")?;
            let kept = kept.ok_or_else(|| format!("session {id} is not there"))?;
            same(Ok(&kept.head.record), Ok(&session.record))?;
            same(
                Ok((kept.head.epoch, &kept.head.owner)),
                Ok((session.epoch, &session.owner)),
            )?;
            let log: Vec<_> = kept
                .log
                .iter()
                .map(|row| (row.epoch, row.event.clone()))
                .collect();
            let expected = session
                .log
                .iter()
                .map(|(epoch, event)| (*epoch, Ok(event.clone())));
            same(Ok(log), Ok(expected.collect()))?;
            same(Ok(verify::violations(&kept)), Ok(Vec::new()))?;
        }
        Ok(())
    }
}

/// What a claim gives, in a form that can be compared.
fn parts(claimed: &Claimed) -> impl Debug + PartialEq + use<> {
    let Claimed {
        lease,
        session,
        reopened,
        draft,
        started,
        tokens_spent,
    } = claimed.clone();
    (lease, session, reopened, draft, started, tokens_spent)
}

/// Conflicts are answers; nothing else may go wrong.
fn answer<T>(result: Result<T, StoreError>) -> Result<Result<T, Conflict>, String> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(StoreError::Conflict) => Ok(Err(Conflict)),
        Err(error) => Err(format!("failed: {error:?}")),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "answers are made for this, and nobody wants them after"
)]
fn same<T: Debug + PartialEq>(
    given: Result<T, Conflict>,
    expected: Result<T, Conflict>,
) -> Checked {
    if given == expected {
        return Ok(());
    }
    Err(format!(
        "the store says {given:?}, and the model {expected:?}"
    ))
}

fn chosen<T>(of: &[T], index: Index) -> Option<&T> {
    (!of.is_empty()).then(|| index.get(of))
}

fn time(span: Span) -> Duration {
    match span {
        Span::None => Duration::ZERO,
        Span::Long => LONG,
    }
}

fn session_id(number: u8) -> SessionId {
    SessionId::new(&format!("s{number}")).unwrap()
}

fn user_id(number: u8) -> UserId {
    UserId::new(&format!("u{number}")).unwrap()
}

fn server_id(number: u8) -> ServerId {
    ServerId(format!("server-{number}"))
}

fn turn_after(events: usize) -> u32 {
    u32::try_from(events).expect("a few")
}
