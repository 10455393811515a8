//! The model: whether its endpoint responds, and has the model.

use duologue_llm::{CheckError, ModelCheck, OpenAi};

use crate::{
    check::report::{Row, where_to_fix},
    config::{Endpoint, ModelChoice, Settings},
    error_chain::error_chain,
};

/// The maximum number of models that are listed; some endpoints have hundreds.
const MODELS_SHOWN: usize = 8;

/// Where to correct the settings of an endpoint.
struct Places {
    api_key: String,
    model: String,
    base_url: String,
}

pub(super) async fn check(choice: ModelChoice<'_>, settings: &Settings) -> Row {
    let name = choice.to_string();
    let (endpoint, config) = match choice {
        ModelChoice::Mock(_) => return Row::works("model", name),
        ModelChoice::Endpoint(endpoint, config) => (endpoint, config),
    };
    let places = Places::of(endpoint, settings);
    let endpoint = match OpenAi::new(config.clone()) {
        Ok(endpoint) => endpoint,
        Err(error) => return Row::fails("model", format!("{name}: {}", error_chain(&error))),
    };
    match endpoint.check().await {
        Ok(found) => row_of(&name, &found, &places),
        Err(error) => Row::fails("model", format!("{name}: {}", error_chain(&error)))
            .advise(advice(&error, &places)),
    }
}

impl Places {
    fn of(endpoint: Endpoint, settings: &Settings) -> Self {
        let (section, prefix) = match endpoint {
            Endpoint::OpenAi => ("openai", "OPENAI"),
            Endpoint::Groq => ("groq", "GROQ"),
        };
        let place = |key: &str, variable: &str| {
            let (key, variable) = (
                format!("model.{section}.{key}"),
                format!("{prefix}_{variable}"),
            );
            where_to_fix(&key, &variable, settings)
        };
        Self {
            api_key: place("api_key", "API_KEY"),
            model: place("model", "MODEL"),
            base_url: place("base_url", "BASE_URL"),
        }
    }
}

fn row_of(name: &str, found: &ModelCheck, places: &Places) -> Row {
    match found {
        ModelCheck::Listed => Row::works("model", format!("{name}: the endpoint has it")),
        ModelCheck::NotListed { models } => {
            let found = format!("{name}: the endpoint responds, and does not list this model");
            let others = match models.len() {
                0 => "it lists none".to_owned(),
                1..=MODELS_SHOWN => format!("it lists {}", models.join(", ")),
                count => {
                    let shown = models[..MODELS_SHOWN].join(", ");
                    format!("it lists {shown} and {} more", count - MODELS_SHOWN)
                }
            };
            let place = &places.model;
            Row::unclear("model", found).advise(format!("check whether {place} is right: {others}"))
        }
        ModelCheck::NoList => {
            let found = format!("{name}: the endpoint responds, and has no list of models");
            let Places { base_url, .. } = places;
            Row::unclear("model", found).advise(format!(
                "send a message to try it: the key was not tested, and {base_url} may be wrong"
            ))
        }
    }
}

fn advice(error: &CheckError, places: &Places) -> String {
    let Places {
        api_key, base_url, ..
    } = places;
    match error {
        CheckError::Key(_) => format!("put a key that is valid at this endpoint into {api_key}"),
        CheckError::Refused(_) => {
            "try again later; if that does not help, ask the operator of the endpoint".to_owned()
        }
        CheckError::Unreachable(_) => {
            format!("correct {base_url}, or allow this machine to connect to the endpoint")
        }
    }
}
