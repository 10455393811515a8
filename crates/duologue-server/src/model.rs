//! Which model answers: a real endpoint where a key is configured, else the mock.

use std::sync::Arc;

use duologue_engine::provider::{Provider, mock::Mock};
use duologue_llm::OpenAi;

use crate::config::{ModelChoice, ModelConfig};

/// Why a model cannot be used.
pub use duologue_llm::ConfigError as ModelError;

/// The model, and its description for people: no secrets.
pub(crate) fn build(config: &ModelConfig) -> Result<(Arc<dyn Provider>, String), ModelError> {
    Ok(match config.choice() {
        ModelChoice::Mock(mock) => (Arc::new(Mock::new(mock.clone())), "mock".to_owned()),
        ModelChoice::Endpoint(endpoint) => {
            let description = format!("{} at {}", endpoint.model, endpoint.base_url);
            (Arc::new(OpenAi::new(endpoint.clone())?), description)
        }
    })
}
