//! The store in memory, watched: which calls were made when, and in what weather.

use std::collections::HashMap;

use duologue_doubles::memory::{Fault, MemoryStore};
pub(crate) use duologue_engine::store::layer::Method;
use duologue_engine::store::{
    SessionStore, Store, StoreError,
    layer::{Call, Layer, Reply},
};
use duologue_protocol::{Event, Seq};
use tokio::{sync::watch, time::Instant};

use super::{
    names::{alice, session_id},
    patience::within,
};

/// Whether a method is called for a session, and not by a task that looks after all of them, or
/// for a user.
fn is_of_session(method: Method) -> bool {
    !matches!(
        method,
        Method::ClaimLapsed
            | Method::Heartbeat
            | Method::SaveDrafts
            | Method::TokensSpent
            | Method::ClaimJob
            | Method::RenewJob
            | Method::Ping
    )
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
    calls: Vec<(Method, Instant)>,
    weather: HashMap<Method, Weather>,
    /// The one call that waits, whatever the weather: of which method, and the how manieth.
    hangs: Option<(Method, usize)>,
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

    /// Changes the weather for calls of some methods.
    pub(crate) fn set(&self, weather: Weather, methods: impl IntoIterator<Item = Method>) {
        self.watched.send_modify(|watched| {
            for method in methods {
                watched.weather.insert(method, weather);
            }
        });
    }

    /// Lets one call wait that is still to come: the how manieth of its method, counted from 1.
    pub(crate) fn hang_at(&self, method: Method, number: usize) {
        self.watched
            .send_modify(|watched| watched.hangs = Some((method, number)));
    }

    /// Lets the call go on that was made to wait.
    pub(crate) fn hang_no_more(&self) {
        self.watched.send_modify(|watched| watched.hangs = None);
    }

    /// Changes the weather for all calls but that of `close`, which cannot fail.
    pub(crate) fn set_all(&self, weather: Weather) {
        let methods = Method::ALL.iter().copied();
        self.set(weather, methods.filter(|method| *method != Method::Close));
    }

    /// When a method was called, oldest first.
    pub(crate) fn times(&self, method: Method) -> Vec<Instant> {
        let watched = self.watched.borrow();
        let calls = watched.calls.iter();
        calls
            .filter(|(made, _)| *made == method)
            .map(|(_, at)| *at)
            .collect()
    }

    pub(crate) fn count(&self, method: Method) -> usize {
        self.times(method).len()
    }

    /// The calls made for sessions so far.
    pub(crate) fn session_calls(&self) -> Vec<Method> {
        let watched = self.watched.borrow();
        let methods = watched.calls.iter().map(|(method, _)| *method);
        methods.filter(|method| is_of_session(*method)).collect()
    }

    /// Waits until a method was called so often.
    pub(crate) async fn wait_for(&self, method: Method, count: usize) {
        let mut changes = self.watched.subscribe();
        let reached = changes.wait_for(|watched| {
            let made = watched.calls.iter().filter(|(made, _)| *made == method);
            made.count() >= count
        });
        let reached = within(&format!("{count} calls of {method:?}"), reached).await;
        drop(reached.expect("the store is here"));
    }

    /// The whole log of a session of Alice's, unchecked.
    pub(crate) async fn log(&self, session: &str) -> Vec<Event> {
        let (user, session) = (alice(), session_id(session));
        let log = self.memory.read(&user, &session, Seq::ZERO, u32::MAX);
        log.await.expect("the store in memory answers")
    }

    /// Notes a call, and lets it meet the weather.
    async fn meet(&self, method: Method) -> Result<(), StoreError> {
        let mut number = 0;
        self.watched.send_modify(|watched| {
            watched.calls.push((method, Instant::now()));
            number = watched
                .calls
                .iter()
                .filter(|(made, _)| *made == method)
                .count();
        });
        let weather = |watched: &Watched| {
            if watched.hangs == Some((method, number)) {
                return Weather::Hanging;
            }
            let weather = watched.weather.get(&method);
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

impl Layer for WatchedStore {
    async fn handle(&self, call: Call) -> Result<Reply, StoreError> {
        self.meet(call.method()).await?;
        call.make(&self.memory).await
    }
}
