//! The HTTP side: pages, health, facts, refusals.

use duologue_integration::{Client, TestServer, server::http};
use serde_json::Value;

#[tokio::test]
async fn the_root_is_json_for_programs_and_a_page_for_browsers() {
    let server = TestServer::start().await;
    let root: Value = http()
        .get(server.url("/"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(root["name"], "duologue");
    let page = http()
        .get(server.url("/"))
        .header("accept", "text/html,*/*")
        .send()
        .await
        .unwrap();
    assert!(
        page.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    assert!(page.text().await.unwrap().contains("/demo/"));
    server.stop().await;
}

/// Pages bear a strict policy and revalidate by tag; API answers are never kept.
#[tokio::test]
async fn the_demo_is_served_with_a_strict_policy() {
    let server = TestServer::start().await;
    let page = http().get(server.url("/demo")).send().await.unwrap();
    assert_eq!((page.status().as_u16(), page.url().path()), (200, "/demo/"));
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let tag = page.headers()["etag"].clone();
    let again = http()
        .get(server.url("/demo/"))
        .header("if-none-match", tag)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), 304);
    for path in [
        "/demo/e2e/package.json",
        "/demo/../Cargo.toml",
        "/demo/nothing.js",
        "/nothing",
    ] {
        assert_eq!(
            http().get(server.url(path)).send().await.unwrap().status(),
            404,
            "{path}"
        );
    }
    let health = http().get(server.url("/healthz")).send().await.unwrap();
    assert_eq!(health.headers()["cache-control"], "no-store");
    assert_eq!(health.headers()["x-content-type-options"], "nosniff");
    assert_eq!(health.json::<Value>().await.unwrap()["status"], "ok");
    assert_eq!(
        http()
            .get(server.url("/readyz"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    server.stop().await;
}

/// What is wrong with a handshake is said before the upgrade, by status, code and sentence.
#[tokio::test]
async fn a_wrong_handshake_is_refused_with_a_sentence() {
    let server = TestServer::start().await;
    let long = format!("/ws/session/{}", "x".repeat(129));
    for (path, status) in [
        ("/ws/session/not%20allowed", 400),
        (long.as_str(), 400),
        ("/ws/session/ok?after=soon", 400),
        ("/ws/session/ok?after=1&log_id=a%20b", 400),
        ("/ws/session/ok?log_id=", 400),
        ("/ws/session/ok?frames=xml", 400),
        ("/ws/session/ok?user_id=%00", 400),
    ] {
        let request = http()
            .get(server.url(path))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "bad_request", "{path}");
        assert!(
            body["error"]["message"].as_str().unwrap().len() > 10,
            "{body}"
        );
    }
    let plain = http()
        .get(server.url("/ws/session/ok"))
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status(), 426);
    let missing = http()
        .get(server.url("/v1/sessions/none?user_id=alice"))
        .send()
        .await
        .unwrap();
    assert_eq!(missing.status(), 404);
    server.stop().await;
}

/// A page of another site is refused on the socket and on the API; an allowed one may read.
#[tokio::test]
async fn only_our_own_and_allowed_pages_may_use_the_server() {
    let server = TestServer::builder()
        .set(
            "DUOLOGUE_SERVER__ORIGINS_ALLOWED",
            "https://demo.example.org",
        )
        .start()
        .await;
    let get = |origin: &str| {
        http()
            .get(server.url("/v1/sessions/none"))
            .header("origin", origin.to_owned())
            .send()
    };
    assert_eq!(get("https://evil.test").await.unwrap().status(), 403);
    let allowed = get("https://demo.example.org").await.unwrap();
    assert_eq!(allowed.status(), 404);
    assert_eq!(
        allowed.headers()["access-control-allow-origin"],
        "https://demo.example.org"
    );
    let own = get(&format!("http://{}", server.address())).await.unwrap();
    assert_eq!(own.status(), 404);
    server.stop().await;
}

/// Goal: two different user ids never come to the same user. Method: bytes that are not UTF-8, which
/// a lenient decoder replaces by one character, in a query and in a path.
#[tokio::test]
async fn paths_and_queries_that_are_not_utf8_are_refused() {
    let server = TestServer::start().await;
    for target in [
        "/v1/sessions/s?user_id=%ff",
        "/v1/sessions/s?user_id=%fe",
        "/v1/sessions/s?user_id=alice&other=%ff",
        "/v1/sessions/%ff?user_id=alice",
        "/ws/session/s?user_id=%fe",
        "/healthz?%ff",
        "/demo/%ff",
        "/nothing/%ff",
    ] {
        let response = http().get(server.url(target)).send().await.unwrap();
        assert_eq!(response.status(), 400, "{target}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "bad_request", "{target}");
        let message = "the path and the query must be percent-encoded UTF-8";
        assert_eq!(body["error"]["message"], message, "{target}");
    }
    server.stop().await;
}

/// A query is read as HTML forms write it: `+` is a space, and `%2B` a plus.
#[tokio::test]
async fn a_plus_in_a_query_is_a_space() {
    let server = TestServer::start().await;
    let url = server.url("/ws/session/s?user_id=a+b");
    let mut client = Client::open(&url.replace("http://", "ws://")).await;
    client.ask("hello").await;
    for (user_id, expected) in [("a+b", 200), ("a%20b", 200), ("a%2Bb", 404)] {
        let url = server.url(&format!("/v1/sessions/s?user_id={user_id}"));
        let response = http().get(url).send().await.unwrap();
        assert_eq!(response.status(), expected, "{user_id}");
    }
    server.stop().await;
}
