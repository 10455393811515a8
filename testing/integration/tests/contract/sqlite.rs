//! SQLite: the contract, and what a file of one's own promises beyond it.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    time::Duration,
};

use duologue_conformance::{inspect_conformance, store_conformance};
use duologue_engine::store::{StoreError, Sweep};
use duologue_integration::store::{OpenStore, config};
use duologue_protocol::{Seq, SessionId};
use duologue_store::StoreConfig;
use futures_util::future::join_all;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tempfile::TempDir;

use crate::scene::{assert_unavailable, claim, ended, log, refusal, said};

store_conformance!(OpenStore::sqlite());
inspect_conformance!(async { OpenStore::sqlite().await.inspected().await });

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("duologue.db")
}

fn config_in(folder: &TempDir) -> StoreConfig {
    config(&format!("sqlite:{}", file(folder).display()))
}

/// Another program, such as a viewer, on the same file.
fn other_program(folder: &TempDir) -> Connection {
    Connection::open(file(folder)).unwrap()
}

/// Keeps others from writing until it is dropped.
fn locked(other: &mut Connection) -> Transaction<'_> {
    let transaction = other.transaction_with_behavior(TransactionBehavior::Immediate);
    transaction.unwrap()
}

/// How many commits the write-ahead log holds, by its documented format: a header of 32 bytes with
/// the page size at 8, then frames with a header of 24 bytes each, of which the second word is not
/// zero where a transaction ends.
fn commits_in_wal(folder: &TempDir) -> usize {
    let mut wal = file(folder).into_os_string();
    wal.push("-wal");
    let wal = std::fs::read(Path::new(&wal)).unwrap();
    let word = |at: usize| u32::from_be_bytes(wal[at..at + 4].try_into().unwrap());
    let frame_bytes = 24 + usize::try_from(word(8)).unwrap();
    let frames = (32..wal.len()).step_by(frame_bytes);
    frames.filter(|frame| word(frame + 4) != 0).count()
}

/// One process has the file, so leases are in its memory. Sessions in which nobody says anything cost the disk
/// nothing, whether the server asks for them, sweeps, or does neither.
#[tokio::test]
async fn heartbeats_and_sweeps_that_find_nothing_write_nothing() {
    let folder = TempDir::new().unwrap();
    let store = duologue_store::open(&config_in(&folder)).await.unwrap();
    let lease = claim(&*store, "s").await;
    let before = commits_in_wal(&folder);
    let sweep = Sweep {
        server: lease.server.clone(),
        lease_duration: Duration::from_secs(3),
        grace: Duration::from_secs(30),
        abandoned: Vec::new(),
        limit: 10,
    };
    for _ in 0..10 {
        let held = std::slice::from_ref(&lease);
        let lost = store.heartbeat(&lease.server, sweep.lease_duration, held);
        assert_eq!(lost.await.unwrap(), []);
        assert_eq!(store.claim_lapsed(&sweep).await.unwrap().len(), 0);
    }
    assert_eq!(commits_in_wal(&folder), before);
    store.close().await;
}

/// The list of sessions continues where the last page ended, also if that session is deleted meanwhile.
#[tokio::test]
async fn a_session_deleted_between_two_pages_hides_no_other() {
    let (store, inspect) = OpenStore::sqlite().await.inspected().await;
    for name in ["c", "a", "b"] {
        claim(&*store, name).await;
    }
    let first = inspect.session_ids(None, 2).await.unwrap();
    let other = other_program(&store.ground);
    let deleted = other.execute(
        "delete from sessions where session_id = ?1",
        (first[1].as_str(),),
    );
    assert_eq!(deleted.unwrap(), 1);
    let second = inspect.session_ids(first.last(), 2).await.unwrap();
    let names: Vec<_> = first.iter().chain(&second).map(SessionId::as_str).collect();
    assert_eq!(names, ["c", "a", "b"]);
}

/// Forty appends gather while another program holds the file. They must not cost forty waits for
/// the disk, which is seen in the log that SQLite writes.
#[tokio::test]
async fn operations_that_wait_together_are_committed_together() {
    let store = OpenStore::sqlite().await;
    let mut leases = Vec::new();
    for n in 0..40 {
        leases.push(claim(&*store, &format!("s{n}")).await);
    }
    let mut other = other_program(&store.ground);
    let lock = locked(&mut other);
    let before = commits_in_wal(&store.ground);

    let event = [said(1, "hello")];
    let appends = join_all(
        leases
            .iter()
            .map(|lease| store.append(lease, Seq::ZERO, &event)),
    );
    let (appended, unlocked) = tokio::join!(appends, async { lock.rollback() });

    unlocked.unwrap();
    assert!(appended.iter().all(Result::is_ok), "{appended:?}");
    let commits = commits_in_wal(&store.ground) - before;
    assert!(
        (1..=2).contains(&commits),
        "forty appends took {commits} commits"
    );
}

/// Operations of one commit share its fate, but not each other's: an end that fails half-way, by
/// a trigger that stands for any error, leaves nothing, and its neighbours are stored.
#[tokio::test]
async fn an_operation_that_fails_is_undone_without_its_neighbours() {
    let store = OpenStore::sqlite().await;
    let mut leases = Vec::new();
    for name in ["before", "bad", "after"] {
        leases.push(claim(&*store, name).await);
    }
    let trigger = "create trigger bad before insert on session_jobs when new.session_id = 'bad'
        begin select raise(abort, 'for a test'); end";
    other_program(&store.ground).execute_batch(trigger).unwrap();

    let events = [said(1, "bye"), ended(2)];
    let ends = leases
        .iter()
        .map(|lease| store.end(lease, Seq::ZERO, &events, None));
    let ends = join_all(ends).await;

    assert!(
        matches!(ends[..], [Ok(None), Err(StoreError::Corrupt(_)), Ok(None)]),
        "{ends:?}"
    );
    assert_eq!(log(&*store, "before").await, events);
    assert_eq!(log(&*store, "bad").await, []);
    assert_eq!(log(&*store, "after").await, events);
}

/// Two servers on one file would each believe to be alone. The second is refused, and may have the
/// file, with all that is in it, when the first has closed it.
#[tokio::test]
async fn a_second_server_on_the_same_file_is_refused() {
    let store = OpenStore::sqlite().await;
    let lease = claim(&*store, "s").await;
    store
        .append(&lease, Seq::ZERO, &[said(1, "hello")])
        .await
        .unwrap();
    let config = config_in(&store.ground);
    let refused = refusal(&config).await;
    assert!(
        refused.contains("duologue.db is in use by another server"),
        "{refused}"
    );
    assert!(duologue_store::migrate(&config).await.is_err());

    store.close().await;
    let second = duologue_store::open(&config).await.unwrap();
    assert_eq!(log(&*second, "s").await, [said(1, "hello")]);
    second.close().await;
}

/// Closing leaves one file to copy: nothing is left in the write-ahead log.
#[tokio::test]
async fn closing_finishes_what_waits_and_leaves_one_file() {
    let store = OpenStore::sqlite().await;
    let lease = claim(&*store, "s").await;
    let event = [said(1, "hello")];
    let (appended, ()) = tokio::join!(store.append(&lease, Seq::ZERO, &event), store.close());
    appended.unwrap();
    assert_unavailable(&store.append(&lease, Seq(1), &[said(2, "late")]).await);
    assert_unavailable(&store.ping().await);

    let mut files: Vec<_> = std::fs::read_dir(store.ground.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["duologue.db", "duologue.db.lock"]);
}

/// Somebody else's lock on the file makes writes fail after the timeout, not reads; and nothing has
/// to be restarted when it is gone.
#[tokio::test]
async fn a_file_that_another_program_holds_is_unavailable_until_it_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        busy_timeout: Duration::from_millis(20),
        ..config_in(&folder)
    };
    let store = duologue_store::open(&config).await.unwrap();
    let lease = claim(&*store, "s").await;
    let mut other = other_program(&folder);
    let lock = locked(&mut other);
    assert_unavailable(&store.append(&lease, Seq::ZERO, &[said(1, "hello")]).await);
    assert_unavailable(&store.ping().await);
    assert_eq!(log(&*store, "s").await, []);
    lock.rollback().unwrap();
    store
        .append(&lease, Seq::ZERO, &[said(1, "hello")])
        .await
        .unwrap();
    assert_eq!(log(&*store, "s").await, [said(1, "hello")]);
    store.close().await;
}

/// The queue has a bound. With the writer busy and one place to wait, most of these must be sent
/// away, and those that were not must be stored.
#[tokio::test]
async fn operations_beyond_the_queue_are_sent_away() {
    let folder = tempfile::tempdir().unwrap();
    let one = NonZero::new(1).unwrap();
    let config = StoreConfig {
        acquire_timeout: Duration::from_millis(20),
        queue_max: one,
        batch_max: one,
        ..config_in(&folder)
    };
    let store = duologue_store::open(&config).await.unwrap();
    let mut leases = Vec::new();
    for n in 0..6 {
        leases.push(claim(&*store, &format!("s{n}")).await);
    }
    let mut other = other_program(&folder);
    let lock = locked(&mut other);
    let event = [said(1, "hello")];
    let refused = std::cell::Cell::new(0);
    let appends = join_all(leases.iter().map(async |lease| {
        let appended = store.append(lease, Seq::ZERO, &event).await;
        refused.set(refused.get() + u32::from(appended.is_err()));
        appended
    }));
    // One is in work and one waits; the lock goes when the other four have been sent away.
    let unlock = async {
        while refused.get() < 4 {
            tokio::task::yield_now().await;
        }
        lock.rollback().unwrap();
    };
    let (appended, ()) = tokio::join!(appends, unlock);
    for (lease, appended) in leases.iter().zip(&appended) {
        let stored = log(&*store, lease.session_id.as_str()).await;
        assert_eq!(stored.len(), usize::from(appended.is_ok()));
    }
    assert_eq!(refused.get(), 4);
    store.close().await;
}

/// Once all, then nothing.
#[tokio::test]
async fn migrating_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(&folder);
    let applied = duologue_store::migrate(&config).await.unwrap();
    let all = ["0001_schema", "0002_batches", "0003_servers"];
    assert_eq!(applied, all);
    let applied = duologue_store::migrate(&config).await.unwrap();
    assert_eq!(applied, [""; 0]);
}
