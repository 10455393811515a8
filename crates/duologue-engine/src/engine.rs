//! The running engine: starts and stops all tasks.

use std::{fmt, sync::Arc, time::Duration};

use duologue_protocol::{SessionId, UserId};
use tokio_util::sync::CancellationToken;

use crate::{
    context::{Context, Limits, Parts},
    drain_schedule::DrainSchedule,
    heartbeat, jobs,
    reader::Reader,
    session::{AttachError, Position},
    sessions::Sessions,
    store::{SessionRecord, StoreError},
    supervision::{BackgroundTask, survive_panics},
    sweeper,
};

/// How long closing the store may take. All writes are over by then, and a connection to a database
/// that does not answer must not keep the process from ending.
const STORE_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A running engine. Dropping it stops everything without waiting; see [`Engine::shut_down`].
pub struct Engine {
    context: Arc<Context>,
    sessions: Sessions,
    heartbeat: BackgroundTask,
    sweeper: BackgroundTask,
    draft_saver: BackgroundTask,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("sessions", &self.sessions.count())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the engine's own tasks: the heartbeat, the sweeper and the job workers. Must be called within a
    /// runtime.
    pub fn start(parts: Parts, limits: Limits) -> Self {
        let context = Context::new(parts, limits);
        let sessions = Sessions::new(Arc::clone(&context));
        let heartbeat = heartbeat::start(Arc::clone(&context));
        let sweeper = sweeper::start(Arc::clone(&context), sessions.clone());
        let draft_saver = save_drafts(Arc::clone(&context));
        let dispatcher = Arc::clone(&context);
        context.tasks.spawn(async move {
            survive_panics("dispatcher", || jobs::dispatch(&dispatcher)).await;
        });
        for number in 0..context.limits.jobs.workers {
            let worker = Arc::clone(&context);
            context.tasks.spawn(async move {
                survive_panics("worker", || jobs::run(&worker, number)).await;
            });
        }
        Self {
            context,
            sessions,
            heartbeat,
            sweeper,
            draft_saver,
        }
    }

    /// Attaches a reader to a session, which is created, reopened or taken over as needed.
    ///
    /// With a `position`, the reader first receives the events after that position. Returns within
    /// `attach_timeout`, also while storage is unavailable.
    pub async fn attach(
        &self,
        session_id: &SessionId,
        user_id: &UserId,
        position: Option<&Position>,
    ) -> Result<Reader, AttachError> {
        self.sessions.attach(session_id, user_id, position).await
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

    /// Whether new readers are refused because the server is stopping.
    pub fn is_draining(&self) -> bool {
        self.context.drain.is_cancelled()
    }

    /// The number of sessions on this server.
    pub fn sessions_count(&self) -> usize {
        self.sessions.count()
    }

    /// Releases all sessions without ending them, waits for every task, and closes the store.
    ///
    /// Sessions with readers are released one after the other within `reconnect_window`, so that their
    /// clients do not all reconnect at once. Running turns may finish within `drain_timeout`, or until
    /// `now` is cancelled; then they are stopped and stored as interrupted.
    pub async fn shut_down(&self, drain_timeout: Duration, now: &CancellationToken) {
        // First, so that no session is opened after the sessions were counted.
        self.sessions.close();
        let window = self.context.limits.session.reconnect_window;
        let window = window.min(drain_timeout);
        let drain_schedule = DrainSchedule::of(self.sessions.count(), window);
        self.context.set_drain_schedule(drain_schedule);
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
        // The lease was renewed, and drafts saved, until the last session was over.
        self.sweeper.stop().await;
        self.heartbeat.stop().await;
        self.draft_saver.stop().await;
        let closed = tokio::time::timeout(STORE_CLOSE_TIMEOUT, self.context.store.close()).await;
        if closed.is_err() {
            tracing::warn!("store.close_timed_out");
        }
    }
}

/// Starts the task that saves drafts.
fn save_drafts(context: Arc<Context>) -> BackgroundTask {
    BackgroundTask::start(async move {
        let Context {
            store,
            drafts,
            leases,
            limits,
            ..
        } = &*context;
        let interval = limits.session.draft_interval;
        survive_panics("draft saver", || drafts.run(&**store, leases, interval)).await;
    })
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.sessions.close();
        self.context.drain.cancel();
        self.context.stop.cancel();
    }
}
