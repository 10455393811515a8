//! The application: everything that `serve` needs, built from a configuration, run until told to
//! stop.
//!
//! Tests build and run it the same way, on port 0.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use duologue_engine::{Engine, Limits, Parts, agent::Agent, agent::AgentError, store::ServerId};
use duologue_store::OpenError;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Auth, KeyError},
    clock::SystemClock,
    config::{AuthMode, Authentication, Config, SocketConfig},
    gates::Gates,
    http::{self, host::Hosts, origin::Origins},
    listener::{self, ListenerLimits, Places},
    model,
};

/// The agent that answers where no other is configured.
const BUILTIN_AGENT: &str = include_str!("../../../config/agent.toml");

/// Why the server does not start. Nothing has been bound or served then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be used.
    #[error("the store cannot be opened")]
    Store(#[from] OpenError),
    /// The agent's file cannot be read.
    #[error("agent.file: cannot read {path}")]
    AgentFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The agent's configuration is wrong.
    #[error("the agent in {origin} cannot be used")]
    Agent {
        /// The file, or `the built-in agent`.
        origin: String,
        /// What is wrong.
        source: AgentError,
    },
    /// The model's configuration is wrong.
    #[error("the model cannot be used")]
    Model(#[from] model::ModelError),
    /// Others could reach it, and nobody would ask them who they are.
    #[error(
        "server.host: {address} is reached by other machines, and auth.mode is \"none\": whoever \
         reaches it could read and continue every session. Set auth.mode to \"jwt\" or \
         \"supabase\" (DUOLOGUE_AUTH__MODE); or, where only a private network or a proxy that \
         knows its users reaches it, auth.allow_anonymous to true (DUOLOGUE_AUTH__ALLOW_ANONYMOUS)"
    )]
    Exposed {
        /// The address that other machines reach.
        address: SocketAddr,
    },
    /// What tokens are checked by cannot be used.
    #[error("the tokens of users cannot be checked")]
    Auth(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address is taken, or not ours.
    #[error("server.host, server.port: cannot listen on {address}")]
    Bind {
        /// What was asked for.
        address: String,
        /// Why not.
        source: io::Error,
    },
}

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

/// A server, bound and ready to run.
#[derive(Debug)]
pub struct Application {
    app: App,
    listener: TcpListener,
    address: SocketAddr,
    limits: ListenerLimits,
    drain_timeout: std::time::Duration,
    description: Description,
}

/// What people are told about a server when it starts.
#[derive(Clone, Debug)]
pub struct Description {
    /// The store, without secrets.
    pub store: String,
    /// The model, without secrets.
    pub model: String,
    /// The agent's name and where it comes from.
    pub agent: String,
    /// How users prove who they are.
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
        let auth = Auth::new(&config.auth, supabase_url, clock.clone(), tasks.clone())?;
        let provider = model::build(config.model.choice())?;
        let store = duologue_store::open(&config.store).await?;
        let (listener, address) = bind(config, &addresses).await?;
        if auth.is_on_trust() {
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
        let limits = Limits {
            session: config.session.clone(),
            turn: config.turn.clone(),
            generation: config.generation.clone(),
            jobs: config.jobs.clone(),
            user: config.limits.user.clone(),
            tokens: config.limits.tokens.clone(),
        };
        let proxies_trusted: Arc<[IpNet]> = config.server.proxies_trusted.as_slice().into();
        let gates = Arc::new(Gates::new(&config.limits, Arc::clone(&proxies_trusted)));
        let app = App {
            engine: Arc::new(Engine::start(parts, limits)),
            socket: Arc::new(config.socket.clone()),
            origins: Arc::new(Origins::new(&config.server.origins_allowed)),
            hosts: Arc::new(Hosts::new(&config.server.hosts_allowed, address.ip())),
            gates: Arc::clone(&gates),
            proxies_trusted,
            auth: Arc::new(auth),
            places: Places::new(config.server.connections_max as usize, gates),
            tasks,
            closing: CancellationToken::new(),
            #[cfg(feature = "testing")]
            echoes: false,
        };
        let limits = ListenerLimits::from(&config.server);
        let drain_timeout = config.server.drain_timeout;
        Ok(Self {
            app,
            listener,
            address,
            limits,
            drain_timeout,
            description,
        })
    }

    /// Adds `/testing/echo`, a WebSocket under the limits of all others that sends back what it gets.
    ///
    /// The program never asks for it, however it is built.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_echo(mut self) -> Self {
        self.app.echoes = true;
        self
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is made of, for people.
    pub fn description(&self) -> &Description {
        &self.description
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
            ..
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

pub(crate) fn read_agent(config: &Config) -> Result<(Agent, String), StartError> {
    let (text, origin) = match &config.agent.file {
        None => (BUILTIN_AGENT.to_owned(), "built in".to_owned()),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| StartError::AgentFile {
                path: path.clone(),
                source,
            })?;
            (text, path.display().to_string())
        }
    };
    let tools = duologue_tools::builtin();
    let agent = match config.auth.mode {
        AuthMode::None => Agent::from_toml_on_trust(&text, &tools),
        AuthMode::Jwt | AuthMode::Supabase => Agent::from_toml(&text, &tools),
    };
    match agent {
        Ok(agent) => Ok((agent, origin)),
        Err(source) => Err(StartError::Agent { origin, source }),
    }
}

impl From<KeyError> for StartError {
    fn from(error: KeyError) -> Self {
        Self::Auth(Box::new(error))
    }
}

/// The addresses to listen on, one of them. None of them may be open to people whom nobody asks who
/// they are, unless that is what the operator wants.
async fn resolve(config: &Config) -> Result<Vec<SocketAddr>, StartError> {
    let (host, port) = (config.server.host.as_str(), config.server.port);
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> = found.map_err(|source| unbound(config, source))?.collect();
    match exposed(config, &addresses) {
        Some(address) => Err(StartError::Exposed { address }),
        None => Ok(addresses),
    }
}

/// The address at which strangers would be taken at their word, if there is one.
pub(crate) fn exposed(config: &Config, addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let authentication = config.auth.authentication(&config.store.supabase_url);
    if config.auth.allow_anonymous || matches!(authentication, Authentication::ByToken(_)) {
        return None;
    }
    let mut addresses = addresses.iter().copied();
    addresses.find(|address| is_exposed(address.ip()))
}

async fn bind(
    config: &Config,
    addresses: &[SocketAddr],
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| unbound(config, source);
    let listener = TcpListener::bind(addresses).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn unbound(config: &Config, source: io::Error) -> StartError {
    StartError::Bind {
        address: format!("{}:{}", config.server.host, config.server.port),
        source,
    }
}

/// Said even though it was asked for: whoever reads the log may not be who asked.
fn warn_if_exposed(address: SocketAddr) {
    if is_exposed(address.ip()) {
        tracing::warn!(
            %address,
            "listening beyond this machine without authentication: whoever reaches this address can \
             read and continue every session; let only a private network or a proxy that knows its \
             users reach it"
        );
    }
}

/// Whether other machines may reach it.
fn is_exposed(ip: IpAddr) -> bool {
    !ip.to_canonical().is_loopback()
}

#[expect(
    clippy::disallowed_methods,
    reason = "each run needs an id of its own, made here once"
)]
fn server_id() -> ServerId {
    ServerId(uuid::Uuid::now_v7().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_exposed_unless_it_is_this_machines_own() {
        for (ip, expected) in [
            ("127.0.0.1", false),
            ("127.8.9.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", true),
            ("::", true),
            ("192.168.1.7", true),
        ] {
            assert_eq!(is_exposed(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
