//! Many sessions at once on a database that is not next door.

use std::time::Duration;

use duologue_integration::{Client, TestServer, database_proxy::DatabaseProxy, postgres::Cluster};
use futures_util::future::join_all;
use tokio::time::Instant;

/// What a round trip to the database takes.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// How late `done` may come after the last token. A session that waits for a connection which an
/// unpolled draft save holds waits for the statement timeout, which is longer.
const DONE_DELAY_MAX: Duration = Duration::from_secs(3);

/// The answers are long enough for each to save several drafts, and four times as many as there are
/// connections. So a draft save that keeps its connection while its session waits for one would
/// stop them all.
#[tokio::test]
async fn more_answers_than_connections_on_a_database_20_ms_away_all_end_in_time() {
    let database = Cluster::get().await.database().await;
    let proxy = DatabaseProxy::start(database).await;
    proxy.delay(ROUND_TRIP);
    let server = TestServer::builder()
        .set("DATABASE_URL", &proxy.url())
        .set("DUOLOGUE_STORE__CONNECTIONS_MAX", "10")
        .without_file()
        .start()
        .await;
    let mut clients = Vec::new();
    for number in 0..40 {
        clients.push(
            server
                .connect(&format!("s-{number}"), &format!("user-{number}"))
                .await,
        );
    }
    let delays = join_all(clients.iter_mut().enumerate().map(answer)).await;
    for (client, delay) in clients.iter().zip(delays) {
        assert!(
            delay <= DONE_DELAY_MAX,
            "`done` came {delay:?} after the last token"
        );
        let degraded = client.seen.iter().find(|frame| frame["type"] == "degraded");
        assert_eq!(degraded, None);
    }
    server.stop().await;
}

/// Asks for an answer of a few seconds, and returns how long after its last token `done` came. The
/// answers end one after the other, so that some end while their draft is being saved.
async fn answer((number, client): (usize, &mut Client)) -> Duration {
    let words = 40 + number;
    client
        .send(&format!("mock:words={words} mock:delay_ms=50"))
        .await;
    let mut last_token = Instant::now();
    loop {
        let frame = client.receive().await;
        match frame["type"].as_str() {
            Some("token") => last_token = Instant::now(),
            Some("done") => {
                assert_eq!(frame["finish_reason"], "stop");
                return last_token.elapsed();
            }
            _ => {}
        }
    }
}
