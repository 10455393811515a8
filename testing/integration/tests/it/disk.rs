//! A disk that is full, that fails, or that must have been waited for: the real binary on a real file,
//! with the system's answers as `strace` gives or shows them.

use duologue_integration::{Client, process::ServerProcess, server::http, trace::Trace};
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
