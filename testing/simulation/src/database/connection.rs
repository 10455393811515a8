//! One server's way to the database.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use duologue_engine::store::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, Sweep,
};
use duologue_protocol::{Event, Seq, SessionId, Timestamp, UserId};
use futures_util::{FutureExt, future::join_all};
use tokio::time::sleep;

use super::{Database, Ledger, Outcome, pool::Pool};
use crate::mutant::Mutant;

/// How long a server waits for a database that it cannot reach.
const TIMEOUT: Duration = Duration::from_millis(300);

/// A store that reaches the database as well as its server does.
#[derive(Debug)]
pub(crate) struct Connection {
    pool: Pool,
    database: Arc<Database>,
    server: String,
}

/// Whether an operation changes anything; only then do faults roll the dice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

impl Connection {
    pub(crate) fn new(database: Arc<Database>, server: &str) -> Self {
        Self {
            pool: Pool::new(database.link.connections),
            database,
            server: server.to_owned(),
        }
    }

    /// Does `operation` at the database's time, if it gets there, and answers, if that comes back.
    /// What took effect is noted even where the server does not learn of it.
    async fn call<T>(
        &self,
        kind: Kind,
        name: &str,
        operation: impl Future<Output = Result<T, StoreError>> + Send,
        note: impl FnOnce(&mut Ledger, &T, Duration) + Send,
    ) -> Result<T, StoreError> {
        let database = &self.database;
        let tell = |what: &str| {
            database
                .trace
                .note(&self.server, &format!("{name}: {what}"));
        };
        let _connection = self.pool.connection().await?;
        let plan = database.state().plan_call();
        let one_way = database.link.round_trip / 2;
        sleep(one_way + plan.there).await;
        if !database.reaches(&self.server) {
            sleep(TIMEOUT).await;
            return Err(unavailable("the database cannot be reached"));
        }
        if kind == Kind::Write && plan.outcome == Outcome::Refused {
            tell("refused");
            self.failed();
            return Err(unavailable("the simulation made this write fail"));
        }
        let result = {
            let _at_its_time = database.clock.enter();
            let result = operation.now_or_never();
            result.expect("the store in memory waits for nothing")
        };
        if let Ok(value) = &result {
            let now = database.time.now();
            note(&mut database.state().ledger, value, now);
        }
        sleep(plan.back + one_way).await;
        let is_lost = kind == Kind::Write && plan.outcome == Outcome::Lost;
        if is_lost || !database.reaches(&self.server) {
            tell("done, but the answer is lost");
            self.failed();
            return Err(unavailable("the answer was lost"));
        }
        result
    }

    fn failed(&self) {
        let now = self.database.time.now();
        self.database.state().failures.push(now);
    }
}

fn unavailable(why: &'static str) -> StoreError {
    StoreError::Unavailable(why.into())
}

/// Nothing to note.
fn nothing<T>(_: &mut Ledger, _: &T, _: Duration) {}

#[async_trait]
impl SessionStore for Connection {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let operation = self.database.store.claim(claim);
        self.call(Kind::Write, "claim", operation, nothing).await
    }

    async fn claim_lapsed(&self, sweep: &Sweep) -> Result<Vec<Claimed>, StoreError> {
        let operation = self.database.store.claim_lapsed(sweep);
        self.call(Kind::Write, "claim_lapsed", operation, nothing)
            .await
    }

    async fn heartbeat(
        &self,
        server: &ServerId,
        lease_duration: Duration,
        held: &[Lease],
    ) -> Result<Vec<Lease>, StoreError> {
        let operation = self.database.store.heartbeat(server, lease_duration, held);
        self.call(Kind::Write, "heartbeat", operation, nothing)
            .await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let operation = self.database.store.release(lease);
        self.call(Kind::Write, "release", operation, nothing).await
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        let operation = self.database.store.append(lease, after, events);
        let note = |ledger: &mut Ledger, (): &(), at| {
            ledger.appended(&lease.session_id, events, at);
        };
        self.pool.append_started(&lease.session_id);
        let result = self.call(Kind::Write, "append", operation, note).await;
        self.pool.append_returned(&lease.session_id, &result);
        result
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        let operation = self.database.store.end(lease, after, events, claim);
        let note = |ledger: &mut Ledger, job: &Option<Job>, at| {
            ledger.appended(&lease.session_id, events, at);
            if let Some(job) = job {
                ledger.job_claimed(job);
            }
        };
        self.call(Kind::Write, "end", operation, note).await
    }

    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError> {
        if self.database.mutant == Some(Mutant::HoldsConnectionsUnpolled) {
            // As if each session saved its own draft.
            let round_trip = self.database.link.round_trip;
            let leases = drafts.iter().map(|(lease, _)| &lease.session_id);
            let held = leases.map(|session_id| self.pool.hold_unpolled(session_id, round_trip));
            join_all(held.collect::<Vec<_>>()).await;
        }
        let operation = self.database.store.save_drafts(drafts);
        self.call(Kind::Write, "save_drafts", operation, nothing)
            .await
    }

    async fn read(
        &self,
        user: &UserId,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let operation = self.database.store.read(user, session, after, limit);
        self.call(Kind::Read, "read", operation, nothing).await
    }

    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let operation = self.database.store.session(user, session);
        self.call(Kind::Read, "session", operation, nothing).await
    }

    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        let operation = self.database.store.tokens_spent(user, since);
        self.call(Kind::Read, "tokens_spent", operation, nothing)
            .await
    }
}

#[async_trait]
impl JobStore for Connection {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        let operation = self.database.store.claim_job(worker, lease_duration);
        let note = |ledger: &mut Ledger, job: &Option<Job>, _| {
            if let Some(job) = job {
                ledger.job_claimed(job);
            }
        };
        self.call(Kind::Write, "claim_job", operation, note).await
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        let operation = self.database.store.renew_job(job, lease_duration);
        self.call(Kind::Write, "renew_job", operation, nothing)
            .await
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        let operation = self.database.store.finish_job(job, summarized);
        let note = |ledger: &mut Ledger, end: &JobEnd, _| {
            if *end == JobEnd::Applied {
                ledger.job_applied(job);
            }
        };
        self.call(Kind::Write, "finish_job", operation, note).await
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        let operation = self.database.store.release_job(job, release);
        let note = |ledger: &mut Ledger, (): &(), _| ledger.job_released(job, release);
        self.call(Kind::Write, "release_job", operation, note).await
    }
}

#[async_trait]
impl Store for Connection {
    async fn ping(&self) -> Result<(), StoreError> {
        let operation = self.database.store.ping();
        self.call(Kind::Read, "ping", operation, nothing).await
    }

    /// The database outlives its servers.
    async fn close(&self) {}
}
