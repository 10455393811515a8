//! The engine: everything that runs, started and stopped together.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use duologue_protocol::{Seq, SessionId, UserId};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agent::Agent,
    budgets::Budgets,
    clock::Clock,
    in_flight::InFlightBytes,
    jobs,
    keeper::{self, Health},
    limits::{
        GenerationLimits, JobLimits, ProcessLimits, SessionLimits, TokenLimits, TurnLimits,
        UserLimits,
    },
    provider::Provider,
    reader::Reader,
    session::{AttachError, DrainSchedule, LeaseRegistry},
    sessions::Sessions,
    store::{ServerId, SessionRecord, SpawnedStore, Store, StoreError},
    supervision::survive_panics,
};

/// How long the store may take to say goodbye. Nothing waits to be written by then, and a connection to
/// a database that does not answer must not keep the process from ending.
const STORE_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the engine is built from.
#[derive(Clone)]
pub struct Parts {
    /// Where sessions are kept.
    pub store: Arc<dyn Store>,
    /// Who answers.
    pub provider: Arc<dyn Provider>,
    /// How it answers.
    pub agent: Arc<Agent>,
    /// What time it is.
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

/// What it may use.
#[derive(Clone, Debug)]
pub struct Limits {
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
    /// Per session, user and process.
    pub tokens: TokenLimits,
    /// For all of them together.
    pub process: ProcessLimits,
}

/// What every task of the engine shares.
pub(crate) struct Context {
    /// Runs every operation in a task of its own.
    pub(crate) store: Arc<dyn Store>,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) server: ServerId,
    pub(crate) limits: Limits,
    /// What users use.
    pub(crate) budgets: Arc<Budgets>,
    /// What is queued between sessions and clients.
    pub(crate) in_flight: Arc<InFlightBytes>,
    /// Every task there is. Shutdown waits for it.
    pub(crate) tasks: TaskTracker,
    /// Cancelled first: no new sessions and turns; sessions let go between turns.
    pub(crate) drain: CancellationToken,
    /// Over how long sessions are let go of; set before the drain begins.
    pub(crate) drain_schedule: OnceLock<DrainSchedule>,
    /// Cancelled when the drain is over: turns stop where they are, writes are not retried.
    pub(crate) stop: CancellationToken,
    /// What the sessions hold that live here, for the keeper to renew.
    pub(crate) leases: LeaseRegistry,
    /// Since when the database has answered.
    pub(crate) health: Health,
    /// A job has been enqueued here.
    pub(crate) jobs_due: Notify,
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
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            drain_schedule: OnceLock::new(),
            stop: CancellationToken::new(),
            leases: LeaseRegistry::default(),
            health: Health::default(),
            jobs_due: Notify::new(),
        })
    }
}

/// A running engine. Dropping it stops everything without waiting; see [`Engine::shut_down`].
pub struct Engine {
    context: Arc<Context>,
    sessions: Sessions,
    keeper: keeper::Handle,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("sessions", &self.sessions.count())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the engine's own tasks: renewing leases, finding abandoned sessions, working on jobs.
    /// Must be called within a runtime.
    pub fn start(parts: Parts, limits: Limits) -> Self {
        let context = Context::new(parts, limits);
        let sessions = Sessions::new(Arc::clone(&context));
        let keeper = keeper::start(Arc::clone(&context), sessions.clone());
        for number in 0..context.limits.jobs.workers {
            let worker = Arc::clone(&context);
            context.tasks.spawn(async move {
                survive_panics("worker", || jobs::run(&worker, number)).await;
            });
        }
        Self {
            context,
            sessions,
            keeper,
        }
    }

    /// Attaches a reader to a session, which is created, reopened or taken over as needed.
    ///
    /// With `after`, the reader first gets the events after that position. There is an answer within
    /// `attach_timeout`, whatever the store does.
    pub async fn attach(
        &self,
        session_id: &SessionId,
        user_id: &UserId,
        after: Option<Seq>,
    ) -> Result<Reader, AttachError> {
        self.sessions.attach(session_id, user_id, after).await
    }

    /// The facts of a session. `None`: there is none, or it belongs to another user.
    pub async fn session(
        &self,
        session_id: &SessionId,
        user_id: &UserId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        self.context.store.session(user_id, session_id).await
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.context.store.ping().await
    }

    /// Whether new readers are turned away.
    pub fn is_draining(&self) -> bool {
        self.context.drain.is_cancelled()
    }

    /// Sessions that live on this server.
    pub fn sessions_count(&self) -> usize {
        self.sessions.count()
    }

    /// Lets go of all sessions without ending them, waits for every task, and closes the store.
    ///
    /// Sessions with readers are let go of one after the other within `reconnect_window`, so that not
    /// all of their clients come back at once. Running turns may finish within `drain_timeout`, or until `now` is cancelled; then they are
    /// cut short and closed as interrupted.
    pub async fn shut_down(&self, drain_timeout: Duration, now: &CancellationToken) {
        // First the door, so that no session is opened behind the back of those who wait here.
        self.sessions.close();
        let window = self.context.limits.session.reconnect_window;
        let window = window.min(drain_timeout);
        let drain_schedule = DrainSchedule::of(self.sessions.count(), window);
        self.context.drain_schedule.get_or_init(|| drain_schedule);
        self.context.drain.cancel();
        self.context.tasks.close();
        tokio::select! {
            biased;
            () = self.context.tasks.wait() => {}
            () = tokio::time::sleep(drain_timeout) => tracing::warn!("drain.timed_out"),
            () = now.cancelled() => {}
        }
        self.context.stop.cancel();
        self.context.tasks.wait().await;
        // Leases were kept as long as there was anything to keep.
        self.keeper.stop().await;
        let closed = tokio::time::timeout(STORE_CLOSE_TIMEOUT, self.context.store.close()).await;
        if closed.is_err() {
            tracing::warn!("store.close_timed_out");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.sessions.close();
        self.context.drain.cancel();
        self.context.stop.cancel();
    }
}
