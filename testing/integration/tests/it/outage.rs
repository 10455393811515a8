//! A database that goes away in the middle of a conversation: what clients receive, and what is true
//! afterwards.

use std::time::Duration;

use duologue_integration::{
    Client, DEADLINE, TestServer, database_proxy::DatabaseProxy, postgres::Cluster,
    server::ServerBuilder,
};
use serde_json::json;
use tokio_tungstenite::tungstenite;

/// Longer than any test: the database does not answer until the delay is taken back.
const AWAY: Duration = Duration::from_mins(10);

/// A server with little patience, and the way to its database.
async fn builder() -> (ServerBuilder, DatabaseProxy) {
    let database = Cluster::get().await.database().await;
    let proxy = DatabaseProxy::start(database).await;
    let builder = TestServer::builder()
        .set("DATABASE_URL", &proxy.url())
        .set("DUOLOGUE_STORE__STATEMENT_TIMEOUT", "500ms")
        .set("DUOLOGUE_SESSION__ATTACH_TIMEOUT", "500ms")
        .without_file();
    (builder, proxy)
}

/// Tries until the server's connections to the database are sound again.
async fn let_in(url: &str) -> Client {
    let trying = async {
        loop {
            match Client::try_open(url).await {
                Ok(client) => return client,
                Err(tungstenite::Error::Http(refused)) => assert_eq!(refused.status(), 503),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let let_in = tokio::time::timeout(DEADLINE, trying).await;
    let_in.expect("the database is back")
}

/// What becomes of the write that was on its way when the database went is unknown. It is repeated,
/// and has effect once.
#[tokio::test]
async fn clients_are_told_that_the_database_is_away_and_that_it_is_back() {
    let (builder, proxy) = builder().await;
    let server = builder.start().await;
    let mut client = server.connect("s", "alice").await;
    client.ask("mock:words=3 before").await;
    proxy.delay(AWAY);
    client
        .send_json(json!({ "message": "mock:words=3 meanwhile", "id": "m1" }))
        .await;
    assert_eq!(client.receive().await["type"], "degraded");
    client.send_json(json!({ "type": "ping" })).await;
    assert_eq!(client.receive().await["type"], "pong");
    client
        .send_json(json!({ "message": "and this", "id": "m2" }))
        .await;
    let refused = client.receive().await;
    assert_eq!(refused["code"], "storage_unavailable");
    assert_eq!(refused["id"], "m2");

    proxy.delay(Duration::ZERO);
    assert_eq!(client.receive().await["type"], "recovered");
    let answer = client.answer().await;
    assert_eq!(answer.done["finish_reason"], "stop");
    let mut again = server.resume("s", "alice", 0).await;
    again.until("replayed").await;
    let said = again.seen.iter().filter(|frame| frame["id"] == "m1");
    assert_eq!(said.count(), 1);
    server.stop().await;
}

/// The outage lasts longer than the session's patience. The client receives which turn it cost, and
/// a client that connects meanwhile is refused before the upgrade. Afterwards the turn is closed.
#[tokio::test]
async fn an_outage_that_lasts_too_long_costs_the_turn_and_not_the_session() {
    let (builder, proxy) = builder().await;
    let server = builder
        .set("DUOLOGUE_SESSION__STORAGE_RETRY_TIMEOUT", "2s")
        .start()
        .await;
    let mut client = server.connect("s", "alice").await;
    client.send("mock:words=20 mock:delay_ms=20 hello").await;
    client.until("token").await;
    proxy.delay(AWAY);
    let (code, _) = client.until_closed().await;
    assert_eq!(code, 1013);
    let told: Vec<_> = client
        .seen
        .iter()
        .filter(|frame| ["degraded", "error", "done"].contains(&frame["type"].as_str().unwrap()))
        .collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(told[0]["reason"], "storage");
    assert_eq!(told[1]["code"], "storage_unavailable");
    assert_eq!(told[1]["turn_id"], "turn-1");
    let refused = Client::try_open(&server.socket_url("s", "?user_id=alice")).await;
    let Err(tungstenite::Error::Http(response)) = refused else {
        panic!("nobody can be let in");
    };
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));

    proxy.delay(Duration::ZERO);
    let url = server.socket_url("s", "?user_id=alice&after=0");
    let mut again = let_in(&url).await;
    let done = again.until("done").await;
    assert_eq!(done["finish_reason"], "interrupted");
    again.until("replayed").await;
    assert_eq!(
        again.ask("mock:words=3 again").await.done["finish_reason"],
        "stop"
    );
    server.stop().await;
}
