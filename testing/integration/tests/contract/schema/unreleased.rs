//! Databases from before the first release are brought over once, and lose nothing; unknown ones are refused.

use duologue_engine::{
    store::{Draft, ServerId, Store, operators::OperatorStore},
    verify,
};
use duologue_integration::{
    postgres::Database,
    store::{OpenStore, config},
};
use duologue_protocol::{Seq, SessionId, TurnId, UserId};

use super::{LONG, SCHEMA, SHAPE, migrate, paste, run, supabase, sweep_by, texts};

const UNRELEASED: &str = include_str!("unreleased.sql");
const UNRELEASED_SQLITE: &str = include_str!("unreleased_sqlite.sql");

/// The same rows as in `unreleased_sqlite.sql`.
const ROWS: &str = r#"
    select duologue_claim('open', 'alice', 'guide', 'gone', 0, 'epoch');
    select duologue_append('open', 'alice', 1, 0, '[
        {"event_type": "session_started", "occurred_at": "1970-01-01T00:00:00Z",
            "payload": {"session_id": "open", "user_id": "alice", "agent": "guide"}},
        {"event_type": "client_connected", "occurred_at": "1970-01-01T00:00:00Z",
            "payload": {"connection": 1}}]');
    select duologue_save_draft('open', 'alice', 1, 'turn-1', 'so far');
    select duologue_claim('over', 'alice', 'guide', 'gone', 0, 'epoch');
    select duologue_end('over', 'alice', 1, 0, '[
        {"event_type": "session_started", "occurred_at": "1970-01-01T00:00:00Z",
            "payload": {"session_id": "over", "user_id": "alice", "agent": "guide"}},
        {"event_type": "session_ended", "occurred_at": "1970-01-01T00:01:00Z",
            "payload": {"reason": "closed"}}]');"#;

async fn unreleased() -> Database {
    let database = supabase().await;
    paste(&database, UNRELEASED).await.unwrap();
    run(&mut database.connect().await, ROWS).await.unwrap();
    database
}

/// The store goes on where the old build stopped.
async fn assert_complete(store: &dyn Store, inspect: &dyn OperatorStore) {
    let alice = UserId::new("alice").unwrap();
    let server = ServerId("here".to_owned());
    let mut log_ids = Vec::new();
    for name in ["open", "over"] {
        let id = SessionId::new(name).unwrap();
        let log = store.read(&alice, &id, Seq::ZERO, 10).await.unwrap();
        assert_eq!(log.len(), 2, "{log:?}");
        let record = store.session(&alice, &id).await.unwrap().unwrap();
        assert_eq!(record.last_seq, Seq(2));
        assert_eq!(verify::check(inspect, &id).await.unwrap(), []);
        log_ids.push(record.log_id);
    }
    assert_ne!(log_ids[0], log_ids[1]);
    let lapsed = store.claim_lapsed(&sweep_by(&server)).await.unwrap();
    let [open] = &*lapsed else {
        panic!("one session is open")
    };
    let draft = Draft {
        turn_id: TurnId(1),
        text: "so far".to_owned(),
    };
    assert_eq!(open.draft, Some(draft));
    let job = store.claim_job(&server, LONG).await.unwrap().unwrap();
    assert_eq!((job.session_id.as_str(), job.last_seq), ("over", Seq(2)));
}

/// Pasted or migrated, the schema is the one of a new database, and all rows are there.
#[tokio::test]
async fn a_postgres_from_before_the_first_release_is_brought_over() {
    let new = supabase().await;
    migrate(&new).await;
    let shape = texts(&mut new.connect().await, SHAPE).await;
    for pasted in [true, false] {
        let database = unreleased().await;
        if pasted {
            paste(&database, SCHEMA).await.unwrap();
            paste(&database, SCHEMA).await.unwrap();
        } else {
            assert_eq!(
                migrate(&database).await,
                ["0001_schema", "0002_batches", "0003_servers"]
            );
        }
        assert_eq!(migrate(&database).await, [""; 0]);
        assert_eq!(texts(&mut database.connect().await, SHAPE).await, shape);
        let (store, inspect) = OpenStore::open(&database.url(), ()).await.inspected().await;
        assert_complete(&*store, &*inspect).await;
    }
}

/// A build that has not been brought up to date cannot be served from; the message names what to do.
#[tokio::test]
async fn a_postgres_from_before_the_first_release_is_not_served_as_it_is() {
    let database = unreleased().await;
    let refused = crate::scene::refusal(&config(&database.url())).await;
    assert!(
        refused.contains("run `duologue migrate` first"),
        "{refused}"
    );
}

/// Nobody knows what a half-migrated database lacks.
#[tokio::test]
async fn an_unknown_postgres_is_refused_and_left_alone() {
    let database = unreleased().await;
    let mut connection = database.connect().await;
    let forget = "delete from duologue_migrations where version = 6";
    run(&mut connection, forget).await.unwrap();
    let before = texts(&mut connection, SHAPE).await;
    let pasted = paste(&database, SCHEMA).await.unwrap_err().to_string();
    let migrated = duologue_store::migrate(&config(&database.url())).await;
    let migrated = format!("{:#}", anyhow::Error::from(migrated.unwrap_err()));
    for refusal in [pasted, migrated] {
        assert!(refusal.contains("that this one does not know"), "{refusal}");
        assert!(
            refusal.contains("0 former_layouts, 1 sessions"),
            "{refusal}"
        );
    }
    assert_eq!(texts(&mut connection, SHAPE).await, before);
}

fn sqlite(sql: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("duologue.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    for sql in sql {
        connection.execute_batch(sql).unwrap();
    }
    connection.close().unwrap();
    let url = format!("sqlite:{}", path.display());
    (folder, url)
}

#[tokio::test]
async fn a_sqlite_file_from_before_the_first_release_is_brought_over() {
    let (folder, url) = sqlite(&[UNRELEASED_SQLITE]);
    let (store, inspect) = OpenStore::open(&url, folder).await.inspected().await;
    assert_complete(&*store, &*inspect).await;
    store.close().await;
    let applied = duologue_store::migrate(&config(&url)).await.unwrap();
    assert_eq!(applied, [""; 0]);
}

#[tokio::test]
async fn an_unknown_sqlite_file_is_refused_and_told_what_to_do() {
    let forget = "delete from duologue_migrations where version = 6";
    let (_folder, url) = sqlite(&[UNRELEASED_SQLITE, forget]);
    let refused = crate::scene::refusal(&config(&url)).await;
    assert!(refused.contains("does not know"), "{refused}");
    assert!(refused.contains("up to date with the build"), "{refused}");
}
