//! A client by other authors: Python's `websockets`, in both dialects.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use duologue_integration::{DEADLINE, TestServer};
use tokio::process::Command;

/// The interpreter of the virtual environment in cargo's target folder.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let environment = target
        .expect("cargo's folder for tests is inside its target folder")
        .join("python");
    // Written last, so an environment that has it is complete.
    let installed = environment.join("installed.txt");
    assert!(
        installed.is_file(),
        "{} is missing: run `cargo xtask setup`, which installs what tests use from PyPI",
        installed.display()
    );
    environment.join("bin/python")
}

/// Runs the script against a running server; it exits with 0 if it saw what it should.
#[tokio::test]
async fn the_python_websockets_client_talks_in_both_dialects() {
    let python = python();
    let server = TestServer::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/outside.py");
    for dialect in ["json", "text"] {
        let url = server.socket_url(&format!("python-{dialect}"), &format!("?frames={dialect}"));
        let run = Command::new(&python)
            .args([script, &url, dialect])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(DEADLINE, run)
            .await
            .expect("the script ends in time");
        let output = output.expect("the interpreter can be run");
        assert!(
            output.status.success(),
            "{dialect}: {}",
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
