//! Floods of what no honest client sends, with an honest one beside them that must notice nothing.
//!
//! What is sent is generated from a fixed seed, so that a failure comes again. CI sends a dose of it;
//! `DUOLOGUE_HOSTILE_DOSES=10` in the environment sends ten times as much, which is a hundred thousand
//! frames and ten thousand requests.

mod content;
mod frames;
mod honest;
mod requests;

use std::time::Duration;

use duologue_integration::{Client, DEADLINE, process::ServerProcess};

/// The multiple of CI's dose that is asked for.
#[expect(
    clippy::disallowed_methods,
    reason = "it is an option of the test, not a setting"
)]
fn doses() -> u64 {
    let doses = std::env::var("DUOLOGUE_HOSTILE_DOSES").unwrap_or_else(|_| "1".into());
    doses.parse().expect("DUOLOGUE_HOSTILE_DOSES is a number")
}

/// A server in a process of its own, which forgets hostile sessions at once.
async fn server(settings: &[(&str, &str)]) -> ServerProcess {
    let mut all = vec![
        ("DUOLOGUE_SESSION__RESUME_GRACE", "0s"),
        ("DUOLOGUE_SERVER__CORE_DUMPS", "true"),
        // Each connection to the database is a file, and opened when it is first needed.
        ("DUOLOGUE_STORE__CONNECTIONS_MAX", "1"),
        ("DUOLOGUE_LOG__FILTER", "info"),
    ];
    all.extend(settings);
    let server = ServerProcess::start_with(&all).await;
    // It takes what it needs once, before it is measured.
    let mut client = Client::open(&server.socket_url("first", "?user_id=first")).await;
    for _ in 0..3 {
        client.ask("hello").await;
    }
    client.close(1000).await;
    server
        .session_until("first", "first", |facts| facts["status"] == "completed")
        .await;
    server
}

/// What must hold once a flood is over: nothing stays open, and the log has no fault of the server's own.
async fn assert_recovered(server: &ServerProcess, descriptors_before: usize) {
    let recovering = async {
        while server.file_descriptors() > descriptors_before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, recovering).await.is_err() {
        let now = server.file_descriptors();
        panic!("{descriptors_before} files and sockets were open before, and {now} are now");
    }
    let log = server.log();
    let fault = log
        .lines()
        .find(|line| line.contains("ERROR") || line.contains("panicked"));
    assert_eq!(fault, None, "the log tells of a fault");
}
