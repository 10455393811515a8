//! Looks at a SQLite file, opens it and migrates it.

use tempfile::TempDir;

use crate::{
    Condition, StoreConfig,
    migrations::{NEEDED, NEWEST},
};

fn config(folder: &TempDir) -> StoreConfig {
    let file = folder.path().join("d.db");
    crate::config::tests::config(&format!("sqlite:{}", file.display()))
}

fn execute(folder: &TempDir, sql: &str) {
    let connection = rusqlite::Connection::open(folder.path().join("d.db")).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// From nothing to a served file: what a look finds at each step. It never makes the file.
#[tokio::test]
async fn a_look_tells_how_the_file_is_and_leaves_it_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let look = async || crate::check(&config).await.unwrap();
    assert_eq!(look().await, Condition::MigratedAtStart { schema: 0 });
    assert!(!folder.path().join("d.db").exists());

    crate::migrate(&config).await.unwrap();
    assert_eq!(look().await, Condition::Ready { schema: NEEDED });
    let folder = tempfile::tempdir().unwrap();
    let config = self::config(&folder);
    let store = crate::open(&config).await.unwrap();
    assert_eq!(crate::check(&config).await.unwrap(), Condition::InUse);
    store.close().await;
}

/// Another program's database keeps its journal and its tables.
#[tokio::test]
async fn a_look_changes_nothing_in_a_database_of_somebody_else() {
    let folder = tempfile::tempdir().unwrap();
    execute(&folder, "create table theirs (id integer)");
    let before = std::fs::read(folder.path().join("d.db")).unwrap();
    crate::check(&config(&folder)).await.unwrap();
    let after = std::fs::read(folder.path().join("d.db")).unwrap();
    assert!(before == after);
}

/// A file that a much newer build has migrated is neither served nor found in order.
#[tokio::test]
async fn a_file_of_the_far_future_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    crate::migrate(&config).await.unwrap();
    execute(
        &folder,
        "insert into duologue_migrations values (999, 'later', current_timestamp, true, '', 0)",
    );
    let refused =
        format!("are of version 999, and this build can use {NEEDED} to {NEWEST}; start the newer");
    let Err(served) = crate::open(&config).await else {
        panic!("it was served");
    };
    for error in [served, crate::check(&config).await.unwrap_err()] {
        assert!(error.to_string().contains(&refused), "{error}");
    }
}
