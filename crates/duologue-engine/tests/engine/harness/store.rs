//! The store in memory, watched: which calls were made when, and in what weather.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use duologue_doubles::memory::{Fault, MemoryStore};
use duologue_engine::store::{
    Claim, Claimed, Draft, Job, JobClaim, JobEnd, JobRelease, JobStore, Lease, ServerId,
    SessionRecord, SessionStore, Store, StoreError, Sweep,
};
use duologue_protocol::{Event, Seq, SessionId, Timestamp, UserId};
use tokio::{sync::watch, time::Instant};

use super::{
    names::{alice, session_id},
    patience::within,
};

/// A method of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Claim,
    ClaimLapsed,
    Heartbeat,
    Release,
    Append,
    End,
    SaveDrafts,
    Read,
    Session,
    TokensSpent,
    ClaimJob,
    RenewJob,
    FinishJob,
    ReleaseJob,
    Close,
}

impl Call {
    const ALL: [Self; 14] = [
        Self::Claim,
        Self::ClaimLapsed,
        Self::Heartbeat,
        Self::Release,
        Self::Append,
        Self::End,
        Self::SaveDrafts,
        Self::Read,
        Self::Session,
        Self::TokensSpent,
        Self::ClaimJob,
        Self::RenewJob,
        Self::FinishJob,
        Self::ReleaseJob,
    ];

    /// Whether it is made for a session, and not by a task that looks after all of them, or
    /// for a user.
    fn is_of_session(self) -> bool {
        !matches!(
            self,
            Self::ClaimLapsed
                | Self::Heartbeat
                | Self::SaveDrafts
                | Self::TokensSpent
                | Self::ClaimJob
                | Self::RenewJob
        )
    }
}

/// What a call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It is passed on.
    Fair,
    /// It fails at once as unavailable, without effect.
    Away,
    /// It waits until the weather changes.
    Hanging,
    /// It panics: the store has a bug.
    Buggy,
}

#[derive(Default)]
struct Watched {
    calls: Vec<(Call, Instant)>,
    weather: HashMap<Call, Weather>,
    /// The one call that waits, whatever the weather: which, and the how manieth of its kind.
    hangs: Option<(Call, usize)>,
}

/// See the module.
pub(crate) struct WatchedStore {
    memory: MemoryStore,
    watched: watch::Sender<Watched>,
}

impl WatchedStore {
    pub(crate) fn new() -> Self {
        Self {
            memory: MemoryStore::new(),
            watched: watch::Sender::new(Watched::default()),
        }
    }

    /// The store itself, where the test is not watched and the weather is always fair.
    pub(crate) fn memory(&self) -> &dyn Store {
        &self.memory
    }

    /// Fails the next writes of the store itself, before or after their effect.
    pub(crate) fn fail_next_writes(&self, count: u32, fault: Fault) {
        self.memory.fail_next_writes(count, fault);
    }

    /// Changes the weather for some calls.
    pub(crate) fn set(&self, weather: Weather, calls: impl IntoIterator<Item = Call>) {
        self.watched.send_modify(|watched| {
            for call in calls {
                watched.weather.insert(call, weather);
            }
        });
    }

    /// Lets one call wait that is still to come: the how manieth of its kind, counted from 1.
    pub(crate) fn hang_at(&self, call: Call, number: usize) {
        self.watched
            .send_modify(|watched| watched.hangs = Some((call, number)));
    }

    /// Lets the call go on that was made to wait.
    pub(crate) fn hang_no_more(&self) {
        self.watched.send_modify(|watched| watched.hangs = None);
    }

    /// Changes the weather for all calls.
    pub(crate) fn set_all(&self, weather: Weather) {
        self.set(weather, Call::ALL);
    }

    /// When a call was made, oldest first.
    pub(crate) fn times(&self, call: Call) -> Vec<Instant> {
        let watched = self.watched.borrow();
        let calls = watched.calls.iter();
        calls
            .filter(|(made, _)| *made == call)
            .map(|(_, at)| *at)
            .collect()
    }

    pub(crate) fn count(&self, call: Call) -> usize {
        self.times(call).len()
    }

    /// The calls made for sessions so far.
    pub(crate) fn session_calls(&self) -> Vec<Call> {
        let watched = self.watched.borrow();
        let calls = watched.calls.iter().map(|(call, _)| *call);
        calls.filter(|call| call.is_of_session()).collect()
    }

    /// Waits until a call was made so often.
    pub(crate) async fn wait_for(&self, call: Call, count: usize) {
        let mut changes = self.watched.subscribe();
        let reached = changes.wait_for(|watched| {
            let made = watched.calls.iter().filter(|(made, _)| *made == call);
            made.count() >= count
        });
        let reached = within(&format!("{count} calls of {call:?}"), reached).await;
        drop(reached.expect("the store is here"));
    }

    /// The whole log of a session of Alice's, unchecked.
    pub(crate) async fn log(&self, session: &str) -> Vec<Event> {
        let (user, session) = (alice(), session_id(session));
        let log = self.memory.read(&user, &session, Seq::ZERO, u32::MAX);
        log.await.expect("the store in memory answers")
    }

    /// Notes a call, and lets it meet the weather.
    async fn meet(&self, call: Call) -> Result<(), StoreError> {
        let mut number = 0;
        self.watched.send_modify(|watched| {
            watched.calls.push((call, Instant::now()));
            number = watched
                .calls
                .iter()
                .filter(|(made, _)| *made == call)
                .count();
        });
        let weather = |watched: &Watched| {
            if watched.hangs == Some((call, number)) {
                return Weather::Hanging;
            }
            let weather = watched.weather.get(&call);
            weather.copied().unwrap_or(Weather::Fair)
        };
        let mut changes = self.watched.subscribe();
        let met = changes.wait_for(|watched| weather(watched) != Weather::Hanging);
        let met = weather(&met.await.expect("the store is here"));
        match met {
            Weather::Away => Err(StoreError::Unavailable("the test's weather is bad".into())),
            Weather::Buggy => panic!("the test's store panics"),
            Weather::Fair | Weather::Hanging => Ok(()),
        }
    }
}

#[async_trait]
impl SessionStore for WatchedStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        self.meet(Call::Claim).await?;
        self.memory.claim(claim).await
    }

    async fn claim_lapsed(&self, sweep: &Sweep) -> Result<Vec<Claimed>, StoreError> {
        self.meet(Call::ClaimLapsed).await?;
        self.memory.claim_lapsed(sweep).await
    }

    async fn heartbeat(
        &self,
        server: &ServerId,
        lease_duration: Duration,
        held: &[Lease],
    ) -> Result<Vec<Lease>, StoreError> {
        self.meet(Call::Heartbeat).await?;
        self.memory.heartbeat(server, lease_duration, held).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.meet(Call::Release).await?;
        self.memory.release(lease).await
    }

    async fn append(&self, lease: &Lease, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        self.meet(Call::Append).await?;
        self.memory.append(lease, after, events).await
    }

    async fn end(
        &self,
        lease: &Lease,
        after: Seq,
        events: &[Event],
        claim: Option<&JobClaim>,
    ) -> Result<Option<Job>, StoreError> {
        self.meet(Call::End).await?;
        self.memory.end(lease, after, events, claim).await
    }

    async fn save_drafts(&self, drafts: &[(Lease, Draft)]) -> Result<Vec<Lease>, StoreError> {
        self.meet(Call::SaveDrafts).await?;
        self.memory.save_drafts(drafts).await
    }

    async fn read(
        &self,
        user: &UserId,
        session: &SessionId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        self.meet(Call::Read).await?;
        self.memory.read(user, session, after, limit).await
    }

    async fn session(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        self.meet(Call::Session).await?;
        self.memory.session(user, session).await
    }

    async fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        self.meet(Call::TokensSpent).await?;
        self.memory.tokens_spent(user, since).await
    }
}

#[async_trait]
impl JobStore for WatchedStore {
    async fn claim_job(
        &self,
        worker: &ServerId,
        lease_duration: Duration,
    ) -> Result<Option<Job>, StoreError> {
        self.meet(Call::ClaimJob).await?;
        self.memory.claim_job(worker, lease_duration).await
    }

    async fn renew_job(&self, job: &Job, lease_duration: Duration) -> Result<(), StoreError> {
        self.meet(Call::RenewJob).await?;
        self.memory.renew_job(job, lease_duration).await
    }

    async fn finish_job(&self, job: &Job, summarized: &Event) -> Result<JobEnd, StoreError> {
        self.meet(Call::FinishJob).await?;
        self.memory.finish_job(job, summarized).await
    }

    async fn release_job(&self, job: &Job, release: &JobRelease) -> Result<(), StoreError> {
        self.meet(Call::ReleaseJob).await?;
        self.memory.release_job(job, release).await
    }
}

#[async_trait]
impl Store for WatchedStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.memory.ping().await
    }

    async fn close(&self) {
        let met = self.meet(Call::Close).await;
        met.expect("closing cannot fail");
        self.memory.close().await;
    }
}
