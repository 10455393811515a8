//! `duologue verify` by the real binary, on each kind of store: it finds nothing where nothing is
//! wrong, be it in the middle of a turn, and whatever has been tampered with.

use std::{path::Path, process::Output};

use duologue_integration::{
    Client, TestServer,
    postgres::{Cluster, Database},
    process::{ServerProcess, run_to_end},
    server::ServerBuilder,
    supabase::{Project, SECRET_KEY},
};
use serde_json::Value;
use sqlx::Executor;

/// What is found, its lines without their details, and the exit code.
fn verdict(output: &Output) -> (Vec<String>, Option<i32>) {
    let text = String::from_utf8(output.stdout.clone()).expect("it is text");
    let found = text.lines().map(|line| {
        let mut parts = line.split(": ");
        format!(
            "{}: {}",
            parts.next().unwrap_or(""),
            parts.next().unwrap_or("")
        )
    });
    (found.collect(), output.status.code())
}

fn is_done(session: &Value) -> bool {
    session["summary_status"] == "done"
}

/// A session with two turns, one with a tool, that has ended and has its summary.
async fn converse(mut client: Client) {
    client.ask("Check order status for order_id=ORD-1001").await;
    client.ask("mock:words=5").await;
    client.close(1000).await;
}

/// Beside the server and after it; also what has no end yet is in order.
#[tokio::test]
async fn nothing_is_found_beside_a_server_and_after_it() {
    let server = ServerProcess::start().await;
    converse(Client::open(&server.socket_url("done", "?user_id=alice")).await).await;
    server.session_until("done", "alice", is_done).await;
    let mut client = Client::open(&server.socket_url("running", "?user_id=alice")).await;
    client.send("mock:words=50 mock:stall_at=3").await;
    client.until("token").await;

    let output = run_to_end(server.folder(), &["verify"], &[]).await;
    assert_eq!(verdict(&output), (Vec::new(), Some(0)));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("2 sessions checked, no violations"), "{told}");
    // It has not disturbed the server.
    assert_eq!(client.until("token").await["type"], "token");

    let folder = server.kill().await;
    let output = run_to_end(folder.path(), &["verify"], &[]).await;
    assert_eq!(verdict(&output), (Vec::new(), Some(0)));
    // And the server starts again on what was looked at.
    let server = ServerProcess::start_in(folder, &[]).await;
    server.session_until("done", "alice", is_done).await;
    server.kill().await;
}

/// What breaks an invariant, and which.
const TAMPERING: [(&str, &str); 12] = [
    ("update session_events set payload = '{}' where event_type = 'user_message'", "readable"),
    ("delete from session_events where seq = 4", "gap-free"),
    ("update session_events set seq = seq + 100 where event_type = 'session_summarized'", "gap-free"),
    (
        "update session_events set payload = json_set(payload, '$.id', 'm') where event_type = 'user_message'",
        "message-once",
    ),
    (
        "update session_events set event_type = 'imported', payload = '{\"former_type\": \"x\"}'
            where seq = (select max(seq) from session_events where event_type = 'assistant_message')",
        "turn-closed",
    ),
    (
        "update session_events set payload = json_set(payload, '$.call_id', 'other')
            where event_type = 'tool_result'",
        "call-answered",
    ),
    (
        "update session_events set event_type = 'session_ended', payload = '{\"reason\": \"idle\"}'
            where event_type = 'session_summarized'",
        "ended-once",
    ),
    ("update session_events set epoch = 7 where seq = 3", "single-writer"),
    ("update session_events set occurred_at = '2001-01-01T00:00:00.000000Z' where seq = 5", "time-forward"),
    ("update sessions set end_time = '2001-01-01T00:00:00.000000Z'", "row-is-fold"),
    ("delete from session_jobs", "job-per-ending"),
    ("update sessions set end_reason = 'nonsense'", "readable"),
];

fn tamper(file: &Path, sql: &str) {
    let database = rusqlite::Connection::open(file).expect("it is a database");
    let changed = database.execute(sql, ()).expect(sql);
    assert!(changed > 0, "{sql}");
    database.close().expect("it closes");
}

#[tokio::test]
async fn whatever_is_tampered_with_is_found() {
    let server = ServerProcess::start().await;
    converse(Client::open(&server.socket_url("s", "?user_id=alice")).await).await;
    server.session_until("s", "alice", is_done).await;
    let folder = server.kill().await;
    let original = folder.path().join("original.db");
    // So that all is in the file itself, and it can be copied.
    let whole = rusqlite::Connection::open(folder.path().join("duologue.db")).unwrap();
    let copied = whole.execute("vacuum into ?1", (original.to_str(),));
    copied.unwrap();
    whole.close().unwrap();

    for (sql, invariant) in TAMPERING {
        let copy = tempfile::tempdir().unwrap();
        let file = copy.path().join("duologue.db");
        std::fs::copy(&original, &file).unwrap();
        tamper(&file, sql);
        let output = run_to_end(copy.path(), &["verify"], &[]).await;
        let (found, code) = verdict(&output);
        assert!(
            found.contains(&format!("s: {invariant}")),
            "{sql}: {found:?}"
        );
        assert_eq!(code, Some(1), "{sql}");
    }
}

/// That nobody could look must not pass for "in order", nor for "broken".
#[tokio::test]
async fn what_cannot_be_checked_is_told_from_what_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_to_end(folder.path(), &["verify"], &[]).await;
    assert_eq!(verdict(&output), (Vec::new(), Some(2)));
    assert!(!folder.path().join("duologue.db").exists());
    let nowhere = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nowhere")];
    let output = run_to_end(folder.path(), &["verify"], &nowhere).await;
    assert_eq!(verdict(&output), (Vec::new(), Some(2)));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("the verification is incomplete"), "{told}");
}

/// Talks, looks, tampers, and looks again.
async fn is_verified(server: ServerBuilder, database: &Database, settings: &[(&str, &str)]) {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let server = server.start().await;
    converse(server.connect("s", "alice").await).await;
    server.session_until("s", "alice", is_done).await;
    let mut open = server.connect("open", "alice").await;
    open.until("client_connected").await;

    let output = run_to_end(folder.path(), &["verify"], settings).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(verdict(&output), (Vec::new(), Some(0)), "{told}");
    assert!(told.contains("2 sessions checked"), "{told}");

    let mut admin = database.connect().await;
    let forged = "update session_events set occurred_at = '2001-01-01' where seq = 5";
    let forged = admin.execute(forged).await.expect("the owner may");
    assert!(forged.rows_affected() > 0);
    let deleted = admin.execute("delete from session_jobs").await;
    deleted.expect("the owner may");
    let output = run_to_end(folder.path(), &["verify"], settings).await;
    let expected = ["s: time-forward", "s: job-per-ending"].map(str::to_owned);
    assert_eq!(verdict(&output), (expected.to_vec(), Some(1)));

    let output = run_to_end(folder.path(), &["jobs", "list"], settings).await;
    assert_eq!(output.status.code(), Some(0));
    server.stop().await;
}

#[tokio::test]
async fn a_postgres_is_verified_beside_its_server() {
    let database = Cluster::get().await.database().await;
    let url = database.url();
    let settings = [("DATABASE_URL", &*url)];
    let server = TestServer::builder()
        .set("DATABASE_URL", &url)
        .without_file();
    is_verified(server, &database, &settings).await;
}

#[tokio::test]
async fn a_supabase_project_is_verified_beside_its_server() {
    let project = Project::new().await;
    let url = project.url();
    let settings = [
        ("SUPABASE_URL", &*url),
        ("SUPABASE_SERVICE_ROLE_KEY", SECRET_KEY),
    ];
    let server = TestServer::builder()
        .set("SUPABASE_URL", &url)
        .set("SUPABASE_SERVICE_ROLE_KEY", SECRET_KEY)
        .without_file();
    is_verified(server, project.database(), &settings).await;
}
