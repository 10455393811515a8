//! Postgres: the contract, and what servers that share a database need beyond it.

mod batches;
mod rights;
mod startup;

use std::time::Duration;

use duologue_conformance::{inspect_conformance, store_conformance};
use duologue_integration::{
    postgres::{Cluster, Database},
    store::{OpenStore, config},
};
use duologue_protocol::Seq;
use duologue_store::StoreConfig;
use sqlx::{Connection, Executor, query};

use crate::scene::{assert_unavailable, claim, log, said};

async fn open() -> OpenStore<Database> {
    let database = Cluster::get().await.database().await;
    OpenStore::open(&database.url(), database).await
}

store_conformance!(open());
inspect_conformance!(async { open().await.inspected().await });

/// After a restart of the database every connection in the pool is dead. Nobody may notice: not
/// even the first calls, of which there are as many as connections.
#[tokio::test]
async fn connections_that_died_are_replaced_without_a_failure() {
    let store = open().await;
    let lease = claim(&*store, "s").await;
    let pings = || futures_util::future::join_all((0..4).map(|_| store.ping()));
    pings().await;
    let killed = query(
        "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()",
    )
    .execute(&mut store.ground.connect_as_superuser().await)
    .await
    .unwrap();
    assert!(killed.rows_affected() > 0);
    store
        .append(&lease, Seq::ZERO, &[said(1, "hello")])
        .await
        .unwrap();
    for answer in pings().await {
        answer.unwrap();
    }
    assert_eq!(log(&*store, "s").await, [said(1, "hello")]);
}

/// A row that somebody holds costs a bounded wait, after which all is as before.
#[tokio::test]
async fn a_row_that_is_locked_for_long_makes_a_write_unavailable() {
    let database = Cluster::get().await.database().await;
    let config = StoreConfig {
        lock_timeout: Duration::from_millis(20),
        ..config(&database.url())
    };
    let store = duologue_store::open(&config).await.unwrap();
    let lease = claim(&*store, "s").await;
    let mut other = database.connect().await;
    let mut lock = other.begin().await.unwrap();
    lock.execute("select * from sessions for update")
        .await
        .unwrap();
    assert_unavailable(&store.append(&lease, Seq::ZERO, &[said(1, "hello")]).await);
    assert_eq!(log(&*store, "s").await, []);
    lock.rollback().await.unwrap();
    store
        .append(&lease, Seq::ZERO, &[said(1, "hello")])
        .await
        .unwrap();
    store.close().await;
}

/// The same for a statement that takes too long for any other reason.
#[tokio::test]
async fn a_call_that_takes_too_long_is_cut_off() {
    let database = Cluster::get().await.database().await;
    let config = StoreConfig {
        statement_timeout: Duration::from_millis(50),
        ..config(&database.url())
    };
    let store = duologue_store::open(&config).await.unwrap();
    let slow = "create or replace function duologue_version() returns bigint
        language sql as 'select 1::bigint from pg_sleep(600)'";
    database.connect().await.execute(slow).await.unwrap();
    assert_unavailable(&store.ping().await);
    store.close().await;
}

/// Deadlocks and serialization failures are the database's own affair. Here it breaks off the
/// first two attempts.
#[tokio::test]
async fn a_call_that_was_broken_off_is_repeated() {
    let store = open().await;
    let mut connection = store.ground.connect().await;
    for sql in [
        "create sequence attempts",
        "create or replace function duologue_version() returns bigint
        language plpgsql as $$
        begin
            if nextval('attempts') < 3 then
                raise serialization_failure;
            end if;
            return 1;
        end $$",
    ] {
        connection.execute(sql).await.unwrap();
    }
    store.ping().await.unwrap();
    let row = connection
        .fetch_one("select last_value from attempts")
        .await
        .unwrap();
    assert_eq!(sqlx::Row::get::<i64, _>(&row, 0), 3);
}

/// Closed is closed.
#[tokio::test]
async fn a_closed_store_is_unavailable() {
    let store = open().await;
    store.close().await;
    assert_unavailable(&store.ping().await);
}
