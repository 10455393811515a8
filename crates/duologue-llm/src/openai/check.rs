//! Asking an endpoint for its models: what a key is worth, without paying for an answer.

use std::time::Duration;

use duologue_engine::{BoxError, provider::ProviderError};
use reqwest::{StatusCode, header::ACCEPT};
use serde_json::Value;
use tokio::time::timeout;

use super::{Inner, OpenAi, authorized, read, unavailable};
use crate::failure;

/// How long the endpoint may take, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest list that is read. OpenAI's has some ten thousand bytes, a gateway's ten times that.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How an endpoint was found that answers and has nothing against the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelCheck {
    /// It has the model.
    Listed,
    /// It lists other models only. Some endpoints do not list all they have.
    NotListed {
        /// Those it lists, in its order.
        models: Vec<String>,
    },
    /// It tells nobody which models it has, so that neither key nor model can be judged.
    NoList,
}

/// Why an endpoint will answer nobody.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It wants another key, or one where there is none.
    #[error("the endpoint refuses the key")]
    Key(#[source] BoxError),
    /// It is there, and does not serve us for another reason, which may pass.
    #[error("the endpoint does not serve us")]
    Refused(#[source] BoxError),
    /// Nobody answers at its address, or not in time, or not as such an endpoint does.
    #[error("the endpoint does not answer")]
    Unreachable(#[source] BoxError),
}

impl OpenAi {
    /// Asks which models there are, once, and in the end waits for ten seconds at most.
    pub async fn check(&self) -> Result<ModelCheck, CheckError> {
        match timeout(TIMEOUT, self.inner.list()).await {
            Ok(listed) => Ok(check_listed(listed?, &self.inner.config.model)),
            Err(elapsed) => Err(CheckError::Unreachable(elapsed.into())),
        }
    }
}

impl Inner {
    /// The names of all models; none if there is no list.
    async fn list(&self) -> Result<Option<Vec<String>>, CheckError> {
        let url = self.config.url_of(&["models"]);
        let url = url.map_err(|error| CheckError::Unreachable(error.into()))?;
        let get = authorized(self.client.get(url), self.authorization.as_ref());
        let get = get.header(ACCEPT, "application/json");
        let mut response = get.send().await.map_err(lost)?;
        let mut body = Vec::new();
        read(&mut response, &mut body, LIST_BYTES_MAX)
            .await
            .map_err(lost)?;
        match response.status() {
            status if status.is_success() => Ok(names(&body)),
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => Ok(None),
            status => {
                let key = &self.config.api_key;
                let failure = failure::of_response(status, response.headers(), &body, key);
                Err(refusal(status, failure))
            }
        }
    }
}

fn lost(error: reqwest::Error) -> CheckError {
    CheckError::Unreachable(cause(unavailable(error)))
}

fn refusal(status: StatusCode, failure: ProviderError) -> CheckError {
    let cause = cause(failure);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CheckError::Key(cause),
        _ => CheckError::Refused(cause),
    }
}

/// What the endpoint or the network said.
fn cause(failure: ProviderError) -> BoxError {
    match failure {
        ProviderError::Refused(cause) | ProviderError::Unavailable(cause) => cause,
        other => other.into(),
    }
}

fn names(list: &[u8]) -> Option<Vec<String>> {
    let list: Value = serde_json::from_slice(list).ok()?;
    let models = list.get("data")?.as_array()?.iter();
    let names = models.filter_map(|model| model.get("id")?.as_str());
    Some(names.map(str::to_owned).collect())
}

fn check_listed(listed: Option<Vec<String>>, model: &str) -> ModelCheck {
    match listed {
        None => ModelCheck::NoList,
        Some(models) if models.iter().any(|name| is_name_of(name, model)) => ModelCheck::Listed,
        Some(models) => ModelCheck::NotListed { models },
    }
}

/// Whether a listed name is the model's: some endpoints name the version that is meant by default.
fn is_name_of(listed: &str, model: &str) -> bool {
    listed == model || listed.strip_suffix(":latest") == Some(model)
}
