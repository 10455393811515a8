//! Under which names the server answers, and which address it takes a client for.

use duologue_integration::{TestServer, process::ServerProcess, raw::exchange};

/// The status of a request for `target` with these headers.
async fn status(server: std::net::SocketAddr, target: &str, headers: &str) -> u16 {
    let request = format!("GET {target} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    let answer = exchange(server, request.as_bytes()).await;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.unwrap_or_else(|| panic!("{target} {headers:?} is answered {answer:?}"))
}

/// A page that points its own name at this machine is sent away from everything there is: pages,
/// the socket, health, and what does not exist.
#[tokio::test]
async fn on_loopback_a_foreign_name_is_refused_on_every_route() {
    let server = TestServer::start().await;
    let upgrade = "upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for target in [
        "/",
        "/demo/",
        "/demo/demo.js",
        "/healthz",
        "/readyz",
        "/v1/sessions/s?user_id=alice",
        "/ws/session/s?user_id=alice",
        "/nothing",
    ] {
        for host in ["evil.test", "evil.test:8000", "localhost.evil.test"] {
            // Such a page is of the same origin as what it asks, so the origin tells nothing.
            let headers = format!("host: {host}\r\norigin: http://{host}\r\n{upgrade}");
            assert_eq!(
                status(server.address(), target, &headers).await,
                421,
                "{target}"
            );
        }
        for host in ["localhost:1", "127.0.0.1", "[::1]:9000"] {
            let headers = format!("host: {host}\r\n");
            let found = status(server.address(), target, &headers).await;
            assert_ne!(found, 421, "{target} as {host}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_name_that_is_allowed_is_answered_and_its_pages_are_our_own() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SERVER__HOSTS_ALLOWED", "chat.example.com")
        .start()
        .await;
    let own = "host: chat.example.com\r\norigin: https://chat.example.com\r\n";
    assert_eq!(status(server.address(), "/healthz", own).await, 200);
    let other = "host: chat.example.com\r\norigin: https://other.example.com\r\n";
    assert_eq!(status(server.address(), "/healthz", other).await, 403);
    server.stop().await;
}

/// Where two programs could read two different servers or pages out of a request, it is refused.
#[tokio::test]
async fn a_request_bears_one_name_and_one_origin() {
    let server = TestServer::start().await;
    let address = server.address();
    for headers in [
        "",
        "host: localhost\r\nhost: localhost\r\n",
        "host: localhost\r\nhost: evil.test\r\n",
        "host: localhost, evil.test\r\n",
        "host: evil.test@localhost\r\n",
    ] {
        assert_eq!(
            status(address, "/healthz", headers).await,
            400,
            "{headers:?}"
        );
    }
    let absolute = "http://evil.test/healthz";
    assert_eq!(status(address, absolute, "host: localhost\r\n").await, 400);
    let origins = "host: localhost\r\norigin: http://localhost\r\norigin: http://localhost\r\n";
    assert_eq!(status(address, "/healthz", origins).await, 403);
    server.stop().await;
}

/// The address in the log is the proxy's unless the proxy is trusted, and then what it says.
#[tokio::test]
async fn a_forwarded_address_is_believed_only_from_a_trusted_proxy() {
    for (proxies, expected) in [
        ("", "127.0.0.1"),
        ("10.0.0.0/8", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9"),
        ("10.0.0.0/8,127.0.0.0/8", "203.0.113.9"),
    ] {
        let server = ServerProcess::start_with(&[
            ("DUOLOGUE_SERVER__PROXIES_TRUSTED", proxies),
            ("DUOLOGUE_LOG__FILTER", "debug"),
        ])
        .await;
        // A client made up the first; the proxy added the second.
        let forwarded = "host: localhost\r\nx-forwarded-for: 198.51.100.1, 203.0.113.9\r\n";
        assert_eq!(status(server.address(), "/healthz", forwarded).await, 200);
        let is_logged = |log: &str| log.contains("request.answered");
        let log = server.log_until(is_logged).await;
        let entry = log
            .lines()
            .find(|line| line.contains("request.answered"))
            .expect("it is logged");
        let address = format!(r#""client.address":"{expected}""#);
        assert!(entry.contains(&address), "{proxies:?}: {entry}");
        server.kill().await;
    }
}
