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
use tokio_util::sync::CancellationToken;

use crate::{clock::SystemClock, config::Config, model, server::Server};

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
}

impl Application {
    /// Opens the store, reads the agent, binds the address.
    pub async fn build(config: &Config) -> Result<Self, StartError> {
        let (agent, agent_origin) = read_agent(config)?;
        let provider = model::build(config.model.choice())?;
        let store = duologue_store::open(&config.store).await?;
        let (listener, address) = bind(config).await?;
        warn_if_exposed(address);
        let description = Description {
            store: config.store.describe(),
            model: config.model.choice().to_string(),
            agent: format!("{} ({agent_origin})", agent.name()),
        };
        let parts = Parts {
            store,
            provider,
            agent: Arc::new(agent),
            clock: Arc::new(SystemClock),
            server: server_id(),
        };
        Ok(Self {
            server: Server::assemble(parts, config, listener),
            address,
            description,
        })
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
    match Agent::from_toml(&text, &duologue_tools::builtin()) {
        Ok(agent) => Ok((agent, origin)),
        Err(source) => Err(StartError::Agent { origin, source }),
    }
}

async fn bind(config: &Config) -> Result<(TcpListener, SocketAddr), StartError> {
    let (host, port) = (config.server.host.as_str(), config.server.port);
    let failed = |source| StartError::Bind {
        address: format!("{host}:{port}"),
        source,
    };
    let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// There is no authentication yet: `user_id` is whatever a client says.
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
