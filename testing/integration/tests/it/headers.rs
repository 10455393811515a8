//! What every response bears, whatever was asked and however it went.

use std::collections::HashSet;

use duologue_integration::{TestServer, process::ServerProcess, server::http};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

/// A path of every route, and of none.
const PATHS: [&str; 9] = [
    "/",
    "/demo",
    "/demo/",
    "/demo/demo.js",
    "/demo/nothing.js",
    "/v1/sessions/none?user_id=alice",
    "/ws/session/s?user_id=alice",
    "/healthz",
    "/readyz",
];

/// Requests that every route refuses, or answers in another way.
const WRONG: [&str; 5] = [
    "/nothing",
    "/v1/sessions/%ff",
    "/v1/sessions/none?user_id=%00",
    "/v1/sessions/none?user_id=a&user_id=b",
    "/ws/session/%ff",
];

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().expect("our headers are ASCII"))
}

/// Looks at what must hold for every response, and returns its request id.
fn check(response: &Response, what: &str) -> String {
    assert_eq!(
        header(response, "x-content-type-options"),
        "nosniff",
        "{what}"
    );
    assert_eq!(header(response, "referrer-policy"), "no-referrer", "{what}");
    assert_eq!(header(response, "x-frame-options"), "DENY", "{what}");
    let policy = header(response, "content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{what}: {policy}");
    assert!(
        policy.contains("frame-ancestors 'none'"),
        "{what}: {policy}"
    );
    let caching = header(response, "cache-control");
    // The pages are the same for everybody, and asked for again each time.
    let is_page = response.url().path() == "/" || response.url().path().starts_with("/demo");
    assert!(
        caching == "no-store" || (is_page && caching == "no-cache"),
        "{what}: {caching}"
    );
    for telling in ["server", "x-powered-by", "via"] {
        assert_eq!(
            header(response, telling),
            "",
            "{what} tells what it is made of"
        );
    }
    let id = header(response, "x-request-id").to_owned();
    assert!(
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{what}: {id}"
    );
    id
}

/// All routes with all methods, refusals included: strict headers, an id of each request's own,
/// and errors that are a code and a sentence and nothing else.
#[tokio::test]
async fn every_response_is_strict_and_named_whatever_was_asked() {
    let server = TestServer::start().await;
    let mut ids = HashSet::new();
    let methods = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW",
    ];
    for path in PATHS.into_iter().chain(WRONG) {
        for method in methods {
            for (name, value) in [
                ("accept", "text/html"),
                ("origin", "https://evil.test"),
                ("host", "evil.test"),
            ] {
                let what = format!("{method} {path} with {name}: {value}");
                let method = Method::from_bytes(method.as_bytes()).expect("it is a word");
                let request = http().request(method.clone(), server.url(path));
                let response = request
                    .header(name, value)
                    .send()
                    .await
                    .expect("it is answered");
                assert!(
                    ids.insert(check(&response, &what)),
                    "two requests share an id"
                );
                let status = response.status();
                assert!(!status.is_server_error(), "{what}: {status}");
                if status.is_client_error() && method != Method::HEAD {
                    refusal(response, &what).await;
                }
            }
        }
    }
    server.stop().await;
}

async fn refusal(response: Response, what: &str) {
    let status = response.status();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        assert_ne!(header(&response, "allow"), "", "{what}");
    }
    let body: Value = response
        .json()
        .await
        .unwrap_or_else(|error| panic!("{what}: {status} without a code: {error}"));
    let mut keys: Vec<_> = body["error"].as_object().expect(what).keys().collect();
    keys.sort();
    assert_eq!(keys, ["code", "message", "retryable"], "{what}");
    assert_eq!(
        body.as_object().map(serde_json::Map::len),
        Some(1),
        "{what}"
    );
}

/// By the id in a response, the request is found in the log.
#[tokio::test]
async fn the_log_knows_a_request_by_the_id_that_its_client_was_told() {
    let server = ServerProcess::start_with(&[("DUOLOGUE_LOG__FILTER", "debug")]).await;
    let url = format!("http://{}/nothing", server.address());
    let response = http().get(url).send().await.unwrap();
    let id = header(&response, "x-request-id").to_owned();
    let entry = format!(r#""request.id":"{id}""#);
    server.log_until(|log| log.contains(&entry)).await;
    server.kill().await;
}
