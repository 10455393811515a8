//! The ways a token may come, and those it may not.

use duologue_integration::{TestServer, server::http};
use serde_json::json;

use super::{by_keys, connect, connect_as, get, scene};

#[tokio::test]
async fn a_token_comes_by_header_or_by_subprotocol_and_names_the_user() {
    let (key, issuer, server) = scene().await;
    let token = key.sign(&issuer.claims("alice"));
    let mut by_header = connect_as(&server, "one", &token).await.unwrap();
    assert_eq!(by_header.until("session_started").await["user_id"], "alice");
    assert_eq!(by_header.protocol, None);

    let offered = format!("duologue, duologue.bearer.{token}");
    let offered = [("sec-websocket-protocol", offered.as_str())];
    let mut by_protocol = connect(&server, "two", "?user_id=alice", &offered)
        .await
        .unwrap();
    assert_eq!(
        by_protocol.protocol.as_deref(),
        Some("duologue"),
        "and not the token"
    );
    assert_eq!(
        by_protocol.until("session_started").await["user_id"],
        "alice"
    );
    by_protocol.ask("hello").await;
    assert_eq!(get(&server, "/v1/sessions/two", Some(&token)).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_user_id_that_is_not_the_tokens_is_refused() {
    let (key, issuer, server) = scene().await;
    let token = key.sign(&issuer.claims("alice"));
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let refused = connect(&server, "s", "?user_id=bob", &headers).await;
    assert_eq!(refused.err(), Some(403));
    let (status, body) = get(&server, "/v1/sessions/s?user_id=bob", Some(&token)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (403, &"bad_request".into())
    );
    // A second one beside it does not help.
    let twice = "/v1/sessions/s?user_id=alice&user_id=bob";
    assert_eq!(get(&server, twice, Some(&token)).await.0, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_token_in_the_query_counts_only_where_that_is_switched_on() {
    let (key, issuer, server) = scene().await;
    let token = key.sign(&issuer.claims("alice"));
    let query = format!("?token={token}");
    assert_eq!(connect(&server, "s", &query, &[]).await.err(), Some(401));
    server.stop().await;

    let server = by_keys(&issuer)
        .set("DUOLOGUE_AUTH__QUERY_TOKEN", "true")
        .start()
        .await;
    let mut client = connect(&server, "s", &query, &[]).await.unwrap();
    assert_eq!(client.until("session_started").await["user_id"], "alice");
    // Two tokens are one too many, even if both are good.
    let bearer = format!("Bearer {token}");
    let both = connect(&server, "s", &query, &[("authorization", &bearer)]).await;
    assert_eq!(both.err(), Some(401));
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_says_how_to_authenticate() {
    let (_key, _issuer, server) = scene().await;
    let client = http();
    let url = server.url("/v1/sessions/s");
    let missing = client.get(&url).send().await.unwrap();
    assert_eq!(missing.headers()["www-authenticate"], "Bearer");
    let wrong = client.get(&url).bearer_auth("x").send().await.unwrap();
    let how = &wrong.headers()["www-authenticate"];
    assert_eq!(how, "Bearer error=\"invalid_token\"");
    let basic = client.get(&url).basic_auth("alice", Some("x")).send();
    assert_eq!(basic.await.unwrap().status(), 401);
    server.stop().await;
}

/// As a browser's WebSocket does that offers no subprotocol: the socket opens, and nothing else.
#[tokio::test]
async fn a_token_may_be_the_first_frame() {
    let (key, issuer, server) = scene().await;
    let token = key.sign(&issuer.claims("alice"));
    let mut client = connect(&server, "s", "", &[]).await.unwrap();
    let required = client.receive().await;
    assert_eq!(
        required,
        json!({ "type": "auth_required", "timeout_ms": 10_000 })
    );
    client
        .send_json(json!({ "type": "auth", "token": token }))
        .await;
    let ok = client.receive().await;
    assert_eq!(
        (&ok["type"], &ok["user_id"]),
        (&"auth_ok".into(), &"alice".into())
    );
    assert_eq!(client.receive().await["type"], "session_started");
    client.ask("hello").await;
    server.stop().await;
}

/// What the first frame is, if it is not a good token, and what becomes of the connection then.
#[tokio::test]
async fn a_first_frame_without_a_good_token_closes_the_connection() {
    let (key, issuer, server) = scene().await;
    let bob = key.sign(&issuer.claims("bob"));
    let mut owner = connect_as(&server, "alices", &key.sign(&issuer.claims("alice")))
        .await
        .unwrap();
    owner.until("session_started").await;
    let auth = |token: &str| json!({ "type": "auth", "token": token }).to_string();
    for (session, query, frame, code, close) in [
        ("s", "", "hello".to_owned(), "unauthorized", 4401),
        (
            "s",
            "",
            r#"{"type":"cancel"}"#.to_owned(),
            "unauthorized",
            4401,
        ),
        (
            "s",
            "",
            "{\"type\":\"auth\"}".to_owned(),
            "unauthorized",
            4401,
        ),
        ("s", "", auth("x"), "unauthorized", 4401),
        ("s", "?user_id=alice", auth(&bob), "bad_request", 4401),
        ("alices", "", auth(&bob), "session_not_found", 4404),
    ] {
        let mut client = connect(&server, session, query, &[]).await.unwrap();
        client.until("auth_required").await;
        client.send(&frame).await;
        let error = client.until("error").await;
        assert_eq!(error["code"], code, "{frame:.40}");
        assert_eq!(client.until_closed().await.0, close, "{frame:.40}");
    }
    let alice = key.sign(&issuer.claims("alice"));
    assert_eq!(get(&server, "/v1/sessions/s", Some(&bob)).await.0, 404);
    assert_eq!(get(&server, "/v1/sessions/s", Some(&alice)).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for_and_few_may_wait() {
    let (key, issuer, _) = scene().await;
    let server = by_keys(&issuer)
        .set("DUOLOGUE_AUTH__TIMEOUT", "300ms")
        .set("DUOLOGUE_AUTH__WAITING_MAX", "1")
        .start()
        .await;
    let mut silent = connect(&server, "s", "", &[]).await.unwrap();
    assert_eq!(connect(&server, "s", "", &[]).await.err(), Some(503));
    // A client with a token in the handshake does not have to wait for a place.
    let token = key.sign(&issuer.claims("alice"));
    let mut client = connect_as(&server, "s", &token).await.unwrap();
    client.until("session_started").await;
    assert_eq!(silent.until("error").await["code"], "unauthorized");
    assert_eq!(silent.until_closed().await.0, 4401);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_who_has_not_said_who_they_are() {
    let (_key, _issuer, server) = scene().await;
    let mut silent = connect(&server, "s", "", &[]).await.unwrap();
    silent.until("auth_required").await;
    let stopping = server.stop();
    let (_, (code, _)) = tokio::join!(stopping, silent.until_closed());
    assert_eq!(code, 1012);
}

/// Where nobody is asked, a token is nothing but noise, and `auth` is refused as it was.
#[tokio::test]
async fn without_authentication_tokens_change_nothing() {
    let server = TestServer::start().await;
    let headers = [("authorization", "Bearer whatever")];
    let mut client = connect(&server, "s", "?user_id=alice", &headers)
        .await
        .unwrap();
    assert_eq!(client.until("session_started").await["user_id"], "alice");
    client
        .send_json(json!({ "type": "auth", "token": "x" }))
        .await;
    assert_eq!(client.until("error").await["code"], "unsupported");
    server.stop().await;
}

/// A browser asks before it sends a token across origins; those that are allowed may.
#[tokio::test]
async fn pages_of_allowed_origins_may_send_a_token() {
    let (key, issuer, _) = scene().await;
    let page = "https://app.example.com";
    let server = by_keys(&issuer)
        .set("DUOLOGUE_SERVER__ORIGINS_ALLOWED", page)
        .start()
        .await;
    let url = server.url("/v1/sessions/s");
    let ask = |origin: &'static str| {
        let request = http().request(reqwest::Method::OPTIONS, &url);
        let request = request.header("access-control-request-headers", "authorization");
        request.header("origin", origin).send()
    };
    let allowed = ask(page).await.unwrap();
    assert_eq!(allowed.status(), 204);
    assert_eq!(allowed.headers()["access-control-allow-origin"], page);
    assert_eq!(
        allowed.headers()["access-control-allow-headers"],
        "authorization"
    );
    let foreign = ask("https://evil.test").await.unwrap();
    assert_eq!(foreign.status(), 403);
    assert!(
        !foreign
            .headers()
            .contains_key("access-control-allow-headers")
    );
    let token = key.sign(&issuer.claims("alice"));
    let answer = http()
        .get(&url)
        .header("origin", page)
        .bearer_auth(token)
        .send();
    assert_eq!(answer.await.unwrap().status(), 404);
    server.stop().await;
}
