//! The application: a [`Server`] with all that a configuration names, bound to an address.
//!
//! Tests build and run it the same way, on port 0.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use duologue_engine::{Parts, agent::Agent, agent::AgentError, store::ServerId};
use duologue_store::OpenError;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Auth, KeyError},
    clock::SystemClock,
    config::{AuthMode, Authentication, Config},
    model,
    server::Server,
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

/// A server, bound and ready to run.
#[derive(Debug)]
pub struct Application {
    server: Server<TcpListener>,
    address: SocketAddr,
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
        Ok(Self {
            server: Server::behind(auth, tasks, parts, config, listener, address.ip()),
            address,
            description,
        })
    }

    /// Adds `/testing/echo`, a WebSocket under the limits of all others that sends back what it gets.
    ///
    /// The program never asks for it, however it is built.
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

    /// What it is made of, for people.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Serves until told to stop: see [`Server::run`].
    pub async fn run(self, drain: CancellationToken, stop: CancellationToken) {
        self.server.run(drain, stop).await;
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
