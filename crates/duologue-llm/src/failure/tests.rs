//! Errors as endpoints really send them, and what the engine and the log receive.

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
