//! What an endpoint's failure means for the engine: may it try again?

#[cfg(test)]
mod tests;

use std::{error::Error, fmt, time::Duration};

use duologue_engine::{BoxError, provider::ProviderError};
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    StatusCode,
    header::{DATE, HeaderMap, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tracing::warn;

/// How much of an endpoint's own words is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// An endpoint's account of what went wrong, for the log.
#[derive(Debug)]
pub(crate) struct EndpointError {
    /// The response's status; none if the error came within an answer.
    status: Option<StatusCode>,
    message: String,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{}: {}", status.as_u16(), self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Error for EndpointError {}

/// An error as endpoints spell it: most of them like OpenAI, each with its own omissions.
#[derive(Debug, Default)]
struct Reported {
    message: String,
    kind: String,
    /// A number (the status) or a name.
    code: String,
}

/// What a response with a status other than 2xx means.
pub(crate) fn of_response(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    api_key: &SecretString,
) -> ProviderError {
    let reported = match serde_json::from_slice::<Value>(body) {
        Ok(body) => Reported::read(body.get("error").unwrap_or(&body)),
        Err(_) => Reported {
            message: String::from_utf8_lossy(body).into_owned(),
            ..Reported::default()
        },
    };
    let cause = reported.cause(Some(status), api_key);
    match status.as_u16() {
        429 if reported.is_about_money() => ProviderError::Refused(cause),
        429 => ProviderError::RateLimited {
            retry_after: retry_after(headers),
        },
        408 | 409 | 425 | 500.. => ProviderError::Unavailable(cause),
        _ => ProviderError::Refused(cause),
    }
}

/// What an error in the middle of an answer means.
pub(crate) fn of_event(error: &Value, api_key: &SecretString) -> ProviderError {
    let reported = Reported::read(error);
    let cause = reported.cause(None, api_key);
    match (reported.code.as_str(), reported.kind.as_str()) {
        _ if reported.is_about_money() => ProviderError::Refused(cause),
        ("429" | "rate_limit_exceeded", _) => rate_limited(&*cause, None),
        ("400" | "401" | "403" | "404" | "413" | "422", _) | (_, "invalid_request_error") => {
            ProviderError::Refused(cause)
        }
        _ => ProviderError::Unavailable(cause),
    }
}

/// The engine receives the delay; which of its limits the endpoint means is only in the log, for
/// operators.
fn rate_limited(
    cause: &(dyn Error + Send + Sync + 'static),
    retry_after: Option<Duration>,
) -> ProviderError {
    warn!(error = %cause, "the model's endpoint limits our rate");
    ProviderError::RateLimited { retry_after }
}

impl Reported {
    fn read(error: &Value) -> Self {
        let Value::Object(fields) = error else {
            return Self {
                message: text(Some(error)),
                ..Self::default()
            };
        };
        let message = ["message", "detail", "error"]
            .iter()
            .find_map(|name| fields.get(*name));
        Self {
            message: message.map_or_else(|| error.to_string(), |message| text(Some(message))),
            kind: text(fields.get("type")),
            code: text(fields.get("code").or_else(|| fields.get("status"))),
        }
    }

    /// Whether the account has nothing left to pay with. OpenAI answers 429 then, too, but waiting
    /// does not help.
    fn is_about_money(&self) -> bool {
        [self.kind.as_str(), self.code.as_str()].contains(&"insufficient_quota")
    }

    fn cause(&self, status: Option<StatusCode>, api_key: &SecretString) -> BoxError {
        let mut message = self.message.clone();
        for detail in [&self.kind, &self.code] {
            if !detail.is_empty() {
                message.extend([" (", detail, ")"]);
            }
        }
        Box::new(EndpointError {
            status,
            message: fit_for_log(&message, api_key),
        })
    }
}

/// What a field says, without quotes if it is a string.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Without our key, which some endpoints repeat, without control characters, and not too long.
fn fit_for_log(message: &str, api_key: &SecretString) -> String {
    let key = api_key.expose_secret();
    let message = if key.is_empty() {
        message.to_owned()
    } else {
        message.replace(key, "***")
    };
    let words = message.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(MESSAGE_CHARS_MAX).collect()
}

/// How long to wait, from `Retry-After` in seconds or as a date, or from OpenAI's finer
/// `retry-after-ms`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
    if let Some(milliseconds) = text("retry-after-ms").and_then(seconds) {
        return Some(milliseconds / 1000);
    }
    let value = text(RETRY_AFTER.as_str())?;
    seconds(value).or_else(|| {
        // By the endpoint's own clock, since ours may differ.
        let then = http_date(value)?;
        let now = http_date(text(DATE.as_str())?)?;
        Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
    })
}

fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}
