//! What every task of the engine shares.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agent::Agent,
    budgets::Budgets,
    clock::Clock,
    drafts::DraftBoard,
    drain_schedule::DrainSchedule,
    free_workers::FreeWorkers,
    in_flight::InFlightBytes,
    leases::LeaseRegistry,
    limits::{
        ClusterLimits, GenerationLimits, JobLimits, ProcessLimits, SessionLimits, TokenLimits,
        TurnLimits, UserLimits,
    },
    provider::Provider,
    store::{ServerId, Store, spawned::SpawnedStore},
    store_health::StoreHealth,
};

/// Sessions that are opened at a time. Further ones wait, and have left nothing in the store if their
/// requesters give up before it is their turn. A store handles this many at once without delay.
const OPENINGS_MAX: usize = 256;

/// What the engine is built from.
#[derive(Clone)]
pub struct Parts {
    /// Where sessions are stored.
    pub store: Arc<dyn Store>,
    /// The model that answers.
    pub provider: Arc<dyn Provider>,
    /// How it answers.
    pub agent: Arc<dyn Agent>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// This run of the server.
    pub server: ServerId,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// What the engine may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Between servers.
    pub cluster: ClusterLimits,
    /// Per session.
    pub session: SessionLimits,
    /// Per turn.
    pub turn: TurnLimits,
    /// Per request to a model.
    pub generation: GenerationLimits,
    /// For jobs.
    pub jobs: JobLimits,
    /// Per user.
    pub user: UserLimits,
    /// Tokens per session, user and process.
    pub tokens: TokenLimits,
    /// For the whole process.
    pub process: ProcessLimits,
}

/// What every task of the engine shares.
pub(crate) struct Context {
    /// Runs each operation in a task of its own.
    pub(crate) store: Arc<dyn Store>,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) agent: Arc<dyn Agent>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) server: ServerId,
    pub(crate) limits: Limits,
    /// The turns and tokens of users and of the process.
    pub(crate) budgets: Arc<Budgets>,
    /// The bytes queued between sessions and clients.
    pub(crate) in_flight: Arc<InFlightBytes>,
    /// Places for sessions that are being opened.
    pub(crate) openings: Semaphore,
    /// All tasks of sessions, turns and jobs. Shutdown waits for them.
    pub(crate) tasks: TaskTracker,
    /// Cancelled first: no new sessions and turns; sessions are released between turns.
    pub(crate) drain: CancellationToken,
    /// The period over which sessions are released; set before the drain starts.
    drain_schedule: OnceLock<DrainSchedule>,
    /// Cancelled at the end of the drain: turns are interrupted, writes are not retried.
    pub(crate) stop: CancellationToken,
    /// The sessions that this server holds in the database.
    pub(crate) leases: Arc<LeaseRegistry>,
    /// The answers in progress on this server.
    pub(crate) drafts: Arc<DraftBoard>,
    /// Since when the database has answered.
    pub(crate) health: StoreHealth,
    /// The workers of this server that wait for a job.
    pub(crate) free_workers: Arc<FreeWorkers>,
}

impl Context {
    pub(crate) fn new(parts: Parts, limits: Limits) -> Arc<Self> {
        let Parts {
            store,
            provider,
            agent,
            clock,
            server,
        } = parts;
        let health = StoreHealth::new(limits.cluster.lease);
        let budgets = Budgets::new(limits.user.clone(), limits.tokens.clone());
        let in_flight = InFlightBytes::new(&limits.process);
        Arc::new(Self {
            store: Arc::new(SpawnedStore::new(store)),
            provider,
            agent,
            clock,
            server,
            limits,
            budgets,
            in_flight,
            openings: Semaphore::new(OPENINGS_MAX),
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            drain_schedule: OnceLock::new(),
            stop: CancellationToken::new(),
            leases: Arc::default(),
            drafts: Arc::default(),
            health,
            free_workers: Arc::default(),
        })
    }

    /// Sets when sessions are released. Only the first call counts.
    pub(crate) fn set_drain_schedule(&self, schedule: DrainSchedule) {
        self.drain_schedule.get_or_init(|| schedule);
    }

    /// When sessions are released. An engine that is dropped without shutting down releases all at once.
    pub(crate) fn drain_schedule(&self) -> DrainSchedule {
        self.drain_schedule.get().copied().unwrap_or_default()
    }
}
