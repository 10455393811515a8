//! All sections of the configuration in one struct.

use duologue_engine::limits::{
    ClusterLimits, GenerationLimits, JobLimits, SessionLimits, TurnLimits,
};
use duologue_store::StoreConfig;
use serde::Deserialize;

use crate::config::{
    auth::AuthConfig,
    limits::LimitsConfig,
    log::LogConfig,
    model::ModelConfig,
    server::{AgentConfig, ServerConfig},
    socket::SocketConfig,
};

/// All settings. The keys, their defaults and their reasons are in `config/default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The listener, and what connections may use before they are upgraded.
    pub server: ServerConfig,
    /// Who users are, and how they prove it.
    pub auth: AuthConfig,
    /// What one WebSocket may use.
    pub socket: SocketConfig,
    /// How servers that share a database keep their sessions apart.
    pub cluster: ClusterLimits,
    /// What one session may use.
    pub session: SessionLimits,
    /// What an address, a connection, a user and the process may use.
    pub limits: LimitsConfig,
    /// What one turn may use.
    pub turn: TurnLimits,
    /// How long the model may take.
    pub generation: GenerationLimits,
    /// How summaries are made.
    pub jobs: JobLimits,
    /// Where sessions are kept.
    pub store: StoreConfig,
    /// Who answers.
    pub model: ModelConfig,
    /// How it answers.
    pub agent: AgentConfig,
    /// What is logged, and how.
    pub log: LogConfig,
}
