//! Configuration: read once at the start, checked as a whole, then passed down.
//!
//! ```text
//! config/default.toml < --config FILE < .env < environment < flags
//! ```
//!
//! Every layer is laid over the defaults key by key ([`Settings`]), so that each value knows where
//! it came from; only then is it all read into [`Config`]. Everything that is wrong is reported at
//! once, by key and source, before the server binds anything.
//!
//! Not here: what the values mean. Each section is a struct of the crate that uses it, and
//! `config/default.toml` explains every key.

mod auth;
mod check;
mod environment;
mod keys;
mod layers;
mod limits;
mod log;
mod model;
mod names;
mod redact;
mod server;
mod socket;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, path::Path};

use duologue_engine::limits::{GenerationLimits, JobLimits, SessionLimits, TurnLimits};
use duologue_store::StoreConfig;
use serde::Deserialize;

pub use crate::config::{
    auth::{AuthConfig, AuthMode, Authentication, SigningAlgorithm, TokenRules},
    environment::Environment,
    layers::{FlagValue, Settings, Source},
    limits::{AddressLimits, ConnectionLimits, LimitsConfig},
    log::{LogConfig, LogFormat},
    model::{Endpoint, ModelChoice, ModelConfig, ProviderChoice},
    server::{AgentConfig, ServerConfig},
    socket::{Dialect, SocketConfig},
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

/// What [`load`] found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings in force, checked.
    pub config: Config,
    /// The same with their sources, for `duologue config`. Its text shows no secret.
    pub settings: Settings,
    /// What looks like a mistake but need not be one. To be logged at the start.
    pub warnings: Vec<String>,
}

/// Everything that is wrong with the configuration, one sentence each, with key and source.
///
/// There is only one thing to do about it, which is to stop, so it has no variants. It never shows
/// a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    fn one(problem: String) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used")?;
        for problem in &self.problems {
            write!(f, "\n  - {problem}")?;
        }
        Ok(())
    }
}

/// Lays all layers over the defaults, and reads and checks the result.
///
/// `file` is the flag `--config`; without it, the variable `DUOLOGUE_CONFIG` may name one.
pub fn load(
    file: Option<&Path>,
    environment: &Environment,
    flags: Vec<FlagValue>,
) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut settings = Settings::defaults();

    let named = environment.get(names::CONFIG_FILE).map(Path::new);
    if let Some(path) = file.or(named) {
        problems.extend(settings.lay_file(path));
    }
    for layer in environment.layers() {
        problems.extend(settings.lay_variables(&layer));
        warnings.extend(names::near_misses(&layer, &settings));
    }
    for flag in flags {
        problems.extend(settings.lay_flag(flag));
    }

    checked(settings, problems, warnings)
}

/// What [`load`] makes of a file alone, given its text.
#[cfg(feature = "testing")]
pub(crate) fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let mut settings = Settings::defaults();
    let problems = settings.lay_text(text, Path::new("duologue.toml"));
    checked(settings, problems, Vec::new())
}

/// Reads and checks what all layers have come to.
fn checked(
    settings: Settings,
    mut problems: Vec<String>,
    mut warnings: Vec<String>,
) -> Result<Loaded, ConfigError> {
    problems.extend(check::sizes(&settings));
    match settings.read() {
        Ok(config) => {
            problems.extend(check::all(&config, &settings));
            warnings.extend(check::supabase_schema(&config, &settings));
            warnings.extend(check::unused_auth(&config, &settings));
            if problems.is_empty() {
                return Ok(Loaded {
                    config,
                    settings,
                    warnings,
                });
            }
        }
        // Values that cannot be read cannot be compared with each other either.
        Err(unreadable) => problems.extend(unreadable),
    }
    let mut said = BTreeSet::new();
    problems.retain(|problem| said.insert(problem.clone()));
    Err(ConfigError { problems })
}
