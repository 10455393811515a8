//! Why the server does not start.

use std::{io, net::SocketAddr, path::PathBuf};

use duologue_router::AgentError;
use duologue_store::OpenError;

use crate::{auth::KeyError, bind_error::BindError, model};

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
    /// Other machines could connect, and authentication is disabled.
    #[error(
        "server.host: other machines can connect to {address}, and authentication is disabled \
         (auth.mode is \"none\"): any client could read and continue every session. Set auth.mode \
         to \"jwt\" or \"supabase\" (DUOLOGUE_AUTH__MODE); or, if only a private network or a proxy \
         that authenticates users can connect, set auth.allow_anonymous to true \
         (DUOLOGUE_AUTH__ALLOW_ANONYMOUS)"
    )]
    Exposed {
        /// The address that other machines can connect to.
        address: SocketAddr,
    },
    /// The rules or keys to check tokens by cannot be used.
    #[error("the tokens of users cannot be checked")]
    Auth(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl From<KeyError> for StartError {
    fn from(error: KeyError) -> Self {
        Self::Auth(Box::new(error))
    }
}
