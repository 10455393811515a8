//! A client that is none of ours: Python's `websockets`, in both dialects.

use std::process::Stdio;

use duologue_integration::{DEADLINE, TestServer};
use tokio::process::Command;

/// Runs the script against a running server; it exits with 0 if it saw what it should.
#[tokio::test]
async fn the_python_websockets_client_talks_in_both_dialects() {
    let server = TestServer::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/outside.py");
    for dialect in ["json", "text"] {
        let url = server.socket_url(&format!("python-{dialect}"), &format!("?frames={dialect}"));
        // Debian's package serves Debian's interpreter, which need not be the first on the path.
        let run = Command::new("/usr/bin/python3")
            .args([script, &url, dialect])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(DEADLINE, run)
            .await
            .expect("the script ends in time");
        let output = output.expect("python3 is there: apt-get install python3-websockets");
        assert!(
            output.status.success(),
            "{dialect}: {}\n(needs: apt-get install python3-websockets)",
            String::from_utf8_lossy(&output.stderr)
        );
        let session = format!("python-{dialect}");
        let facts = server
            .session_until(&session, "anonymous", |session| {
                session["status"] == "completed"
            })
            .await;
        assert_eq!(facts["end_reason"], "closed");
    }
    server.stop().await;
}
