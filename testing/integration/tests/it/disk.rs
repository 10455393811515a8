//! A disk that is full, that fails, or that must have been waited for: the real binary on a real file,
//! with the system's answers as `strace` gives or shows them.

use std::{path::Path, time::Duration};

use duologue_integration::{Client, DEADLINE, process::ServerProcess, server::http, trace::Trace};
use serde_json::json;

/// How SQLite writes to its log, and how it waits for the disk.
const WRITES: &str = "write,pwrite64";
const SYNCS: &str = "fsync,fdatasync";

/// Nothing is acknowledged while the disk is full; the server lives, and goes on when there is room.
#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    the_disk_refuses(WRITES, "ENOSPC").await;
}

/// The same where writing seems to work and the disk then says that it did not.
#[tokio::test]
async fn a_disk_that_fails_to_keep_a_write_costs_no_acknowledged_one() {
    the_disk_refuses(SYNCS, "EIO").await;
}

async fn the_disk_refuses(calls: &str, error: &str) {
    let settings = [("DUOLOGUE_SESSION__ATTACH_TIMEOUT", "200ms")];
    let server = ServerProcess::start_with(&settings).await;
    let mut client = Client::open(&server.socket_url("disk", "?user_id=alice")).await;
    client.ask("before").await;

    let mut wal = server.database().into_os_string();
    wal.push("-wal");
    let trace = Trace::refuse(server.id(), wal.as_ref(), calls, error).await;
    client
        .send_json(json!({ "message": "meanwhile", "id": "m1" }))
        .await;
    // The first attempt, and one that follows it.
    trace.until_refused(2).await;
    client.ping().await;
    let is_receipt = |frame: &&serde_json::Value| frame["id"] == "m1";
    assert_eq!(
        client.seen.iter().find(is_receipt),
        None,
        "nothing is stored"
    );
    // What is stored can be read, and a request that needs a write is refused with a time to retry.
    let facts = server.session_until("disk", "alice", |_| true).await;
    assert_eq!(facts["status"], "active");
    let health = format!("http://{}/healthz", server.address());
    let health = http().get(health).send().await;
    assert_eq!(health.expect("the server answers").status(), 200);
    let refused = Client::try_open(&server.socket_url("other", "?user_id=alice")).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else {
        panic!("a session was opened that cannot be stored")
    };
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));

    trace.detach().await;
    assert_eq!(client.answer().await.done["finish_reason"], "stop");
    assert_eq!(client.ask("after").await.done["finish_reason"], "stop");

    let events = "select payload from session_events where event_type = 'user_message'";
    let is_once = |rows: &[String]| rows.iter().filter(|row| row.contains("\"m1\"")).count() == 1;
    server.database_until(events, is_once).await;
    let file = server.database();
    let folder = server.kill().await;
    let database = rusqlite::Connection::open(&file).expect("it is a database");
    let integrity: String = database
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .expect("it can be read");
    assert_eq!(integrity, "ok");
    drop(folder);
}

/// Nothing is acknowledged that would be gone with the process.
#[tokio::test]
async fn a_deleted_file_is_noticed() {
    let (server, _client) = server_that_misses_its_file(|file| {
        std::fs::remove_file(file).expect("it can be deleted");
    })
    .await;
    server.kill().await;
}

/// The server neither reads nor writes a file that was put in the place of its own.
#[tokio::test]
async fn a_replaced_file_is_noticed_and_left_alone() {
    let (server, _client) = server_that_misses_its_file(|file| {
        let other = file.with_file_name("other.db");
        std::fs::write(&other, "not a database").expect("there is room");
        std::fs::rename(&other, file).expect("it can be replaced");
    })
    .await;
    let placed = std::fs::read_to_string(server.database()).expect("it is still text");
    assert_eq!(placed, "not a database");
    server.kill().await;
}

/// A file that comes back is the same file: what waited is stored.
#[tokio::test]
async fn a_moved_file_is_noticed_and_used_again_when_it_is_back() {
    let (server, mut client) = server_that_misses_its_file(|file| {
        std::fs::rename(file, file.with_file_name("moved.db")).expect("it can be moved");
    })
    .await;
    let moved = server.database().with_file_name("moved.db");
    std::fs::rename(moved, server.database()).expect("it can be moved back");
    assert_eq!(client.answer().await.done["finish_reason"], "stop");
    server_until(&server, |_, is_ready| is_ready).await;
    let events = "select payload from session_events where event_type = 'user_message'";
    let is_once = |rows: &[String]| rows.iter().filter(|row| row.contains("\"m1\"")).count() == 1;
    server.database_until(events, is_once).await;
    assert_eq!(server.terminate().await, Some(0));
}

/// Takes its file away from a running server, and makes sure that the server says so, is not ready, and
/// acknowledges nothing. The client has sent a message meanwhile.
async fn server_that_misses_its_file(take_away: impl FnOnce(&Path)) -> (ServerProcess, Client) {
    let server = ServerProcess::start().await;
    let mut client = Client::open(&server.socket_url("file", "?user_id=alice")).await;
    client.ask("before").await;
    take_away(&server.database());
    client
        .send_json(json!({ "message": "meanwhile", "id": "m1" }))
        .await;
    // Noticed, and attempted again since then.
    let attempts = |log: &str| log.matches("store.commit_failed").count();
    server_until(&server, |log, is_ready| !is_ready && attempts(log) >= 2).await;
    let log = server.log();
    let noticed = log.lines().find(|line| line.contains("store.file_changed"));
    let noticed = noticed.expect("it is logged");
    for part in [
        "ERROR",
        "duologue.db was deleted, moved or replaced",
        "restore a backup",
    ] {
        assert!(noticed.contains(part), "{noticed}");
    }
    client.ping().await;
    let is_receipt = |frame: &&serde_json::Value| frame["id"] == "m1";
    assert_eq!(client.seen.iter().find(is_receipt), None);
    (server, client)
}

/// Waits until the server's log and its readiness are as expected.
async fn server_until(server: &ServerProcess, is_so: impl Fn(&str, bool) -> bool) {
    let url = format!("http://{}/readyz", server.address());
    let asking = async {
        loop {
            let ready = http().get(&url).send().await.expect("the server answers");
            if is_so(&server.log(), ready.status() == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, asking).await;
    found.unwrap_or_else(|_| panic!("not in time:\n{}", server.log()));
}

/// A receipt is a promise for the case that the power fails. So between the write of a message to the
/// log and the receipt on the socket the disk has said that it is done; the order of the calls shows it.
#[tokio::test]
async fn a_receipt_leaves_only_after_the_disk_has_said_that_it_is_done() {
    const MESSAGES: usize = 5;
    let server = ServerProcess::start().await;
    let mut client = Client::open(&server.socket_url("power", "?user_id=alice")).await;
    let trace = Trace::watch(
        server.id(),
        &format!("{WRITES},{SYNCS},writev,sendto,sendmsg"),
    )
    .await;
    for n in 0..MESSAGES {
        client.ask(&format!("message-{n}-of-many")).await;
    }
    let calls = trace.detach().await;
    for n in 0..MESSAGES {
        let text = format!("message-{n}-of-many");
        let is_of = |call: &str, text: &str| call.contains("-wal>") && call.contains(text);
        let written = calls.iter().position(|call| is_of(call, &text));
        let written = written.expect("the message is written to the log");
        let told = calls.iter().position(|call| {
            call.contains("user_message") && call.contains(&text) && !call.contains("-wal>")
        });
        let told = told.expect("the receipt is sent");
        assert!(written < told, "{text}: sent before it was written");
        assert!(
            has_synced(&calls[written..told]),
            "{text}: sent before the disk was done:\n{}",
            calls[written..=told].join("\n")
        );
    }
    server.kill().await;
}

/// Whether a wait for the disk began and ended here. A call during which another thread was seen is
/// shown in two parts.
fn has_synced(calls: &[String]) -> bool {
    let is_sync = |call: &String| SYNCS.split(',').any(|name| call.contains(name));
    let mut syncs = calls.iter().filter(|call| is_sync(call));
    let Some(began) = syncs.find(|call| call.contains("-wal>")) else {
        return false;
    };
    let thread = began.split(' ').next();
    let ended = |call: &&String| call.ends_with("= 0") && call.split(' ').next() == thread;
    ended(&began) || syncs.any(|call| ended(&call))
}
