//! Signals that do not stop a server.

use duologue_integration::{Client, process::ServerProcess};

/// By default each of them ends a process at once. They are sent by log rotation, service managers
/// and terminals.
#[tokio::test]
async fn signals_that_mean_reload_are_logged_and_change_nothing() {
    let server = ServerProcess::start().await;
    let mut client = Client::open(&server.socket_url("s", "?user_id=alice")).await;
    for signal in ["HUP", "USR1", "USR2"] {
        server.signal(signal).await;
        let is_entry = |line: &str| {
            line.contains("nothing to reload") && line.contains(&format!("SIG{signal}"))
        };
        server.log_until(|log| log.lines().any(is_entry)).await;
        assert_eq!(client.ask("hello").await.done["finish_reason"], "stop");
    }
    client.close(1000).await;
    assert_eq!(server.terminate().await, Some(0));
}
