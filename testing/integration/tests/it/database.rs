//! A database that crashes, is slow, or must be distinguished from an impostor.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use duologue_integration::{
    Client, TestServer, database_proxy::DatabaseProxy, pgbouncer::PgBouncer, postgres::Cluster,
    server::http, store::OpenStore,
};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, Row};
use tokio_tungstenite::tungstenite;

/// How often the database crashes.
const CRASHES: usize = 5;

/// The answers between two crashes: each falls into the middle of somebody's turn.
const ANSWERS_BETWEEN: usize = 7;

/// Whose sessions live through it, and how much they say.
const SESSIONS: [&str; 3] = ["a", "b", "c"];
const MESSAGES: usize = 20;

/// Goal: what a client received is in the log, however often the database crashes meanwhile; and
/// nobody is cut off, since an outage is shorter than the server's patience.
///
/// Three clients talk without pause. Whenever some answers have come the database is killed, without
/// a chance to say goodbye, and recovers. In the end each log is compared with what its client saw.
#[tokio::test]
async fn crashes_of_the_database_lose_nothing_that_was_acknowledged() {
    let cluster = Cluster::of_its_own("crashing").await;
    let database = cluster.database().await;
    outlive_crashes(cluster, &database.url()).await;
}

/// The same behind a transaction pooler, which goes on handing out connections that are dead, and
/// refuses new ones in its own words.
#[tokio::test]
async fn crashes_of_the_database_lose_nothing_behind_a_transaction_pooler() {
    let cluster = Cluster::of_its_own("crashing-pooled").await;
    let database = cluster.database().await;
    let pooler = PgBouncer::before(cluster, "crashing").await;
    outlive_crashes(cluster, &pooler.url(&database)).await;
}

async fn outlive_crashes(cluster: &Cluster, url: &str) {
    let server = TestServer::builder()
        .set("DATABASE_URL", url)
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
            // One that came while the server could not renew its lease was queued first.
            let stored = logged
                .iter()
                .filter(|event| event["type"] == "user_message" && event["id"] == id);
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
    const QUERY: Duration = Duration::from_secs(2);
    const PROMPT: Duration = Duration::from_millis(500);

    let database = Cluster::get().await.database().await;
    let proxy = DatabaseProxy::start(database).await;
    let server = TestServer::builder()
        .set("DATABASE_URL", &proxy.url())
        // A new connection takes some round trips too.
        .set("DUOLOGUE_STORE__ACQUIRE_TIMEOUT", "20s")
        .without_file()
        .start()
        .await;
    let mut client = server.connect("slow", "alice").await;
    client.ask("mock:words=3 before").await;

    // A call is one round trip.
    proxy.delay(QUERY);
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

/// Goal: a client that cannot be served is refused at the handshake, in time, with a time to retry; nobody is let half
/// in, and those inside are not thrown out.
#[tokio::test]
async fn while_the_database_is_away_newcomers_are_refused_before_the_upgrade() {
    const NEWCOMERS: usize = 20;
    const IN_TIME: Duration = Duration::from_secs(4);
    let cluster = Cluster::of_its_own("away").await;
    let database = cluster.database().await;
    let server = TestServer::builder()
        .set("DATABASE_URL", &database.url())
        .without_file()
        .start()
        .await;
    let mut inside = server.connect("inside", "alice").await;
    inside.ask("hello").await;
    cluster.stop().await;

    let urls: Vec<_> = (0..NEWCOMERS)
        .map(|n| server.socket_url(&format!("new-{n}"), "?user_id=bob"))
        .collect();
    let asking = join_all(urls.iter().map(|url| Client::try_open(url)));
    let refused = tokio::time::timeout(IN_TIME, asking).await;
    for refused in refused.expect("nobody is kept waiting at the door") {
        let Err(tungstenite::Error::Http(response)) = refused else {
            panic!("somebody was let in: {refused:?}")
        };
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
    }
    for (path, status) in [("/readyz", 503), ("/healthz", 200)] {
        let response = http().get(server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
    inside.ping().await;

    cluster.crash_and_restart().await;
    let mut connection = database.connect().await;
    let sessions: Vec<String> = sqlx::query_scalar("select session_id from sessions")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(sessions, ["inside"]);
    assert_eq!(inside.ask("again").await.done["finish_reason"], "stop");
    server.connect("new-0", "bob").await.ask("now?").await;
    server.stop().await;
}

/// Goal: a row that somebody has locked holds up its own session, and no other.
#[tokio::test]
async fn a_locked_row_holds_up_its_own_session_only() {
    const PROMPT: Duration = Duration::from_millis(500);
    let database = Cluster::get().await.database().await;
    let server = TestServer::builder()
        .set("DATABASE_URL", &database.url())
        .without_file()
        .start()
        .await;
    let mut held = server.connect("held", "alice").await;
    let mut other = server.connect("other", "bob").await;
    let mut locking = database.connect().await;
    let mut lock = locking.begin().await.unwrap();
    lock.execute("select 1 from sessions where session_id = 'held' for update")
        .await
        .unwrap();
    let first = held.seen.len();
    held.send("wait for me").await;
    // The write has been tried for a while.
    held.until("degraded").await;

    assert_eq!(other.ask("and me?").await.done["finish_reason"], "stop");
    let ping = held.ping().await;
    assert!(ping < PROMPT, "a ping took {ping:?}");
    let is_told = held.seen[first..]
        .iter()
        .any(|frame| frame["type"] == "user_message");
    assert!(!is_told, "it was sent before it was stored");
    lock.rollback().await.unwrap();
    assert_eq!(held.answer().await.done["finish_reason"], "stop");
    server.stop().await;
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
