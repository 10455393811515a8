//! Floods of each limited kind. The flood is refused early and told when to come back, and an honest
//! client beside it notices nothing.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test may fail it as the test itself may"
)]

use std::time::Duration;

use duologue_integration::{Client, DEADLINE, ServerBuilder, TestServer, server::http};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

fn limited(settings: &[(&str, &str)]) -> ServerBuilder {
    settings
        .iter()
        .fold(TestServer::builder(), |builder, (name, value)| {
            builder.set(&format!("DUOLOGUE_LIMITS__{name}"), value)
        })
}

/// A server that believes the tests, as proxies, where their clients are.
fn behind_proxies(builder: ServerBuilder) -> ServerBuilder {
    builder.set("DUOLOGUE_SERVER__PROXIES_TRUSTED", "[\"127.0.0.1\"]")
}

/// Connects a user of a session of the same name, from an address.
async fn connect_from(server: &TestServer, address: &str, name: &str) -> Result<Client, Refusal> {
    let url = server.socket_url(name, &format!("?user_id={name}"));
    let mut request = url.into_client_request().expect("the URL is right");
    let address = address.parse().expect("an address is a header's value");
    request.headers_mut().insert("x-forwarded-for", address);
    refused_or(Client::try_open_with(request).await)
}

async fn connect(server: &TestServer, session: &str, user: &str) -> Result<Client, Refusal> {
    let url = server.socket_url(session, &format!("?user_id={user}"));
    refused_or(Client::try_open(&url).await)
}

/// A handshake that was answered by a status.
#[derive(Debug)]
struct Refusal {
    status: u16,
    retry_after: Option<String>,
    body: Value,
}

impl Refusal {
    #[track_caller]
    fn assert_too_many(&self) {
        assert_eq!(self.status, 429, "{self:?}");
        let error = &self.body["error"];
        assert_eq!(error["code"], "too_many_requests");
        assert_eq!(error["retryable"], true);
        let wait = error["retry_after_ms"].as_u64().expect("it says when");
        let seconds: u64 = self.retry_after.as_ref().unwrap().parse().unwrap();
        assert!(seconds >= 1 && seconds * 1000 >= wait, "{self:?}");
    }
}

fn refused_or(opened: Result<Client, tungstenite::Error>) -> Result<Client, Refusal> {
    opened.map_err(|error| {
        let tungstenite::Error::Http(response) = error else {
            panic!("neither let in nor refused: {error}");
        };
        let retry_after = response.headers().get("retry-after");
        let body = response.body().as_deref().unwrap_or_default();
        Refusal {
            status: response.status().as_u16(),
            retry_after: retry_after.map(|value| value.to_str().unwrap().to_owned()),
            body: serde_json::from_slice(body).unwrap_or_default(),
        }
    })
}

/// Asks for something, and is answered within the time that an honest client waits without a thought.
async fn is_served(client: &mut Client) {
    let answer = tokio::time::timeout(DEADLINE, client.ask("mock:words=5")).await;
    assert_eq!(
        answer.expect("it is answered").done["finish_reason"],
        "stop"
    );
}

/// Two hundred handshakes from one address; somebody at another comes and goes meanwhile, and who was
/// there before is served.
#[tokio::test]
async fn a_flood_of_handshakes_is_refused_for_its_address_only() {
    let server = behind_proxies(limited(&[
        ("ADDRESS__HANDSHAKES_PER_SECOND", "1"),
        ("ADDRESS__HANDSHAKES_BURST", "5"),
    ]))
    .start()
    .await;
    let mut honest = connect_from(&server, "198.51.100.7", "honest")
        .await
        .unwrap();
    let mut refused = 0;
    for number in 0..200 {
        match connect_from(&server, "203.0.113.9", &format!("flood{number}")).await {
            Ok(client) => client.close(1000).await,
            Err(refusal) => {
                refusal.assert_too_many();
                refused += 1;
            }
        }
    }
    assert!(refused > 150, "{refused}");
    is_served(&mut honest).await;
    drop(
        connect_from(&server, "198.51.100.8", "newcomer")
            .await
            .unwrap(),
    );
    // Other routes about sessions are counted with them, and health is not. On a slow machine some may be
    // allowed again by now.
    let mut statuses = Vec::new();
    while !statuses.contains(&429) {
        assert!(statuses.len() < 100, "{statuses:?}");
        let facts = http()
            .get(server.url("/v1/sessions/honest?user_id=honest"))
            .header("x-forwarded-for", "203.0.113.9");
        statuses.push(facts.send().await.unwrap().status().as_u16());
    }
    let health = http().get(server.url("/healthz")).send().await.unwrap();
    assert_eq!(health.status(), 200);
    server.stop().await;
}

/// One subscriber has more IPv6 addresses than anybody could count.
#[tokio::test]
async fn a_household_counts_as_one_address() {
    let server = behind_proxies(limited(&[
        ("ADDRESS__HANDSHAKES_PER_SECOND", "1"),
        ("ADDRESS__HANDSHAKES_BURST", "2"),
    ]))
    .start()
    .await;
    // Each address is new, so alone it would be far from the limit.
    let mut refused = None;
    for number in 0..100 {
        let address = format!("2001:db8:1:2:{number:x}:4:5:6");
        if let Err(refusal) = connect_from(&server, &address, &format!("s{number}")).await {
            refused = Some(refusal);
            break;
        }
    }
    refused.expect("one is refused").assert_too_many();
    connect_from(&server, "2001:db8:1:3::1", "next_door")
        .await
        .unwrap();
    server.stop().await;
}

/// Silent connections are refused beyond their few places, while those that are attached to sessions
/// have more.
#[tokio::test]
async fn silent_connections_leave_room_for_those_that_work() {
    let server = limited(&[
        ("ADDRESS__CONNECTIONS_MAX", "10"),
        ("ADDRESS__UNATTACHED_MAX", "3"),
    ])
    .start()
    .await;
    let mut attached = Vec::new();
    for number in 0..5 {
        attached.push(
            connect(&server, &format!("s{number}"), "alice")
                .await
                .unwrap(),
        );
    }
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    for _ in 0..50 {
        let mut refused = TcpStream::connect(server.address()).await.unwrap();
        let mut answer = String::new();
        let reading = tokio::time::timeout(DEADLINE, refused.read_to_string(&mut answer));
        reading.await.expect("it is closed").unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("it is an answer");
        assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())),
            "{head}"
        );
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], "too_many_requests");
        assert_eq!(body["error"]["retry_after_ms"], 5000);
    }
    for client in &mut attached {
        is_served(client).await;
    }
    // Places that become free are given again.
    drop(silent);
    let again = async {
        while connect(&server, "again", "alice").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again)
        .await
        .expect("there is room");
    server.stop().await;
}

/// Connections through a proxy count for their clients, not for the proxy.
#[tokio::test]
async fn a_proxy_is_not_its_clients() {
    let server = behind_proxies(limited(&[("ADDRESS__CONNECTIONS_MAX", "2")]))
        .start()
        .await;
    let _a = connect_from(&server, "203.0.113.9", "a").await.unwrap();
    let _b = connect_from(&server, "203.0.113.9", "b").await.unwrap();
    let refused = connect_from(&server, "203.0.113.9", "c").await;
    refused.expect_err("it is refused").assert_too_many();
    let _d = connect_from(&server, "203.0.113.10", "d").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_user_has_so_many_sockets_and_sessions_and_no_more() {
    let server = limited(&[("USER__SOCKETS_MAX", "3"), ("USER__SESSIONS_MAX", "2")])
        .start()
        .await;
    let one = connect(&server, "one", "alice").await.unwrap();
    let _two = connect(&server, "two", "alice").await.unwrap();
    let third_session = connect(&server, "three", "alice").await;
    third_session.expect_err("it is refused").assert_too_many();
    let _tab = connect(&server, "two", "alice").await.unwrap();
    let fourth_socket = connect(&server, "two", "alice").await;
    fourth_socket.expect_err("it is refused").assert_too_many();
    let mut bob = connect(&server, "bobs", "bob").await.unwrap();
    is_served(&mut bob).await;
    one.close(1000).await;
    let again = async {
        while connect(&server, "three", "alice").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again)
        .await
        .expect("there is room");
    server.stop().await;
}

/// A connection that sends without end receives an error, and is then closed with a code of its own. A ping, a
/// frame that cannot be read and a message all count.
#[tokio::test]
async fn a_connection_that_floods_is_refused_and_then_closed() {
    let server = limited(&[
        ("CONNECTION__FRAMES_PER_MINUTE", "60"),
        ("CONNECTION__FRAMES_BURST", "5"),
        ("CONNECTION__REFUSALS_MAX", "10"),
    ])
    .start()
    .await;
    let mut honest = connect(&server, "honest", "bob").await.unwrap();
    for flood in ["{\"type\":\"ping\"}", "{\"type\":", "a message"] {
        let mut client = connect(&server, "flood", "mallory").await.unwrap();
        for _ in 0..15 {
            client.send(flood).await;
        }
        let (code, _) = client.until_closed().await;
        assert_eq!(code, 4029, "{flood}");
        let refused = client
            .seen
            .iter()
            .filter(|frame| frame["code"] == "too_many_requests");
        let refused: Vec<_> = refused.collect();
        assert_eq!(refused.len(), 10, "{flood}");
        for frame in refused {
            assert!(
                frame["retry_after_ms"]
                    .as_u64()
                    .is_some_and(|wait| wait <= 60_000)
            );
        }
    }
    is_served(&mut honest).await;
    server.stop().await;
}

/// The connection stays open where the client waits as requested.
#[tokio::test]
async fn who_waits_as_told_is_served() {
    let server = limited(&[
        ("CONNECTION__FRAMES_PER_MINUTE", "600"),
        ("CONNECTION__FRAMES_BURST", "1"),
    ])
    .start()
    .await;
    let mut client = connect(&server, "s", "alice").await.unwrap();
    client.until("client_connected").await;
    client.send_json(json!({"type": "ping"})).await;
    client
        .send_json(json!({"type": "message", "message": "hello", "id": "m1"}))
        .await;
    let refused = client.until("error").await;
    assert_eq!(refused["code"], "too_many_requests");
    assert_eq!(refused["id"], "m1");
    let wait = refused["retry_after_ms"].as_u64().expect("it says when");
    tokio::time::sleep(Duration::from_millis(wait + 1)).await;
    client
        .send_json(json!({"type": "message", "message": "hello", "id": "m1"}))
        .await;
    assert_eq!(client.answer().await.done["finish_reason"], "stop");
    server.stop().await;
}

/// Another tab is no other user.
#[tokio::test]
async fn a_users_messages_are_counted_over_all_tabs() {
    let server = limited(&[
        ("USER__MESSAGES_PER_MINUTE", "1"),
        ("USER__MESSAGES_BURST", "2"),
    ])
    .start()
    .await;
    for session in ["one", "two"] {
        let mut client = connect(&server, session, "alice").await.unwrap();
        is_served(&mut client).await;
    }
    let mut client = connect(&server, "three", "alice").await.unwrap();
    client.send("hello").await;
    assert_eq!(client.until("error").await["code"], "too_many_requests");
    let mut bob = connect(&server, "four", "bob").await.unwrap();
    is_served(&mut bob).await;
    server.stop().await;
}

/// What was spent is in the log, so that a restarted server counts it.
#[tokio::test]
async fn a_budget_of_a_day_survives_a_restart() {
    let server = limited(&[("TOKENS__USER_PER_DAY_MAX", "10")]).start().await;
    let mut client = connect(&server, "s", "alice").await.unwrap();
    let answer = client.ask("mock:words=50").await;
    assert!(answer.done["usage"]["output_tokens"].as_u64().unwrap() >= 10);
    let server = server.restart().await;
    for session in ["s", "another"] {
        let mut client = connect(&server, session, "alice").await.unwrap();
        client.send("hello").await;
        let refused = client.until("error").await;
        assert_eq!(refused["code"], "over_budget");
        assert_eq!(refused["retryable"], false);
        let wait = refused["retry_after_ms"].as_u64().expect("it says when");
        assert!(wait <= 24 * 3_600_000);
    }
    let mut bob = connect(&server, "bobs", "bob").await.unwrap();
    is_served(&mut bob).await;
    server.stop().await;
}
