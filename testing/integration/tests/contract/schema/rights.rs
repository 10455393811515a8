//! What the roles of Supabase's API may do: `anon` nothing, a signed-in user read what is theirs, a
//! server with the service key call the functions.

use duologue_integration::{postgres::Database, store::OpenStore};
use duologue_protocol::Seq;
use sqlx::{AssertSqlSafe, Executor, PgConnection, error::DatabaseError};

use super::{SCHEMA, migrate, paste, run, supabase, texts};
use crate::scene::{claim, said};

const ALICE: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
const BOB: &str = "bbbbbbbb-0000-4000-8000-00000000000b";

/// A project in which Alice and Bob have a session each, named for them, with one event.
async fn with_two_users(database: &Database) {
    let store = OpenStore::open(&database.url(), ()).await;
    for name in ["alice", "bob"] {
        let lease = claim(&*store, name).await;
        store
            .append(&lease, Seq::ZERO, &[said(1, name)])
            .await
            .unwrap();
    }
    let mut connection = database.connect().await;
    for (name, user) in [("alice", ALICE), ("bob", BOB)] {
        let sql = format!("update sessions set user_id = '{user}' where session_id = '{name}'");
        run(&mut connection, &sql).await.unwrap();
    }
}

/// A connection that acts as PostgREST does for a request with such a token.
async fn acting_as(database: &Database, role: &str, user: Option<&str>) -> PgConnection {
    let mut connection = database.connect_as_superuser().await;
    let claims = user.map_or("{}".to_owned(), |user| format!(r#"{{"sub": "{user}"}}"#));
    let sql =
        format!("select set_config('request.jwt.claims', '{claims}', false); set role {role}");
    run(&mut connection, &sql).await.unwrap();
    connection
}

#[track_caller]
fn assert_denied<T: std::fmt::Debug>(sql: &str, result: Result<T, sqlx::Error>) {
    let error = result.expect_err(sql);
    let code = error.as_database_error().and_then(DatabaseError::code);
    assert_eq!(code.as_deref(), Some("42501"), "{sql}: {error}");
}

const WRITES: [&str; 6] = [
    "insert into sessions (session_id, user_id, start_time, agent, lease_until)
        values ('new', 'aaaaaaaa-0000-4000-8000-00000000000a', now(), 'guide', now())",
    "insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        values ('alice', 2, 1, 'user_message', '{\"text\": \"forged\"}', now())",
    "update sessions set summary = 'forged'",
    "update session_events set payload = '{}'",
    "delete from sessions",
    "truncate session_events cascade",
];

/// Each of the two finds one session and one event, by whatever way they ask.
#[tokio::test]
async fn a_signed_in_user_reads_what_is_theirs_and_writes_nothing() {
    let database = supabase().await;
    paste(&database, SCHEMA).await.unwrap();
    with_two_users(&database).await;
    for (name, user) in [("alice", ALICE), ("bob", BOB)] {
        let mut connection = acting_as(&database, "authenticated", Some(user)).await;
        assert_eq!(
            texts(&mut connection, "select session_id from sessions").await,
            [name]
        );
        let events = "select payload ->> 'text' from session_events";
        assert_eq!(texts(&mut connection, events).await, [name]);
        for table in ["session_drafts", "session_jobs", "duologue_migrations"] {
            let sql = format!("select * from {table}");
            assert_denied(&sql, connection.execute(AssertSqlSafe(&*sql)).await);
        }
        for sql in WRITES {
            assert_denied(sql, connection.execute(sql).await);
        }
        let call = "select duologue_read('bbbbbbbb-0000-4000-8000-00000000000b', 'bob', 0, 10)";
        assert_denied(call, connection.execute(call).await);
    }
    // A token without a user is nobody's.
    let mut connection = acting_as(&database, "authenticated", None).await;
    for table in ["sessions", "session_events"] {
        let sql = format!("select {table}::text from {table}");
        assert_eq!(texts(&mut connection, &sql).await, [""; 0]);
    }
}

/// The key in the browser is known to everybody.
#[tokio::test]
async fn a_stranger_with_the_public_key_gets_nothing() {
    let database = supabase().await;
    migrate(&database).await;
    with_two_users(&database).await;
    let mut connection = acting_as(&database, "anon", Some(ALICE)).await;
    for sql in ["select * from sessions", "select * from session_events"] {
        assert_denied(sql, connection.execute(sql).await);
    }
    for sql in WRITES {
        assert_denied(sql, connection.execute(sql).await);
    }
    let functions = "select format('%s', oid::regprocedure) from pg_proc
        where pronamespace = 'public'::regnamespace and has_function_privilege('anon', oid, 'execute')";
    assert_eq!(
        texts(&mut database.connect().await, functions).await,
        [""; 0]
    );
}

/// The service key is a server's: it calls the entries, and does not go round them.
#[tokio::test]
async fn a_server_with_the_service_key_calls_functions_only() {
    let database = supabase().await;
    paste(&database, SCHEMA).await.unwrap();
    with_two_users(&database).await;
    let mut connection = acting_as(&database, "service_role", None).await;
    let read = format!("select duologue_read('{ALICE}', 'alice', 0, 10) #>> '{{0,payload,text}}'");
    assert_eq!(texts(&mut connection, &read).await, ["alice"]);
    for sql in WRITES {
        assert_denied(sql, connection.execute(sql).await);
    }
    let inner = "select duologue_has_events('alice', 'x', 1, 0, '[]')";
    assert_denied(inner, connection.execute(inner).await);

    let wrong = "select format('%s', oid::regprocedure) from pg_proc
        where pronamespace = 'public'::regnamespace
            and (prosecdef <> has_function_privilege('service_role', oid, 'execute')
                or prosecdef and not coalesce(proconfig::text like '%search_path%', false))";
    assert_eq!(texts(&mut database.connect().await, wrong).await, [""; 0]);
}

/// Supabase's roles may come after our tables, as when a dump is restored into a project.
#[tokio::test]
async fn rights_are_given_by_pasting_again_once_the_roles_are_there() {
    let database = super::empty().await;
    paste(&database, SCHEMA).await.unwrap();
    let mut admin = database.connect_as_superuser().await;
    run(&mut admin, include_str!("supabase.sql")).await.unwrap();
    paste(&database, SCHEMA).await.unwrap();
    with_two_users(&database).await;
    let mut connection = acting_as(&database, "authenticated", Some(BOB)).await;
    assert_eq!(
        texts(&mut connection, "select session_id from sessions").await,
        ["bob"]
    );
}
