//! What batches promise beyond the contract: that writers do not stand in each other's way, and that nothing
//! stays open in the database.

#![expect(
    clippy::disallowed_methods,
    reason = "a test waits for the tasks that it starts"
)]

use std::{sync::Arc, time::Duration};

use duologue_engine::store::{Claim, Lease, Store, StoreError};
use duologue_integration::{
    DEADLINE,
    postgres::{Cluster, Database},
    store::{OpenStore, config},
};
use duologue_protocol::Seq;
use duologue_store::StoreConfig;
use futures_util::future::join_all;
use sqlx::{Connection, Executor, PgConnection, query_scalar};

use super::open;
use crate::scene::{assert_unavailable, claim, claim_of, log, said};

/// Transactions of servers that are open, whatever they do.
const OPEN: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and application_name = 'duologue' and xact_start is not null";

/// Waits until there are as many open transactions.
async fn until_open(connection: &mut PgConnection, expected: i64) {
    let waiting = async {
        while query_scalar::<_, i64>(OPEN)
            .fetch_one(&mut *connection)
            .await
            .unwrap()
            != expected
        {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    waited.unwrap_or_else(|_| panic!("there were never {expected} open transactions"));
}

/// Servers that share all sessions, each in an order of its own: every append is made by all of them, and each
/// position is taken by one.
#[tokio::test]
async fn writers_that_meet_in_opposite_orders_leave_no_gap_and_no_deadlock() {
    const SESSIONS: usize = 24;
    const APPENDS: u64 = 20;
    let first = open().await;
    let mut leases = Vec::new();
    for number in 0..SESSIONS {
        leases.push(claim(&*first, &format!("s{number}")).await);
    }
    let mut stores = vec![first.handle()];
    for _ in 0..3 {
        stores.push(OpenStore::open(&first.ground.url(), ()).await.handle());
    }
    let writing = stores.iter().enumerate().map(|(number, store)| {
        let mut order: Vec<_> = leases.iter().collect();
        if number % 2 == 1 {
            order.reverse();
        }
        order.rotate_left(number * 5);
        join_all(
            order
                .into_iter()
                .map(|lease| write_all(store, lease, APPENDS)),
        )
    });
    let appended: u64 = join_all(writing).await.into_iter().flatten().sum();
    assert_eq!(appended, SESSIONS as u64 * APPENDS);
    for lease in &leases {
        let log = log(&*first, lease.session_id.as_str()).await;
        let seqs: Vec<_> = log.iter().map(|event| event.seq.0).collect();
        assert_eq!(seqs, (1..=APPENDS).collect::<Vec<_>>());
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    let mut connection = first.ground.connect().await;
    let deadlocks: i64 = query_scalar(deadlocks)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(deadlocks, 0);
    join_all(stores.iter().map(|store| store.close())).await;
}

/// Appends to a log that others append to as well, until it is full. Returns how many events were its own.
async fn write_all(store: &Arc<dyn Store>, lease: &Lease, appends: u64) -> u64 {
    let (mut after, mut stored) = (0, 0);
    while after < appends {
        // The same writer's name, so only the text tells whose it is.
        let text = format!("{:p}", Arc::as_ptr(store));
        match store
            .append(lease, Seq(after), &[said(after + 1, &text)])
            .await
        {
            Ok(()) => stored += 1,
            Err(StoreError::Conflict) => {}
            Err(error) => panic!("{error:?}"),
        }
        after += 1;
    }
    stored
}

/// The session of one user is locked by somebody; all others go on.
#[tokio::test]
async fn a_locked_session_delays_no_other() {
    let store = open().await;
    let locked = claim(&*store, "locked").await;
    let mut leases = Vec::new();
    for number in 0..8 {
        leases.push(claim(&*store, &format!("s{number}")).await);
    }
    let mut other = store.ground.connect().await;
    let mut lock = other.begin().await.unwrap();
    lock.execute("select from sessions where session_id = 'locked' for update")
        .await
        .unwrap();
    let waiting = {
        let (store, lease) = (store.handle(), locked.clone());
        tokio::spawn(async move { store.append(&lease, Seq::ZERO, &[said(1, "late")]).await })
    };
    for seq in 1..10 {
        let appended = leases.iter().map(|lease| {
            let events = [said(seq, "hello")];
            let store = store.handle();
            async move { store.append(lease, Seq(seq - 1), &events).await }
        });
        for appended in join_all(appended).await {
            appended.unwrap();
        }
    }
    assert!(!waiting.is_finished());
    lock.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(log(&*store, "locked").await, [said(1, "late")]);
}

/// A lease beyond all time cannot be stored. It shares its batch with writes that can.
#[tokio::test]
async fn a_write_that_the_database_rejects_fails_alone() {
    let store = open().await;
    let mut leases = Vec::new();
    for number in 0..8 {
        leases.push(claim(&*store, &format!("s{number}")).await);
    }
    let endless = Claim {
        lease_duration: Duration::from_secs(u64::MAX),
        ..claim_of("endless")
    };
    let events = [said(1, "hello")];
    let appends = join_all(
        leases
            .iter()
            .map(|lease| store.append(lease, Seq::ZERO, &events)),
    );
    let (appends, rejected) = tokio::join!(appends, store.claim(&endless));
    assert!(
        matches!(rejected, Err(StoreError::Corrupt(_))),
        "{rejected:?}"
    );
    for append in appends {
        append.unwrap();
    }
}

/// A store whose calls take long in the database: those that append wait for a lock on the table.
async fn slow(statement_timeout: Duration) -> (OpenStore<Database>, Lease) {
    let database = Cluster::get().await.database().await;
    let config = StoreConfig {
        statement_timeout,
        ..config(&database.url())
    };
    let store = OpenStore::open_with(&config, database).await;
    let lease = claim(&*store, "s").await;
    (store, lease)
}

/// The call is under way when its caller goes. Its transaction ends all the same, with its effect.
#[tokio::test]
async fn a_call_whose_caller_has_gone_leaves_no_open_transaction() {
    let (store, lease) = slow(DEADLINE).await;
    let mut other = store.ground.connect().await;
    let mut lock = other.begin().await.unwrap();
    lock.execute("lock table session_events").await.unwrap();
    let mut watcher = store.ground.connect().await;
    for is_read in [false, true] {
        let (store, lease) = (store.handle(), lease.clone());
        let call = tokio::spawn(async move {
            if is_read {
                drop(
                    store
                        .read(&lease.user_id, &lease.session_id, Seq::ZERO, 10)
                        .await,
                );
            } else {
                drop(store.append(&lease, Seq::ZERO, &[said(1, "hello")]).await);
            }
        });
        until_open(&mut watcher, if is_read { 2 } else { 1 }).await;
        call.abort();
    }
    lock.rollback().await.unwrap();
    until_open(&mut watcher, 0).await;
    assert_eq!(log(&*store, "s").await, [said(1, "hello")]);
}

/// The database cancels what takes too long, and the transaction with it.
#[tokio::test]
async fn a_call_that_timed_out_leaves_no_open_transaction() {
    let (store, lease) = slow(Duration::from_millis(50)).await;
    let mut other = store.ground.connect().await;
    let mut lock = other.begin().await.unwrap();
    lock.execute("lock table session_events").await.unwrap();
    assert_unavailable(&store.append(&lease, Seq::ZERO, &[said(1, "hello")]).await);
    let read = store.read(&lease.user_id, &lease.session_id, Seq::ZERO, 10);
    assert_unavailable(&read.await);
    until_open(&mut store.ground.connect().await, 0).await;
    lock.rollback().await.unwrap();
    let appended = store.append(&lease, Seq::ZERO, &[said(1, "hello")]).await;
    appended.unwrap();
}
