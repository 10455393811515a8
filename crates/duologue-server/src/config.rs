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

mod admin_token_hash;
mod auth;
mod check;
mod environment;
mod error;
mod keys;
mod limits;
mod log;
mod model;
mod names;
mod redact;
mod sections;
mod server;
mod settings;
mod socket;
mod source;
#[cfg(test)]
mod tests;
mod url;
mod values;
mod warnings;

use std::{collections::BTreeSet, path::Path};

pub(crate) use crate::config::admin_token_hash::AdminTokenHash;
pub use crate::config::{
    auth::{AuthConfig, AuthMode, Authentication, SigningAlgorithm, TokenRules},
    environment::Environment,
    error::ConfigError,
    limits::{AddressLimits, FrameLimits, LimitsConfig},
    log::{LogConfig, LogFormat},
    model::{Endpoint, ModelChoice, ModelConfig, ProviderChoice},
    sections::Config,
    server::{AgentConfig, ServerConfig},
    settings::Settings,
    socket::{Dialect, SocketConfig},
    source::{FlagValue, Source},
};

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
        problems.extend(settings.merge_file(path));
    }
    for layer in environment.layers() {
        problems.extend(settings.merge_env(&layer));
        warnings.extend(warnings::misspelled_variables(&layer, &settings));
    }
    for flag in flags {
        problems.extend(settings.merge_flag(flag));
    }

    checked(settings, problems, warnings)
}

/// What [`load`] makes of a file alone, given its text.
#[cfg(feature = "testing")]
pub(crate) fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let mut settings = Settings::defaults();
    let problems = settings.merge_text(text, Path::new("duologue.toml"));
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
            warnings.extend(warnings::unused_supabase_schema(&config, &settings));
            warnings.extend(warnings::unused_auth(&config, &settings));
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
