//! The schema: pasted into an SQL editor or migrated over a connection, it is the same; it upgrades
//! what people have; and it shows everybody only what is theirs.

mod origin;
mod rights;
mod unreleased;
mod upgrade;
mod versions;

use std::time::Duration;

use duologue_engine::store::{ServerId, Sweep};
use duologue_integration::{
    postgres::{Cluster, Database},
    store::{OpenStore, config},
};
use duologue_protocol::Seq;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use crate::scene::{claim, log, said};

const SCHEMA: &str = include_str!("../../../../schema.sql");

/// A sweep for all that has lapsed.
fn sweep_by(server: &ServerId) -> Sweep {
    Sweep {
        server: server.clone(),
        lease_duration: LONG,
        grace: Duration::ZERO,
        abandoned: Vec::new(),
        limit: 10,
    }
}

async fn empty() -> Database {
    Cluster::get().await.empty_database().await
}

/// A database as a new Supabase project has it.
async fn supabase() -> Database {
    let database = empty().await;
    let mut admin = database.connect_as_superuser().await;
    run(&mut admin, include_str!("schema/supabase.sql"))
        .await
        .unwrap();
    database
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?;
    Ok(())
}

/// Runs the script as an SQL editor does: all of it in one request.
async fn paste(database: &Database, script: &str) -> Result<(), sqlx::Error> {
    run(&mut database.connect().await, script).await
}

async fn migrate(database: &Database) -> Vec<String> {
    let applied = duologue_store::migrate(&config(&database.url())).await;
    applied.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))
}

async fn texts(connection: &mut PgConnection, query: &str) -> Vec<String> {
    let rows = connection.fetch_all(AssertSqlSafe(query)).await;
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Every trait of the schema that a reader or a server could notice.
const SHAPE: &str = "
    select format('column %s.%s %s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
        a.attnotnull, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'i')
    union all
    select format('table %s %s %s %s', relname, relrowsecurity, relforcerowsecurity, relacl)
    from pg_class where relnamespace = current_schema()::regnamespace and relkind = 'r'
    union all
    select format('constraint %s %s', conname, pg_get_constraintdef(oid)) from pg_constraint
    where connamespace = current_schema()::regnamespace
    union all
    select format('policy %s %s %s %s', tablename, policyname, roles, qual) from pg_policies
    where schemaname = current_schema()
    union all
    select format('function %s %s', pg_get_functiondef(oid), proacl) from pg_proc
    where pronamespace = current_schema()::regnamespace
    order by 1";

/// Owners paste the script again after each release, or to be sure.
#[tokio::test]
async fn pasting_again_changes_nothing_and_keeps_what_is_stored() {
    let database = empty().await;
    paste(&database, SCHEMA).await.unwrap();
    let shape = texts(&mut database.connect().await, SHAPE).await;
    let store = OpenStore::open(&database.url(), ()).await;
    let lease = claim(&*store, "s").await;
    let event = said(1, "hello");
    store
        .append(&lease, Seq::ZERO, std::slice::from_ref(&event))
        .await
        .unwrap();

    paste(&database, SCHEMA).await.unwrap();
    assert_eq!(texts(&mut database.connect().await, SHAPE).await, shape);
    assert_eq!(log(&*store, "s").await, [event]);
}

/// Some paste, some migrate, and some do both, in either order, also with an editor that changes the
/// ends of lines. What comes of it must be the same, trait by trait.
#[tokio::test]
async fn pasting_and_migrating_lead_to_the_same_and_may_follow_each_other() {
    let migrated = supabase().await;
    assert_eq!(migrate(&migrated).await.len(), 3);
    let shape = texts(&mut migrated.connect().await, SHAPE).await;
    assert!(shape.len() > 100, "{shape:#?}");
    paste(&migrated, SCHEMA).await.unwrap();
    assert_eq!(texts(&mut migrated.connect().await, SHAPE).await, shape);

    let pasted = supabase().await;
    paste(&pasted, SCHEMA).await.unwrap();
    assert_eq!(texts(&mut pasted.connect().await, SHAPE).await, shape);
    assert_eq!(migrate(&pasted).await, [""; 0]);

    let from_windows = empty().await;
    paste(&from_windows, &SCHEMA.replace('\n', "\r\n"))
        .await
        .unwrap();
    assert_eq!(migrate(&from_windows).await, [""; 0]);
}

/// One line says which schema, even one with a name that must be quoted, which is made if need be.
#[tokio::test]
async fn the_script_serves_any_schema() {
    let database = empty().await;
    let line = "set local duologue.schema = 'public';";
    assert_eq!(SCHEMA.matches(line).count(), 1);
    let script = SCHEMA.replace(line, &line.replace("public", "My Chat"));
    paste(&database, &script).await.unwrap();
    paste(&database, &script).await.unwrap();

    let url = format!(
        "{}&options=-csearch_path%3D%22My%5C%20Chat%22",
        database.url()
    );
    let store = OpenStore::open(&url, ()).await;
    claim(&*store, "s").await;
    assert_eq!(
        duologue_store::migrate(&config(&url)).await.unwrap(),
        [""; 0]
    );
    let elsewhere =
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace";
    assert_eq!(
        texts(&mut database.connect().await, elsewhere).await,
        [""; 0]
    );
}

/// A script of another release is refused by name, and leaves no trace.
#[tokio::test]
async fn a_script_that_is_not_what_was_applied_is_refused() {
    let database = empty().await;
    migrate(&database).await;
    let mut connection = database.connect().await;
    let forge = "update duologue_migrations set checksum = '' where version = 1";
    connection.execute(forge).await.unwrap();
    let error = paste(&database, SCHEMA).await.unwrap_err().to_string();
    assert!(
        error.contains("migration 1 (schema) is not what was applied here"),
        "{error}"
    );
}

/// Two owners, or an owner and a server that is being deployed, at the same time.
#[tokio::test]
async fn pasting_and_migrating_at_the_same_time_is_safe() {
    let database = empty().await;
    let editors = futures_util::future::join_all((0..3).map(|_| paste(&database, SCHEMA)));
    let (results, _applied) = tokio::join!(editors, migrate(&database));
    for result in results {
        result.unwrap();
    }
    OpenStore::open(&database.url(), ()).await;
}

/// In a database viewer one can read what each table is for.
#[tokio::test]
async fn every_table_is_explained() {
    let database = Cluster::get().await.database().await;
    let bare =
        "select relname::text from pg_class where relnamespace = current_schema()::regnamespace
        and relkind = 'r' and obj_description(oid, 'pg_class') is null";
    assert_eq!(texts(&mut database.connect().await, bare).await, [""; 0]);
}

/// Long enough for any test, as a lease.
const LONG: Duration = Duration::from_mins(10);
