//! What an endpoint's failure means for the engine: may it try again?

use std::{fmt, time::Duration};

use duologue_engine::{BoxError, provider::ProviderError};
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    StatusCode,
    header::{DATE, HeaderMap, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

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

impl std::error::Error for EndpointError {}

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
        ("429" | "rate_limit_exceeded", _) => ProviderError::RateLimited { retry_after: None },
        ("400" | "401" | "403" | "404" | "413" | "422", _) | (_, "invalid_request_error") => {
            ProviderError::Refused(cause)
        }
        _ => ProviderError::Unavailable(cause),
    }
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

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use serde_json::json;

    use super::*;

    const DATE_OF_RESPONSE: &str = "Sun, 06 Nov 1994 08:49:30 GMT";

    fn respond(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> ProviderError {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        of_response(status, &headers, body.as_bytes(), &"sk-secret-1234".into())
    }

    /// What the log will show.
    fn cause(error: &ProviderError) -> String {
        std::error::Error::source(error)
            .expect("it has a cause")
            .to_string()
    }

    #[test]
    fn a_status_decides_whether_to_try_again() {
        for status in [300, 307, 400, 401, 403, 404, 413, 422] {
            let error = respond(status, &[], "");
            assert!(matches!(error, ProviderError::Refused(_)), "{status}");
        }
        for status in [408, 409, 425, 500, 502, 503, 529] {
            let error = respond(status, &[], "");
            assert!(matches!(error, ProviderError::Unavailable(_)), "{status}");
        }
        assert!(matches!(
            respond(429, &[], ""),
            ProviderError::RateLimited { retry_after: None }
        ));
    }

    #[test]
    fn an_exhausted_account_is_not_asked_again() {
        let body = r#"{"error":{"message":"You exceeded your current quota.",
            "type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
        let error = respond(429, &[("retry-after", "1")], body);
        assert!(matches!(error, ProviderError::Refused(_)), "{error:?}");
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        type Headers = &'static [(&'static str, &'static str)];
        let table: &[(Headers, Option<Duration>)] = &[
            (&[("retry-after", "7")], Some(Duration::from_secs(7))),
            (&[("retry-after", "0.5")], Some(Duration::from_millis(500))),
            (
                &[("retry-after", "1"), ("retry-after-ms", "250")],
                Some(Duration::from_millis(250)),
            ),
            (
                &[
                    ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
                    ("date", DATE_OF_RESPONSE),
                ],
                Some(Duration::from_secs(7)),
            ),
            (
                &[
                    ("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT"),
                    ("date", DATE_OF_RESPONSE),
                ],
                Some(Duration::ZERO),
            ),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], None),
            (&[("retry-after", "soon"), ("date", DATE_OF_RESPONSE)], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "1e300")], None),
            (&[], None),
        ];
        for (headers, expected) in table {
            let ProviderError::RateLimited { retry_after } = respond(429, headers, "{}") else {
                panic!("429 is a rate limit");
            };
            assert_eq!(retry_after, *expected, "{headers:?}");
        }
    }

    #[test]
    fn the_endpoints_own_words_reach_the_log_however_it_puts_them() {
        let table = [
            (
                r#"{"error":{"message":"The model `x` does not exist","type":
                    "invalid_request_error","param":null,"code":"model_not_found"}}"#,
                "404: The model `x` does not exist (invalid_request_error) (model_not_found)",
            ),
            (
                r#"{"error":"model 'x' not found"}"#,
                "404: model 'x' not found",
            ),
            (
                r#"{"object":"error","message":"no such model","code":404}"#,
                "404: no such model (404)",
            ),
            (r#"{"detail":"Not Found"}"#, "404: Not Found"),
            (
                "<html>\r\n<h1>404</h1>\u{1b}[31m</html>",
                "404: <html> <h1>404</h1> [31m</html>",
            ),
            ("", "404: "),
        ];
        for (body, expected) in table {
            assert_eq!(cause(&respond(404, &[], body)), expected);
        }
        let long = respond(404, &[], &"x".repeat(10_000));
        assert_eq!(cause(&long).len(), MESSAGE_CHARS_MAX + "404: ".len());
    }

    #[test]
    fn our_key_never_reaches_the_log() {
        let body = r#"{"error":{"message":"Incorrect API key provided: sk-secret-1234."}}"#;
        assert_eq!(
            cause(&respond(401, &[], body)),
            "401: Incorrect API key provided: ***."
        );
    }

    #[test]
    fn an_error_within_an_answer_decides_by_what_it_says() {
        let of = |error: Value| of_event(&error, &"".into());
        for error in [
            json!({"message": "x", "code": 429}),
            json!({"message": "x", "code": "rate_limit_exceeded"}),
        ] {
            assert!(matches!(
                of(error),
                ProviderError::RateLimited { retry_after: None }
            ));
        }
        for error in [
            json!({"message": "x", "code": 400}),
            json!({"message": "x", "type": "invalid_request_error", "code": null}),
            json!({"message": "x", "type": "insufficient_quota", "code": 429}),
        ] {
            assert!(matches!(of(error), ProviderError::Refused(_)));
        }
        for error in [
            json!({"message": "The server had an error", "type": "server_error"}),
            json!({"message": "x", "code": 500}),
            json!({"message": "Overloaded", "type": "overloaded_error"}),
            json!("out of memory"),
            json!({}),
        ] {
            assert!(matches!(of(error), ProviderError::Unavailable(_)));
        }
        assert_eq!(cause(&of(json!("out of memory"))), "out of memory");
    }
}
