//! The section `[model]`: the model's provider.

use std::fmt;

use axum::http::Uri;
use duologue_llm::OpenAiConfig;
use duologue_mock::MockConfig;
use serde::Deserialize;

/// The choice of the provider, and the settings of all providers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The provider that the operator configures. [`choice`](Self::choice) resolves `auto`.
    pub provider: ProviderChoice,
    /// OpenAI, or another endpoint that speaks its chat completions.
    pub openai: OpenAiConfig,
    /// Groq.
    pub groq: OpenAiConfig,
    /// The mock.
    pub mock: MockConfig,
}

/// The provider that the operator configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderChoice {
    /// `OpenAI` if its key is set, else Groq if its key is set, else the mock.
    Auto,
    /// The endpoint of `[model.openai]`.
    OpenAi,
    /// The endpoint of `[model.groq]`.
    Groq,
    /// The mock, which needs no key and no network.
    Mock,
}

/// Which of the two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `[model.openai]`.
    OpenAi,
    /// `[model.groq]`.
    Groq,
}

/// The provider in use.
#[derive(Clone, Copy, Debug)]
pub enum ModelChoice<'a> {
    /// An endpoint that speaks OpenAI's chat completions.
    Endpoint(Endpoint, &'a OpenAiConfig),
    /// The mock.
    Mock(&'a MockConfig),
}

impl ModelConfig {
    /// The provider in use, with `auto` resolved.
    pub fn choice(&self) -> ModelChoice<'_> {
        let openai = ModelChoice::Endpoint(Endpoint::OpenAi, &self.openai);
        let groq = ModelChoice::Endpoint(Endpoint::Groq, &self.groq);
        match self.provider {
            ProviderChoice::OpenAi => openai,
            ProviderChoice::Groq => groq,
            ProviderChoice::Auto if self.openai.has_key() => openai,
            ProviderChoice::Auto if self.groq.has_key() => groq,
            ProviderChoice::Auto | ProviderChoice::Mock => ModelChoice::Mock(&self.mock),
        }
    }
}

/// For people: the model and the host of its endpoint.
impl fmt::Display for ModelChoice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(_, endpoint) => {
                let uri = endpoint.base_url.parse::<Uri>();
                // Only the host: a URL may contain a password.
                let host = uri.as_ref().ok().and_then(Uri::host).unwrap_or("?");
                write!(f, "{} at {host}", endpoint.model)
            }
            Self::Mock(_) => {
                f.write_str("mock; set OPENAI_API_KEY or GROQ_API_KEY for a real model")
            }
        }
    }
}
