//! The server itself: an engine behind HTTP and WebSocket, run until told to stop.
//!
//! It is assembled from parts and a listener, whatever they are: [`crate::app`] gives it those that
//! a configuration names, a simulation gives it others.

use std::{sync::Arc, time::Duration};

use duologue_engine::{Engine, Limits, Parts};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Config, SocketConfig},
    http::{self, origin::Origins},
    listener::{self, Listener, ListenerLimits},
};

/// What every request handler shares. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) socket: Arc<SocketConfig>,
    pub(crate) origins: Arc<Origins>,
    /// Sockets and connections. Shutdown waits for it.
    pub(crate) tasks: TaskTracker,
}

/// A server, ready to run.
#[derive(Debug)]
pub struct Server<L> {
    app: App,
    listener: L,
    limits: ListenerLimits,
    drain_timeout: Duration,
}

impl<L: Listener> Server<L> {
    /// Puts a server together. Of `config` it takes the limits; what the parts are is decided.
    ///
    /// Must be called within a runtime, since the engine starts at once.
    pub fn assemble(parts: Parts, config: &Config, listener: L) -> Self {
        let limits = Limits {
            session: config.session.clone(),
            turn: config.turn.clone(),
            generation: config.generation.clone(),
            jobs: config.jobs.clone(),
        };
        let app = App {
            engine: Arc::new(Engine::start(parts, limits)),
            socket: Arc::new(config.socket.clone()),
            origins: Arc::new(Origins::new(&config.server.origins_allowed)),
            tasks: TaskTracker::new(),
        };
        Self {
            app,
            listener,
            limits: ListenerLimits::from(&config.server),
            drain_timeout: config.server.drain_timeout,
        }
    }

    /// Serves until `drain` is cancelled, then lets go of everything in order: no new connections;
    /// running turns may finish, unless `stop` is cancelled too; sessions are released and not
    /// ended; every task is waited for.
    pub async fn run(self, drain: CancellationToken, stop: CancellationToken) {
        let Self {
            app,
            listener,
            limits,
            drain_timeout,
        } = self;
        let router = http::router(app.clone());
        let closing = CancellationToken::new();
        let accepting = listener::serve(
            listener,
            router,
            limits,
            app.tasks.clone(),
            drain,
            closing.clone(),
        );
        accepting.await;
        tracing::info!("server.draining");
        app.engine.shut_down(drain_timeout, &stop).await;
        closing.cancel();
        app.tasks.close();
        app.tasks.wait().await;
        tracing::info!("server.stopped");
    }
}
