//! Configuration: read once at the start, checked as a whole, then passed down.
//!
//! ```text
//! config/default.toml < --config FILE < .env < environment < flags
//! ```
//!
//! The layers are merged key by key ([`Settings`]), so that the source of each value is known; then
//! everything is read into [`Config`]. All problems are reported at once, with key and source, before
//! the server listens.
//!
//! Not here: the meaning of the values. Each section is a struct of the crate that uses it, and
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
mod renamed;
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

/// The result of [`load`].
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective settings, checked.
    pub config: Config,
    /// The same with their sources, for `duologue config`. Its text contains no secret.
    pub settings: Settings,
    /// Settings that look like mistakes. To be logged at the start.
    pub warnings: Vec<String>,
}

/// Merges all layers into the defaults, and reads and checks the result.
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

/// The same as [`load`] for the text of a file alone.
#[cfg(feature = "testing")]
pub(crate) fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let mut settings = Settings::defaults();
    let problems = settings.merge_text(text, Path::new("duologue.toml"));
    checked(settings, problems, Vec::new())
}

/// Reads and checks the merged settings.
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
    let mut seen = BTreeSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    Err(ConfigError { problems })
}
