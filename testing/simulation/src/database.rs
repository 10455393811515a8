//! The one database that all servers share, the faults between it and them, and what it has seen.
//!
//! It is the engine's store in memory, perhaps with a planted fault ([`MutatedStore`]). Each server
//! reaches it through a [`Connection`], which may be slow, may fail before or after the effect, and
//! may be cut. What is written is noted in a [`Ledger`] that knows nothing of the engine.

mod connection;
mod ledger;
mod mutated_store;
mod pool;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use duologue_doubles::memory::MemoryStore;
use duologue_engine::store::Store;
use fastrand::Rng;
use futures_util::FutureExt;

use crate::{
    mutant::Mutant,
    time::{ClockHandle, Time},
    trace::Trace,
};

use self::mutated_store::MutatedStore;
pub(crate) use self::{connection::Connection, ledger::Ledger};

/// What a server's way to the database is like as long as nothing is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// How long a round trip takes.
    pub(crate) round_trip: Duration,
    /// How many operations of a server are under way at a time.
    pub(crate) connections: usize,
}

/// How ill the database is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Of a thousand writes, how many fail without effect.
    pub(crate) refused_per_mille: u32,
    /// Of a thousand writes, how many take effect while their answer is lost.
    pub(crate) lost_per_mille: u32,
    /// The longest that an operation takes, each way, in milliseconds.
    pub(crate) delay_ms_max: u64,
}

/// Shared by all servers, and alive when they are not.
pub(crate) struct Database {
    /// What the servers write to.
    store: Arc<dyn Store>,
    /// What is kept in truth.
    memory: Arc<MemoryStore>,
    clock: ClockHandle,
    time: Time,
    trace: Trace,
    link: Link,
    mutant: Option<Mutant>,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    faults: Faults,
    is_down: bool,
    /// Servers that cannot reach it.
    cut_off: BTreeSet<String>,
    ledger: Ledger,
    /// When a write failed by chance.
    failures: Vec<Duration>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    pub(crate) fn new(
        mutant: Option<Mutant>,
        clock: ClockHandle,
        time: Time,
        trace: Trace,
        (link, seed): (Link, u64),
    ) -> Arc<Self> {
        let memory = Arc::new(MemoryStore::new());
        let sound: Arc<dyn Store> = Arc::<MemoryStore>::clone(&memory);
        Arc::new(Self {
            store: match mutant {
                None => sound,
                Some(mutant) => Arc::new(MutatedStore::new(mutant, sound)),
            },
            memory,
            clock,
            time,
            trace,
            link,
            mutant,
            state: Mutex::new(State {
                rng: Rng::with_seed(seed),
                faults: Faults::default(),
                is_down: false,
                cut_off: BTreeSet::new(),
                ledger: Ledger::default(),
                failures: Vec::new(),
            }),
        })
    }

    /// Makes it as ill as that.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Takes it away from all servers, or gives it back.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// Whether it answers those that can reach it.
    pub(crate) fn is_down(&self) -> bool {
        self.state().is_down
    }

    /// Takes it away from one server.
    pub(crate) fn cut_off(&self, server: &str) {
        self.state().cut_off.insert(server.to_owned());
    }

    /// Gives it back to one server.
    pub(crate) fn reconnect(&self, server: &str) {
        self.state().cut_off.remove(server);
    }

    /// Whether a write failed by chance in a span of time.
    pub(crate) fn has_failed(&self, span: Range<Duration>) -> bool {
        let state = self.state();
        state.failures.iter().any(|at| span.contains(at))
    }

    /// Looks at what it has seen.
    pub(crate) fn ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.state().ledger)
    }

    /// Looks at what is kept in truth, at the database's time. Nothing is waited for.
    pub(crate) fn inspect<T>(&self, look: impl AsyncFnOnce(&MemoryStore) -> T) -> T {
        let _at_its_time = self.clock.enter();
        let looking = look(&self.memory).now_or_never();
        looking.expect("the store in memory waits for nothing")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Whether `server` reaches it now.
    fn reaches(&self, server: &str) -> bool {
        let state = self.state();
        !state.is_down && !state.cut_off.contains(server)
    }
}

/// What becomes of one operation.
#[derive(Clone, Copy, Debug)]
struct CallPlan {
    there: Duration,
    back: Duration,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    Refused,
    Lost,
}

impl State {
    fn plan_call(&mut self) -> CallPlan {
        let Faults {
            refused_per_mille,
            lost_per_mille,
            delay_ms_max,
        } = self.faults;
        let mut delay = || Duration::from_millis(self.rng.u64(0..=delay_ms_max));
        let (there, back) = (delay(), delay());
        let roll = self.rng.u32(0..1000);
        let outcome = if roll < refused_per_mille {
            Outcome::Refused
        } else if roll < refused_per_mille + lost_per_mille {
            Outcome::Lost
        } else {
            Outcome::Answered
        };
        CallPlan {
            there,
            back,
            outcome,
        }
    }
}

/// A count for each of some things.
pub(crate) type Counts<K> = BTreeMap<K, u32>;
