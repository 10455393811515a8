//! A Postgres store that is opened on restored rows makes them a new history by itself.

use duologue_engine::store::{Lease, Store};
use duologue_integration::{
    postgres::{Cluster, Database},
    store::OpenStore,
};
use duologue_protocol::{LogId, Seq};

use super::run;
use crate::scene::{claim, log, said};

/// A database in which `here` holds a session of one event, and nobody is connected.
async fn in_use() -> (Database, Lease) {
    let database = Cluster::get().await.database().await;
    let store = OpenStore::open(&database.url(), ()).await;
    let lease = claim(&*store, "s").await;
    let first = said(1, "hello");
    store.append(&lease, Seq::ZERO, &[first]).await.unwrap();
    store.close().await;
    (database, lease)
}

async fn log_id(store: &dyn Store, lease: &Lease) -> LogId {
    let found = store.session(&lease.user_id, &lease.session_id).await;
    found.unwrap().expect("the session is there").log_id
}

/// Goal: the holder of a lease from before the restore cannot write, a new one can, and this happens once.
/// `before` is the log's id before the restore.
async fn assert_restored_once(database: &Database, lease: &Lease, before: &LogId) {
    let store = OpenStore::open(&database.url(), ()).await;
    let after = log_id(&*store, lease).await;
    assert_ne!(after, *before);
    let stale = store.append(lease, Seq(1), &[said(2, "stale")]).await;
    assert!(stale.is_err(), "a lease from before the restore is void");
    let again = claim(&*store, "s").await;
    assert!(again.epoch > lease.epoch, "{again:?}");
    store
        .append(&again, Seq(1), &[said(2, "again")])
        .await
        .unwrap();
    assert_eq!(log(&*store, "s").await.len(), 2);
    store.close().await;

    let store = OpenStore::open(&database.url(), ()).await;
    assert_eq!(log_id(&*store, lease).await, after);
    store.close().await;
}

/// Method: a real copy of the database, made by Postgres.
#[tokio::test]
async fn a_copied_database_is_recognised() {
    let (original, lease) = in_use().await;
    let copy = original.cluster().database_like(&original).await;
    let store = OpenStore::open(&original.url(), ()).await;
    let before = log_id(&*store, &lease).await;
    assert_restored_once(&copy, &lease, &before).await;
    // The original stays as it was, with its lease.
    assert_eq!(log_id(&*store, &lease).await, before);
    store
        .append(&lease, Seq(1), &[said(2, "still here")])
        .await
        .unwrap();
}

/// Method: the stored origin is altered, since neither value of a running cluster can be.
#[tokio::test]
async fn another_cluster_and_another_timeline_are_recognised() {
    for part in ["system", "timeline"] {
        let (database, lease) = in_use().await;
        let store = OpenStore::open(&database.url(), ()).await;
        let before = log_id(&*store, &lease).await;
        store.close().await;
        let alter = format!(
            "update duologue_installation set origin = origin || '{{\"{part}\": \"another\"}}'"
        );
        let mut admin = database.connect_as_superuser().await;
        run(&mut admin, &alter).await.unwrap();
        drop(admin);
        assert_restored_once(&database, &lease, &before).await;
    }
}
