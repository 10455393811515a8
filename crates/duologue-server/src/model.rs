//! The model's provider: the configured endpoint, or the mock.

use std::sync::Arc;

use duologue_engine::provider::Provider;
use duologue_llm::{ConfigError, OpenAi};
use duologue_mock::Mock;

use crate::config::{Endpoint, ModelChoice};

/// Why the configured model cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("model.{section}")]
pub struct ModelError {
    section: &'static str,
    source: ConfigError,
}

/// Creates the provider that the configuration chooses.
pub(crate) fn build(choice: ModelChoice<'_>) -> Result<Arc<dyn Provider>, ModelError> {
    let (section, config) = match choice {
        ModelChoice::Mock(config) => return Ok(Arc::new(Mock::new(config.clone()))),
        ModelChoice::Endpoint(Endpoint::OpenAi, config) => ("openai", config),
        ModelChoice::Endpoint(Endpoint::Groq, config) => ("groq", config),
    };
    match OpenAi::new(config.clone()) {
        Ok(endpoint) => Ok(Arc::new(endpoint)),
        Err(source) => Err(ModelError { section, source }),
    }
}
