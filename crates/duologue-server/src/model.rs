//! Who answers: an endpoint where one is configured, else the mock.

use std::sync::Arc;

use duologue_engine::provider::Provider;
use duologue_llm::{ConfigError, OpenAi};
use duologue_mock::Mock;

use crate::config::{Endpoint, ModelChoice};

/// Why a model cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("model.{section}")]
pub struct ModelError {
    section: &'static str,
    source: ConfigError,
}

/// Makes what the configuration chose.
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
