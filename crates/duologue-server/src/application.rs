//! The application: a [`Server`] with the parts that a configuration names, bound to an address.
//!
//! Tests build and run it the same way, on port 0.

use std::{net::SocketAddr, sync::Arc};

use duologue_engine::{Parts, agent::Agent, store::ServerId};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agent_file::read_agent,
    auth::Authenticator,
    bind_error::BindError,
    clock::SystemClock,
    config::Config,
    exposure::{exposed, is_exposed},
    model,
    server::Server,
    start_error::StartError,
};

/// A server, bound and ready to run.
#[derive(Debug)]
pub struct Application {
    server: Server<TcpListener>,
    address: SocketAddr,
    description: Description,
}

/// The parts of a server, as its banner shows them.
#[derive(Clone, Debug)]
pub struct Description {
    /// The store, without secrets.
    pub store: String,
    /// The model, without secrets.
    pub model: String,
    /// The agent's name and where it comes from.
    pub agent: String,
    /// How users are authenticated.
    pub auth: String,
}

impl Application {
    /// Opens the store, reads the agent, binds the address.
    pub async fn build(config: &Config) -> Result<Self, StartError> {
        let addresses = resolve(config).await?;
        let (agent, agent_origin) = read_agent(config)?;
        let clock = Arc::new(SystemClock);
        let tasks = TaskTracker::new();
        let supabase_url = &config.store.supabase_url;
        let authenticator =
            Authenticator::new(&config.auth, supabase_url, clock.clone(), tasks.clone())?;
        let provider = model::build(config.model.choice())?;
        let store = duologue_store::open(&config.store).await?;
        let (listener, address) = bind(config, &addresses).await?;
        if authenticator.auth_disabled() {
            warn_if_exposed(address);
        }
        let description = Description {
            store: config.store.describe(),
            model: config.model.choice().to_string(),
            agent: format!("{} ({agent_origin})", agent.name()),
            auth: config.auth.authentication(supabase_url).to_string(),
        };
        let parts = Parts {
            store,
            provider,
            agent: Arc::new(agent),
            clock,
            server: server_id(),
        };
        Ok(Self {
            server: Server::with_authenticator(
                authenticator,
                tasks,
                parts,
                config,
                listener,
                address.ip(),
            ),
            address,
            description,
        })
    }

    /// Adds `/testing/echo`, a WebSocket that sends back every message, under the limits of all
    /// others.
    ///
    /// Tests only: the program itself never adds it.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_echo(mut self) -> Self {
        self.server = self.server.with_echo();
        self
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The parts of the server, for the banner.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Serves until it is stopped: see [`Server::run`].
    pub async fn run(self, drain: CancellationToken, stop: CancellationToken) {
        self.server.run(drain, stop).await;
    }
}

/// The addresses of `server.host`, one of which to listen on.
async fn resolve(config: &Config) -> Result<Vec<SocketAddr>, StartError> {
    let (host, port) = (config.server.host.as_str(), config.server.port);
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|source| BindError::Unresolved {
        host: host.to_owned(),
        source,
    })?;
    let addresses: Vec<_> = found.collect();
    match exposed(config, &addresses) {
        Some(address) => Err(StartError::Exposed { address }),
        None => Ok(addresses),
    }
}

async fn bind(
    config: &Config,
    addresses: &[SocketAddr],
) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |source| BindError::of(&config.server, source);
    let listener = TcpListener::bind(addresses).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Logged although the operator allowed it: the reader of the log may be another person.
fn warn_if_exposed(address: SocketAddr) {
    if is_exposed(address.ip()) {
        tracing::warn!(
            %address,
            "authentication is disabled and other machines can connect: any client can read and \
             continue every session; allow only a private network, or a proxy that authenticates \
             users, to connect"
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "each run needs an id of its own, made here once"
)]
fn server_id() -> ServerId {
    ServerId(uuid::Uuid::now_v7().to_string())
}
