//! A database that crashes, is slow, or must be told from an impostor.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use duologue_integration::{
    Client, TestServer, database_proxy::DatabaseProxy, postgres::Cluster, store::OpenStore,
};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use sqlx::Row;

/// How often the database crashes.
const CRASHES: usize = 5;

/// The answers between two crashes: each falls into the middle of somebody's turn.
const ANSWERS_BETWEEN: usize = 7;

/// Whose sessions live through it, and how much they say.
const SESSIONS: [&str; 3] = ["a", "b", "c"];
const MESSAGES: usize = 20;

/// Goal: what a client was told is in the log, however often the database crashes meanwhile; and
/// nobody is cut off, since an outage is shorter than the server's patience.
///
/// Three clients talk without pause. Whenever some answers have come the database is killed, without
/// a chance to say goodbye, and recovers. In the end each log is compared with what its client saw.
#[tokio::test]
async fn crashes_of_the_database_lose_nothing_that_was_acknowledged() {
    let cluster = Cluster::of_its_own("crashing").await;
    let database = cluster.database().await;
    let server = TestServer::builder()
        .set("DATABASE_URL", &database.url())
        .without_file()
        .start()
        .await;
    let answers = AtomicUsize::new(0);
    let talking = join_all(SESSIONS.map(|session| talk(&server, session, &answers)));
    let (seen, ()) = join(talking, crash(cluster, &answers)).await;

    for (session, live) in SESSIONS.into_iter().zip(seen) {
        let mut again = server.resume(session, "alice", 0).await;
        again.until("replayed").await;
        let (live, logged) = (events(&live), events(&again.seen));
        assert_eq!(live[..], logged[..live.len()], "{session}");
        for n in 0..MESSAGES {
            let id = json!(format!("m{n}"));
            let stored = logged.iter().filter(|event| event["id"] == id);
            assert_eq!(stored.count(), 1, "{session} {id}");
        }
        assert_eq!(
            again.ask("still there?").await.done["finish_reason"],
            "stop"
        );
    }
    server.stop().await;
}

/// Says one thing after the other, and returns all frames seen.
async fn talk(server: &TestServer, session: &str, answers: &AtomicUsize) -> Vec<Value> {
    let mut client = server.connect(session, "alice").await;
    for n in 0..MESSAGES {
        let message = json!({ "message": format!("mock:words=5 {n}"), "id": format!("m{n}") });
        client.send_json(message).await;
        assert_eq!(client.answer().await.done["finish_reason"], "stop");
        answers.fetch_add(1, Ordering::Relaxed);
    }
    client.seen
}

async fn crash(cluster: &Cluster, answers: &AtomicUsize) {
    let mut enough = ANSWERS_BETWEEN;
    for _ in 0..CRASHES {
        while answers.load(Ordering::Relaxed) < enough {
            tokio::task::yield_now().await;
        }
        cluster.crash_and_restart().await;
        enough = answers.load(Ordering::Relaxed) + ANSWERS_BETWEEN;
    }
}

/// The frames that restate the log: those with a number, but for what is about the connection.
fn events(frames: &[Value]) -> Vec<Value> {
    let restated = |frame: &&Value| {
        let r#type = frame["type"].as_str().expect("frames have a type");
        frame["seq"].is_u64() && !["session_started", "replayed"].contains(&r#type)
    };
    frames.iter().filter(restated).cloned().collect()
}

/// Goal: a slow database makes answers late, and nothing else. Every call of the store takes two
/// seconds, and all the while the client's pings are answered as if nothing were.
#[tokio::test]
async fn pings_are_answered_while_every_query_takes_two_seconds() {
    /// Of a call: begin, prepare, execute, commit.
    const ROUND_TRIPS: u32 = 4;
    const QUERY: Duration = Duration::from_secs(2);
    const PROMPT: Duration = Duration::from_millis(500);

    let database = Cluster::get().await.database().await;
    let proxy = DatabaseProxy::start(database.cluster().port()).await;
    let url = database.url_at(proxy.port());
    let server = TestServer::builder()
        .set("DATABASE_URL", &url)
        // A new connection takes some round trips too.
        .set("DUOLOGUE_STORE__ACQUIRE_TIMEOUT", "20s")
        .without_file()
        .start()
        .await;
    let mut client = server.connect("slow", "alice").await;
    client.ask("mock:words=3 before").await;

    proxy.delay(QUERY / ROUND_TRIPS);
    let asked = tokio::time::Instant::now();
    let before = client.seen.len();
    client.send("mock:words=3 meanwhile").await;
    let (mut slowest, mut pace) = (Duration::ZERO, tokio::time::interval(PROMPT / 20));
    while !is_answered(&client, before) {
        slowest = slowest.max(client.ping().await);
        pace.tick().await;
    }
    assert!(asked.elapsed() >= QUERY, "the database was not slow");
    assert!(slowest < PROMPT, "a ping took {slowest:?}");
    proxy.delay(Duration::ZERO);
    server.stop().await;
}

fn is_answered(client: &Client, before: usize) -> bool {
    client.seen[before..]
        .iter()
        .any(|frame| frame["type"] == "done")
}

/// `sslmode=verify-full` connects to a server whose certificate was signed by the authority given,
/// and to no other.
#[tokio::test]
async fn the_identity_of_the_database_is_verified_if_the_url_says_so() {
    let cluster = Cluster::with_tls().await;
    let database = cluster.database().await;
    let url = |authority: &Path| {
        let authority = authority.display();
        let url = database.url();
        url.replace(
            "sslmode=disable",
            &format!("sslmode=verify-full&sslrootcert={authority}"),
        )
    };
    let authority = cluster.authority().unwrap();
    let store = OpenStore::open(&url(authority.path()), ()).await;
    store.ping().await.unwrap();
    let encrypted = sqlx::query(
        "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid)
         where application_name = 'duologue'",
    );
    let mut connection = database.connect_as_superuser().await;
    let row = encrypted.fetch_one(&mut connection).await.unwrap();
    assert!(row.get::<Option<bool>, _>(0).unwrap_or(false));

    let stranger = cluster.strange_authority().unwrap();
    let config = duologue_integration::store::config(&url(stranger.path()));
    let Err(refused) = duologue_store::open(&config).await else {
        panic!("a server was trusted that a stranger has vouched for");
    };
    let refused = format!("{:#}", anyhow::Error::from(refused));
    assert!(refused.contains("certificate"), "{refused}");
}
