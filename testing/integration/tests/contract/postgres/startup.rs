//! Opening and migrating: what is wrong is said in words.

use duologue_integration::{
    child::free_port,
    pgbouncer::PgBouncer,
    postgres::{Cluster, Database},
    store::{OpenStore, config},
};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row, postgres::PgConnectOptions};

use crate::scene::{claim, log, refusal};

/// Every migration, by name.
const ALL: [&str; 3] = ["0001_schema", "0002_batches", "0003_servers"];

async fn empty() -> Database {
    Cluster::get().await.empty_database().await
}

/// The server does not touch the tables of a shared database by itself.
#[tokio::test]
async fn a_database_that_was_not_migrated_is_refused() {
    let database = empty().await;
    let refused = refusal(&config(&database.url())).await;
    assert!(
        refused.contains("run `duologue migrate` first"),
        "{refused}"
    );
    assert!(refused.contains(database.name()), "{refused}");
}

/// A database that stopped at an earlier migration is as unfit as an empty one; one that is a
/// little ahead, as during a deploy, is fit; one that is far ahead has lost who knows what.
#[tokio::test]
async fn an_older_schema_is_refused_and_one_that_is_a_little_newer_is_not() {
    let database = Cluster::get().await.database().await;
    let mut connection = database.connect().await;
    let newer = "insert into duologue_migrations
        select max(version) + 1, 'later', now(), true, '', 0 from duologue_migrations";
    connection.execute(newer).await.unwrap();
    OpenStore::open(&database.url(), ()).await;
    assert_eq!(
        duologue_store::migrate(&config(&database.url()))
            .await
            .unwrap(),
        [""; 0]
    );
    let far_newer = "insert into duologue_migrations values (999, 'later', now(), true, '', 0)";
    connection.execute(far_newer).await.unwrap();
    let refused = refusal(&config(&database.url())).await;
    assert!(refused.contains("are of version 999"), "{refused}");
    assert!(refused.contains("start the newer Duologue"), "{refused}");
    connection
        .execute("delete from duologue_migrations")
        .await
        .unwrap();
    let refused = refusal(&config(&database.url())).await;
    assert!(
        refused.contains("run `duologue migrate` first"),
        "{refused}"
    );
}

/// Several servers are deployed at once, and each migrates first. One does the work, the others
/// wait for it and find nothing to do.
#[tokio::test]
async fn migrating_at_the_same_time_is_safe() {
    let database = empty().await;
    let config = config(&database.url());
    let runs = (0..4).map(|_| duologue_store::migrate(&config));
    let runs = futures_util::future::join_all(runs).await;
    let mut applied: Vec<_> = runs.into_iter().map(Result::unwrap).collect();
    applied.sort();
    assert_eq!(applied.pop().unwrap(), ALL);
    assert!(applied.iter().all(Vec::is_empty), "{applied:?}");
}

/// Even if somebody's statements are still there, under the names that we would use.
#[tokio::test]
async fn migrating_works_through_a_transaction_pooler() {
    let database = empty().await;
    let url = PgBouncer::get().await.url(&database);
    let options: PgConnectOptions = url.parse().unwrap();
    let mut other = options.extra_float_digits(None).connect().await.unwrap();
    other.execute("prepare sqlx_s_1 as select 1").await.unwrap();
    let applied = duologue_store::migrate(&config(&url)).await.unwrap();
    assert_eq!(applied, ALL);
    assert_eq!(
        duologue_store::migrate(&config(&url)).await.unwrap(),
        [""; 0]
    );
    OpenStore::open(&url, ()).await;
}

/// A migration that was changed after it was applied is not passed over in silence.
#[tokio::test]
async fn a_migration_that_is_not_what_it_was_is_reported() {
    let database = Cluster::get().await.database().await;
    let forge = "update duologue_migrations set checksum = '' where version = 1";
    database.connect().await.execute(forge).await.unwrap();
    let error = duologue_store::migrate(&config(&database.url()))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("could not be migrated"),
        "{error}"
    );
}

/// All goes to the first schema of the search path, and is found there.
#[tokio::test]
async fn tables_live_in_the_schema_that_the_url_names() {
    let database = empty().await;
    let mut connection = database.connect().await;
    connection
        .execute("create schema \"My Chat\"")
        .await
        .unwrap();
    let url = format!(
        "{}&options=-csearch_path%3D%22My%5C%20Chat%22",
        database.url()
    );
    duologue_store::migrate(&config(&url)).await.unwrap();
    let store = OpenStore::open(&url, ()).await;
    claim(&*store, "s").await;
    assert_eq!(log(&*store, "s").await, []);
    let rows = connection
        .fetch_all("select session_id from \"My Chat\".sessions")
        .await;
    assert_eq!(rows.unwrap().len(), 1);
    let public = "select count(*) from pg_tables where schemaname = 'public'";
    let count: i64 = connection.fetch_one(public).await.unwrap().get(0);
    assert_eq!(count, 0);
}

/// A commit that a crash can take back is no commit.
#[tokio::test]
async fn a_database_that_does_not_wait_for_its_disk_is_refused() {
    let database = Cluster::get().await.database().await;
    let name = database.name();
    let off = format!("alter database {name} set synchronous_commit = off");
    database
        .connect()
        .await
        .execute(AssertSqlSafe(off))
        .await
        .unwrap();
    let refused = refusal(&config(&database.url())).await;
    assert!(
        refused.contains("`synchronous_commit` is `off`"),
        "{refused}"
    );
}

/// Wrong place or wrong name: the message names which.
#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let database = empty().await;
    let url = database.url().replace(database.name(), "nowhere");
    let refused = refusal(&config(&url)).await;
    assert!(refused.contains("/nowhere refuses us"), "{refused}");

    let port = free_port().unwrap();
    let refused = refusal(&config(&format!(
        "postgres://me:secret@127.0.0.1:{port}/chat"
    )))
    .await;
    assert_eq!(
        refused,
        format!("no Postgres answers at 127.0.0.1:{port}/chat")
    );
}
