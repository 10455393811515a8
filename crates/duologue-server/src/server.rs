//! The server: an engine behind HTTP and WebSocket.
//!
//! It is assembled from parts and a listener: [`crate::application`] passes those that a
//! configuration names, a simulation passes others.

use std::{net::IpAddr, sync::Arc, time::Duration};

use duologue_engine::{Engine, Limits, Parts};
use ipnet::IpNet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::App,
    auth::Authenticator,
    config::Config,
    connection_limits::ConnectionLimits,
    hosts::AllowedHosts,
    http,
    listener::{self, ConnectionSlots, Listener, ListenerLimits},
    origins::AllowedOrigins,
    start_error::StartError,
};

/// A server, ready to run.
#[derive(Debug)]
pub struct Server<L> {
    app: App,
    listener: L,
    limits: ListenerLimits,
    drain_timeout: Duration,
}

impl<L: Listener> Server<L> {
    /// Assembles a server. It uses the limits and the access rules of `config`; the parts are given.
    /// `address` is where the listener listens.
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
        let authenticator = Authenticator::new(&config.auth, url, clock, tasks.clone())?;
        Ok(Self::with_authenticator(
            authenticator,
            tasks,
            parts,
            config,
            listener,
            address,
        ))
    }

    /// Assembles a server with an authenticator, whose keys are fetched by tasks of `tasks`.
    pub(crate) fn with_authenticator(
        authenticator: Authenticator,
        tasks: TaskTracker,
        parts: Parts,
        config: &Config,
        listener: L,
        address: IpAddr,
    ) -> Self {
        let limits = Limits {
            cluster: config.cluster.clone(),
            session: config.session.clone(),
            turn: config.turn.clone(),
            generation: config.generation.clone(),
            jobs: config.jobs.clone(),
            user: config.limits.user.clone(),
            tokens: config.limits.tokens.clone(),
            process: config.limits.process.clone(),
        };
        let proxies_trusted: Arc<[IpNet]> = config.server.proxies_trusted.as_slice().into();
        let connection_limits = Arc::new(ConnectionLimits::new(
            &config.limits,
            Arc::clone(&proxies_trusted),
        ));
        let connections_max = config.server.connections_max as usize;
        let app = App {
            engine: Arc::new(Engine::start(parts, limits)),
            socket: Arc::new(config.socket.clone()),
            origins: Arc::new(AllowedOrigins::new(&config.server.origins_allowed)),
            hosts: Arc::new(AllowedHosts::new(&config.server.hosts_allowed, address)),
            limits: Arc::clone(&connection_limits),
            proxies_trusted,
            authenticator: Arc::new(authenticator),
            connection_slots: ConnectionSlots::new(connections_max, connection_limits),
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

    /// Adds the echo: see [`crate::application::Application::with_echo`].
    #[cfg(feature = "testing")]
    pub(crate) fn with_echo(mut self) -> Self {
        self.app.echoes = true;
        self
    }

    /// Serves until `drain` is cancelled, then shuts down in order: it accepts no new connections;
    /// running turns may finish, unless `stop` is cancelled too; sessions are released and not
    /// ended; it waits for every task.
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
            app.connection_slots.clone(),
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
