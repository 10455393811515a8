//! Restoring a backup of a SQLite file, and `duologue restored`, with the real binary.

use std::{fs, path::Path};

use duologue_integration::{
    Client,
    process::{ServerProcess, run_to_end},
};
use serde_json::Value;

/// The database and the file beside it that has its latest commits.
const FILES: [&str; 2] = ["duologue.db", "duologue.db-wal"];

/// Copies the database from one folder to another that has none, or an older one.
fn copy_database(from: &Path, to: &Path) {
    for name in FILES {
        let (source, target) = (from.join(name), to.join(name));
        if source.exists() {
            fs::copy(&source, &target).expect("it can be copied");
        } else if target.exists() {
            fs::remove_file(&target).expect("it can be removed");
        }
    }
    // Its content belongs to the file that was there before.
    let index = to.join("duologue.db-shm");
    if index.exists() {
        fs::remove_file(index).expect("it can be removed");
    }
}

/// Goal: a restored session is another history to everyone who knew it before. Method: a conversation, a
/// copy of its file, one more turn, and the copy is put back. After the command the session has a new log
/// id, its log is sound, and it goes on.
#[tokio::test]
async fn a_restored_file_has_new_log_ids_and_goes_on() {
    let server = ServerProcess::start().await;
    let mut client = Client::open(&server.socket_url("s", "?user_id=alice")).await;
    client.ask("mock:words=3").await;
    let before = server.session_until("s", "alice", |_| true).await;
    let folder = server.kill().await;
    let backup = tempfile::tempdir().expect("a temporary folder");
    copy_database(folder.path(), backup.path());

    let server = ServerProcess::start_in(folder, &[]).await;
    let mut client = Client::open(&server.socket_url("s", "?user_id=alice&after=0")).await;
    client.until("replayed").await;
    client.ask("mock:words=3").await;
    let folder = server.kill().await;
    copy_database(backup.path(), folder.path());

    let output = run_to_end(folder.path(), &["restored"], &[]).await;
    let told = String::from_utf8(output.stdout).expect("it is text");
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 session marked as restored"), "{told}");

    let server = ServerProcess::start_in(folder, &[]).await;
    let after = server.session_until("s", "alice", |_| true).await;
    assert_ne!(after["log_id"], before["log_id"]);
    assert_eq!(after["last_seq"], before["last_seq"]);
    // The client of before, which has received more than the restored log has, or as much as it will have.
    let log_id = |session: &Value| session["log_id"].as_str().expect("an id").to_owned();
    for (after_seq, known, is_refused) in [
        (2, log_id(&before), true),
        (2, log_id(&after), false),
        (9_999, log_id(&after), true),
    ] {
        let query = format!("?user_id=alice&after={after_seq}&log_id={known}");
        let mut client = Client::open(&server.socket_url("s", &query)).await;
        let opened = client.receive().await;
        assert_eq!(opened["log_id"], after["log_id"]);
        let next = client.receive().await;
        assert_eq!(next["code"] == "unknown_position", is_refused, "{next}");
        client.vanish();
    }
    let mut client = Client::open(&server.socket_url("s", "?user_id=alice&after=0")).await;
    client.until("replayed").await;
    assert_eq!(
        client.ask("mock:words=3").await.done["finish_reason"],
        "stop"
    );
    let output = run_to_end(server.folder(), &["verify"], &[]).await;
    let found = String::from_utf8(output.stdout).expect("it is text");
    assert_eq!(found, "");
    server.kill().await;
}

/// Without a file there is nothing to mark, and none is created.
#[tokio::test]
async fn without_a_database_it_is_said_that_there_is_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run_to_end(folder.path(), &["restored"], &[]).await;
    let told = String::from_utf8(output.stderr).expect("it is text");
    assert!(!output.status.success());
    assert!(told.contains("does not exist"), "{told}");
    assert!(!folder.path().join("duologue.db").exists());
}
