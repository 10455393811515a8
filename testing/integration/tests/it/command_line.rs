//! The command line of the real program: flags, and errors that say what to do.

use std::net::TcpListener;

use duologue_integration::process::run_to_end;

/// Goal: who starts a second server reads what to do; and the flags of `serve` work without its name.
/// Method: each way of writing the flag, for a port that somebody listens on.
#[tokio::test]
async fn a_port_in_use_is_named_however_it_was_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let expected =
        format!("duologue: port {port} is already in use; choose another with --port or PORT\n");
    for command in [
        &["serve", "--port", &port] as &[&str],
        &["--port", &port],
        &["--port", &port, "serve"],
    ] {
        let output = run_to_end(folder.path(), command, &[("NO_COLOR", "1")]).await;
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.ends_with(&expected), "{command:?}: {errors}");
    }
}

/// A flag of `serve` before another command is a mistake, and not ignored.
#[tokio::test]
async fn a_flag_of_serve_is_refused_with_other_commands() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_to_end(folder.path(), &["--port", "9000", "config"], &[]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("--host, --port and --agent are flags of `duologue serve`"),
        "{errors}"
    );
    assert!(output.stdout.is_empty(), "{output:?}");
}
