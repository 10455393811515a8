//! The server itself: an engine behind HTTP and WebSocket, run until told to stop.
//!
//! It is assembled from parts and a listener, whatever they are: [`crate::app`] gives it those that
//! a configuration names, a simulation gives it others.

use std::{net::IpAddr, sync::Arc, time::Duration};

use duologue_engine::{Engine, Limits, Parts};
use ipnet::IpNet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::StartError,
    auth::Auth,
    config::{Config, SocketConfig},
    gates::Gates,
    http::{self, host::Hosts, origin::Origins},
    listener::{self, Listener, ListenerLimits, Places},
};

/// What every request handler shares. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) socket: Arc<SocketConfig>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) proxies_trusted: Arc<[IpNet]>,
    pub(crate) gates: Arc<Gates>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) places: Places,
    /// Sockets and connections. Shutdown waits for it.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the engine has stopped: whoever is still connected is to go.
    pub(crate) closing: CancellationToken,
    /// Whether there is a route that sends back what it gets.
    #[cfg(feature = "testing")]
    pub(crate) echoes: bool,
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
    /// Puts a server together. Of `config` it takes the limits and who is let in; what the parts are
    /// is decided. `address` is where the listener listens.
    ///
    /// Must be called within a runtime, since the engine starts at once.
    pub fn assemble(
        parts: Parts,
        config: &Config,
        listener: L,
        address: IpAddr,
    ) -> Result<Self, StartError> {
        let tasks = TaskTracker::new();
        let (clock, url) = (Arc::clone(&parts.clock), &config.store.supabase_url);
        let auth = Auth::new(&config.auth, url, clock, tasks.clone())?;
        Ok(Self::behind(auth, tasks, parts, config, listener, address))
    }

    /// The same, where it is settled how users prove who they are. Their keys are fetched among `tasks`.
    pub(crate) fn behind(
        auth: Auth,
        tasks: TaskTracker,
        parts: Parts,
        config: &Config,
        listener: L,
        address: IpAddr,
    ) -> Self {
        let limits = Limits {
            session: config.session.clone(),
            turn: config.turn.clone(),
            generation: config.generation.clone(),
            jobs: config.jobs.clone(),
            user: config.limits.user.clone(),
            tokens: config.limits.tokens.clone(),
            process: config.limits.process.clone(),
        };
        let proxies_trusted: Arc<[IpNet]> = config.server.proxies_trusted.as_slice().into();
        let gates = Arc::new(Gates::new(&config.limits, Arc::clone(&proxies_trusted)));
        let app = App {
            engine: Arc::new(Engine::start(parts, limits)),
            socket: Arc::new(config.socket.clone()),
            origins: Arc::new(Origins::new(&config.server.origins_allowed)),
            hosts: Arc::new(Hosts::new(&config.server.hosts_allowed, address)),
            gates: Arc::clone(&gates),
            proxies_trusted,
            auth: Arc::new(auth),
            places: Places::new(config.server.connections_max as usize, gates),
            tasks,
            closing: CancellationToken::new(),
            #[cfg(feature = "testing")]
            echoes: false,
        };
        Self {
            app,
            listener,
            limits: ListenerLimits::from(&config.server),
            drain_timeout: config.server.drain_timeout,
        }
    }

    /// Adds the echo: see [`crate::app::Application::with_echo`].
    #[cfg(feature = "testing")]
    pub(crate) fn with_echo(mut self) -> Self {
        self.app.echoes = true;
        self
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
        let closing = app.closing.clone();
        let accepting = listener::serve(
            listener,
            router,
            limits,
            app.places.clone(),
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
