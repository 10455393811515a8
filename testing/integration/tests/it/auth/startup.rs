//! A server that other machines reach does not start without authentication.

use duologue_integration::{TestServer, process::run_to_end};

#[tokio::test]
async fn without_authentication_it_starts_on_this_machine_only() {
    let folder = tempfile::tempdir().unwrap();
    for host in ["0.0.0.0", "::"] {
        let settings = [("HOST", host), ("PORT", "0")];
        let refused = run_to_end(folder.path(), &["serve"], &settings).await;
        assert_eq!(refused.status.code(), Some(1), "{host}");
        let words = String::from_utf8_lossy(&refused.stderr);
        for named in ["server.host", "auth.mode", "auth.allow_anonymous"] {
            assert!(words.contains(named), "{words}");
        }
        let check = run_to_end(folder.path(), &["check"], &settings).await;
        assert_eq!(check.status.code(), Some(1), "{host}");
        let table = String::from_utf8_lossy(&check.stdout);
        assert!(table.contains("auth   FAILS"), "{table}");
    }
    assert!(
        !folder.path().join("duologue.db").exists(),
        "nothing was opened"
    );
}

#[tokio::test]
async fn it_starts_elsewhere_where_that_is_allowed_by_name() {
    let server = TestServer::builder()
        .set("HOST", "0.0.0.0")
        .set("DUOLOGUE_AUTH__ALLOW_ANONYMOUS", "true");
    server.start().await.stop().await;
}
