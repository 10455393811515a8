//! Who may do what in a database that is not Supabase's: the owner through the functions, and nobody
//! else anything.

use duologue_engine::store::operators::ReadLimits;
use duologue_integration::{
    postgres::{Cluster, OWNER},
    store::{OpenStore, config},
};
use duologue_protocol::Seq;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row, error::DatabaseError};

use crate::scene::{claim, said};

const TABLES: [&str; 7] = [
    "sessions",
    "session_events",
    "session_drafts",
    "session_jobs",
    "duologue_installation",
    "duologue_migrations",
    "servers",
];

/// A table that a later migration forgets to secure fails here.
#[tokio::test]
async fn row_level_security_is_forced_on_every_table() {
    let database = Cluster::get().await.database().await;
    let rows = database
        .connect()
        .await
        .fetch_all(
            "select relname::text, relrowsecurity and relforcerowsecurity from pg_class
            where relkind = 'r' and relnamespace = current_schema()::regnamespace",
        )
        .await
        .unwrap();
    let mut tables: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    tables.sort();
    let mut expected = TABLES.map(|table| (table.to_owned(), true));
    expected.sort();
    assert_eq!(tables, expected);
}

/// A user of the same database, who was even granted the tables by mistake, sees and calls nothing.
#[tokio::test]
async fn a_stranger_sees_nothing() {
    let database = Cluster::get().await.database().await;
    let store = OpenStore::open(&database.url(), ()).await;
    let lease = claim(&*store, "s").await;
    store
        .append(&lease, Seq::ZERO, &[said(1, "hello")])
        .await
        .unwrap();

    let mut admin = database.connect_as_superuser().await;
    admin.execute("create role stranger nologin").await.unwrap();
    admin
        .execute("grant select, insert on all tables in schema public to stranger")
        .await
        .unwrap();
    admin.execute("set role stranger").await.unwrap();
    for table in TABLES {
        let sql = AssertSqlSafe(format!("select * from {table}"));
        assert_eq!(admin.fetch_all(sql).await.unwrap().len(), 0, "{table}");
    }
    for sql in [
        "select duologue_read('alice', 's', 0, 10)",
        "select duologue_claim('s', 'alice', 'a', 'b', 1, now())",
        "insert into sessions (session_id, user_id, start_time, agent, lease_until)
            values ('t', 'alice', now(), 'guide', now())",
    ] {
        denied(&mut admin, sql).await;
    }
}

/// A role that may only call the functions reads for operators what their owner reads.
#[tokio::test]
async fn a_role_that_may_only_call_functions_verifies_all_sessions() {
    let database = Cluster::get().await.database().await;
    let (store, owner) = OpenStore::open(&database.url(), ()).await.inspected().await;
    let lease = claim(&*store, "s").await;
    store
        .append(&lease, Seq::ZERO, &[said(1, "hello")])
        .await
        .unwrap();
    let mut admin = database.connect_as_superuser().await;
    let role = "create role caller login;
        grant execute on all functions in schema public to caller";
    admin.execute(role).await.unwrap();
    let url = database.url().replacen(OWNER, "caller", 1);
    let caller = duologue_store::open_for_operators(&config(&url)).await;
    let caller = caller.unwrap();

    let sessions = owner.session_ids(None, 10).await.unwrap();
    assert_eq!(sessions.len(), 1);
    assert_eq!(caller.session_ids(None, 10).await.unwrap(), sessions);
    let limits = ReadLimits {
        rows: 100,
        bytes: 1 << 20,
    };
    let mut found = Vec::new();
    for store in [owner, caller] {
        let read = store.stored_sessions(&sessions, limits).await.unwrap();
        let [session] = &*read else {
            panic!("one session: {read:?}")
        };
        let rows = store.outlines(&sessions[0], Seq::ZERO, 10).await.unwrap();
        found.push((session.head.clone(), rows));
    }
    assert_eq!(found[0].1.len(), 1);
    assert_eq!(found[0], found[1]);
}

async fn denied(connection: &mut PgConnection, sql: &'static str) {
    let error = connection.execute(sql).await.expect_err(sql);
    let code = error.as_database_error().and_then(DatabaseError::code);
    assert_eq!(code.as_deref(), Some("42501"), "{sql}: {error}");
}
