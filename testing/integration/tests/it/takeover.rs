//! A server that stood still while its sessions moved on: it must not write, nor keep their clients.

use std::time::Duration;

use duologue_integration::{
    Client, DEADLINE,
    postgres::{Cluster, Database},
    process::ServerProcess,
};

/// Waits until the database says so.
async fn until_true(database: &Database, query: &'static str) {
    let mut connection = database.connect().await;
    let asking = async {
        loop {
            let is_so: Option<bool> = sqlx::query_scalar(query)
                .fetch_optional(&mut connection)
                .await
                .expect("the query is right");
            if is_so == Some(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, asking).await;
    found.unwrap_or_else(|_| panic!("in vain: {query}"));
}

/// Two servers on one database. The first is stopped in mid-answer, as a paused virtual machine is,
/// for longer than its lease; its client moves to the second. When the first wakes it goes on where
/// it was: it talks, it wants to store the end. All of that must be refused, and its sockets, of
/// the answering session and of an idle one, be closed as taken over.
#[tokio::test]
async fn a_server_that_stood_still_writes_nothing_and_closes_its_sockets() {
    let database = Cluster::get().await.database().await;
    let url = database.url();
    let settings = [
        ("DATABASE_URL", &*url),
        ("DUOLOGUE_CLUSTER__LEASE", "1s"),
        ("DUOLOGUE_CLUSTER__HEARTBEAT_INTERVAL", "300ms"),
        ("DUOLOGUE_SESSION__DRAFT_INTERVAL", "100ms"),
    ];
    let first = ServerProcess::start_with(&settings).await;
    let second = ServerProcess::start_with(&settings).await;
    let mut idle = Client::open(&first.socket_url("idle", "?user_id=alice")).await;
    idle.ask("mock:words=3 hello").await;
    let mut talking = Client::open(&first.socket_url("talking", "?user_id=alice")).await;
    talking
        .send("mock:words=400 mock:delay_ms=20 tell me more")
        .await;
    talking.until("token").await;
    first.signal("STOP").await;
    until_true(
        &database,
        "select count(*) = 1 from servers where lease_until < clock_timestamp()",
    )
    .await;

    let mut moved = Vec::new();
    for session in ["idle", "talking"] {
        let url = second.socket_url(session, "?user_id=alice&after=0");
        let mut client = Client::open(&url).await;
        client.until("replayed").await;
        assert_eq!(
            client.ask("mock:words=3 here").await.done["finish_reason"],
            "stop"
        );
        moved.push(client);
    }
    let before = moved[1].seen.clone();
    let interrupted = before
        .iter()
        .filter(|frame| frame["finish_reason"] == "interrupted");
    assert_eq!(interrupted.count(), 1);

    first.signal("CONT").await;
    assert_eq!(talking.until_closed().await.0, 4009);
    assert_eq!(idle.until_closed().await.0, 4009);
    assert!(talking.seen.iter().all(|frame| frame["type"] != "done"));
    for client in &mut moved {
        client.ask("mock:words=3 still here").await;
    }
    until_true(
        &database,
        "with pairs as (
            select seq, epoch, lag(seq, 1, 0::bigint) over log as seq_before,
                lag(epoch, 1, 0::bigint) over log as epoch_before
            from session_events window log as (partition by session_id order by seq)
        )
        select bool_and(seq = seq_before + 1 and epoch >= epoch_before) and max(epoch) = 2 from pairs",
    )
    .await;
    first.kill().await;
    second.kill().await;
}
