//! A handshake that the server refused by an HTTP response.

use std::{fmt, time::Duration};

use serde::Deserialize;
use tokio_tungstenite::tungstenite::http::{Response, header::RETRY_AFTER};

use crate::close::AfterClose;

/// The longest part of a foreign response body that is shown, in characters.
const BODY_CHARS_MAX: usize = 200;

/// Why a server refused a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error's stable code, such as `session_not_found`. Absent where the response was not sent by a
    /// Duologue server, or has no body.
    pub code: Option<String>,
    /// A sentence for people.
    pub message: Option<String>,
    /// How long to wait before the next attempt.
    pub retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct Body {
    error: BodyError,
}

#[derive(Deserialize)]
struct BodyError {
    code: String,
    message: String,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

impl Refusal {
    /// Reads a response to a handshake.
    pub fn read(response: &Response<Option<Vec<u8>>>) -> Self {
        let body = response.body().as_deref().unwrap_or_default();
        let header = response.headers().get(RETRY_AFTER);
        let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
        let after_seconds = seconds.map(Duration::from_secs);
        let status = response.status().as_u16();
        match serde_json::from_slice(body) {
            Ok(Body { error }) => Self {
                status,
                code: Some(error.code),
                message: Some(error.message),
                // More exact than the header's whole seconds.
                retry_after: error
                    .retry_after_ms
                    .map(Duration::from_millis)
                    .or(after_seconds),
            },
            Err(_foreign) => Self {
                status,
                code: None,
                message: shown(body),
                retry_after: after_seconds,
            },
        }
    }

    /// What the client does next. After a status from 400 to 499 it does not reconnect by itself,
    /// except after 408 and 429, which ask it to come later.
    pub fn next(&self) -> AfterClose {
        match self.status {
            401 => AfterClose::Reauthenticate,
            408 | 429 | 500..=599 => AfterClose::Reconnect,
            _ => AfterClose::GiveUp,
        }
    }
}

fn shown(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let shown: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(BODY_CHARS_MAX)
        .collect();
    let shown = shown.trim();
    // A page of HTML tells a person less than the status.
    (!shown.is_empty() && !shown.starts_with('<')).then(|| shown.to_owned())
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} (HTTP {})", self.status),
            None => write!(f, "the server answered with HTTP {}", self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, retry_after: Option<&str>, body: &str) -> Response<Option<Vec<u8>>> {
        let mut response = Response::builder().status(status);
        if let Some(value) = retry_after {
            response = response.header(RETRY_AFTER, value);
        }
        response.body(Some(body.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_refusal_has_the_servers_code_message_and_wait() {
        let body = r#"{"error":{"code":"busy","message":"too many","retryable":true,"retry_after_ms":1500}}"#;
        let refusal = Refusal::read(&response(503, Some("2"), body));
        assert_eq!(refusal.code.as_deref(), Some("busy"));
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(1500)));
        assert_eq!(refusal.to_string(), "too many (HTTP 503)");
    }

    #[test]
    fn a_response_of_something_else_has_no_code() {
        let refusal = Refusal::read(&response(503, Some("2"), ""));
        assert_eq!(
            (refusal.code.as_deref(), refusal.message.as_deref()),
            (None, None)
        );
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(2)));
        let page = Refusal::read(&response(404, None, "<html>\n<body>nginx</body></html>"));
        assert_eq!(page.to_string(), "the server answered with HTTP 404");
        let text = Refusal::read(&response(404, None, "no\n such\x1b page"));
        assert_eq!(text.to_string(), "no such page (HTTP 404)");
    }

    #[test]
    fn only_a_passing_refusal_is_tried_again() {
        let next = |status| Refusal::read(&response(status, None, "")).next();
        for status in [429, 408, 500, 502, 503] {
            assert_eq!(next(status), AfterClose::Reconnect, "{status}");
        }
        for status in [301, 400, 403, 404, 421, 426] {
            assert_eq!(next(status), AfterClose::GiveUp, "{status}");
        }
        assert_eq!(next(401), AfterClose::Reauthenticate);
    }
}
