//! A database that is far away: what each step of a dialogue waits for.

use std::time::Duration;

use duologue_integration::{TestServer, database_proxy::DatabaseProxy, postgres::Cluster};
use serde_json::Value;

/// Of a database that is a second away.
const ROUND_TRIP: Duration = Duration::from_secs(2);

/// What a server does every few seconds, and what this test asks.
const APART_FROM_DIALOGUES: [&str; 5] = [
    "duologue_renew",
    "duologue_heartbeat",
    "duologue_claim_lapsed",
    "duologue_version",
    "duologue_session",
];

/// Panics if there were more calls, for dialogues, than these since the last time.
#[track_caller]
fn assert_calls(proxy: &DatabaseProxy, step: &str, calls_max: usize) {
    let calls = proxy.take_calls().into_iter();
    let calls: Vec<_> = calls
        .filter(|call| !APART_FROM_DIALOGUES.contains(&&**call))
        .collect();
    assert!(calls.len() <= calls_max, "{step}: {calls:?}");
    assert!(!calls.is_empty(), "{step}: no call was seen");
}

fn is_done(session: &Value) -> bool {
    session["summary_status"] == "done"
}

/// Goal: each step of a dialogue costs few round trips, and all of it is stored, with a database that is a second
/// away each way.
#[tokio::test]
async fn a_dialogue_costs_few_round_trips_to_a_database_one_second_away() {
    let database = Cluster::get().await.database().await;
    let proxy = DatabaseProxy::start(database).await;
    let server = TestServer::builder()
        .set("DATABASE_URL", &proxy.url())
        // A new connection takes round trips of its own.
        .set("DUOLOGUE_STORE__ACQUIRE_TIMEOUT", "20s")
        .set("DUOLOGUE_SESSION__ATTACH_TIMEOUT", "20s")
        // Looking for jobs is a call too.
        .set("DUOLOGUE_JOBS__POLL_INTERVAL", "10m")
        .without_file()
        .start()
        .await;
    proxy.delay(ROUND_TRIP);
    proxy.take_calls();

    let mut client = server.connect("far", "alice").await;
    client.until("client_connected").await;
    assert_calls(&proxy, "open", 2);

    let answer = client.ask("mock:words=3 hello").await;
    assert_eq!(answer.done["finish_reason"], "stop");
    assert_calls(&proxy, "message and answer", 2);

    client.close(1000).await;
    server.session_until("far", "alice", is_done).await;
    // The end with its job, the log in two pages of which one is empty, the result, and the next job.
    assert_calls(&proxy, "end and summary", 5);

    proxy.delay(Duration::ZERO);
    server.stop().await;
}
