//! Sessions whose summaries cannot be made: whatever they do to the model or to the server, the
//! others get theirs, and an operator can have them tried again.

use std::path::Path;

use duologue_integration::{
    Client,
    process::{ServerProcess, run_to_end},
};
use duologue_llm::testing::{Script, ScriptedUpstream};
use serde_json::Value;

/// What the poisonous sessions are called, and what is said in them.
const POISON: [&str; 3] = ["fails", "hangs", "kills"];

async fn talk(server: &ServerProcess, session: &str) {
    let mut client = Client::open(&server.socket_url(session, "?user_id=alice")).await;
    client.ask(&format!("this {session}")).await;
    client.close(1000).await;
}

fn is_completed(session: &Value) -> bool {
    session["status"] == "completed"
}

/// Runs a command on the server's database; what it says, and its exit code.
async fn run(folder: &Path, command: &[&str]) -> (String, Option<i32>) {
    let output = run_to_end(folder, command, &[]).await;
    let text = String::from_utf8(output.stdout).expect("it is text");
    (text, output.status.code())
}

/// The summary's request shows the transcript, so the upstream knows the poison by what was said.
fn summary_of(session: &str) -> String {
    format!("user: this {session}")
}

/// The poisonous sessions' jobs are those that failed, after all their attempts.
async fn assert_listed(folder: &Path) {
    let (listed, code) = run(folder, &["jobs", "list", "--failed", "--json"]).await;
    assert_eq!(code, Some(0));
    let jobs: Vec<Value> = listed
        .lines()
        .map(|job| serde_json::from_str(job).expect("JSON"))
        .collect();
    let mut sessions: Vec<_> = jobs
        .iter()
        .map(|job| job["session_id"].as_str().expect("a string"))
        .collect();
    sessions.sort_unstable();
    assert_eq!(sessions, POISON);
    for job in &jobs {
        // The one that kills is given up by the worker that finds its attempts used up.
        let attempts = if job["session_id"] == "kills" { 4 } else { 3 };
        assert_eq!(
            (&job["state"], &job["attempt"]),
            (&"failed".into(), &attempts.into()),
            "{job}"
        );
    }
}

/// Goal: a transcript that makes the model fail, or hang, or the process die, is given up after its
/// attempts, and holds up nobody else; then `duologue jobs` shows it and brings it back.
///
/// An attempt that kills its process is made by killing the process as soon as the model has been
/// asked. The attempts are counted before the work, so this comes to an end.
#[tokio::test]
async fn a_poisonous_transcript_stops_nobody_else_and_can_be_tried_again() {
    let upstream = ScriptedUpstream::start().await;
    upstream.otherwise(Script::text("Well."));
    upstream.about(&summary_of("fails"), Script::error(400, "this is too much"));
    upstream.about(&summary_of("hangs"), Script::stream().stall());
    upstream.about(&summary_of("kills"), Script::stream().stall());
    let settings = [
        ("OPENAI_API_KEY", "sk-test"),
        ("OPENAI_BASE_URL", &*upstream.base_url()),
        ("DUOLOGUE_JOBS__RETRY_DELAYS", "[\"10ms\", \"10ms\"]"),
        ("DUOLOGUE_JOBS__POLL_INTERVAL", "20ms"),
        ("DUOLOGUE_JOBS__WORKERS", "4"),
        ("DUOLOGUE_GENERATION__FIRST_TOKEN_TIMEOUT", "300ms"),
        ("DUOLOGUE_GENERATION__RETRIES_MAX", "0"),
    ];
    let mut server = ServerProcess::start_with(&settings).await;
    talk(&server, "kills").await;
    // Its three attempts end with their process each.
    for attempt in 1..=3 {
        upstream.wait_for_requests(1 + attempt).await;
        server = server.kill_and_restart().await;
    }
    for session in ["fails", "hangs", "harmless"] {
        talk(&server, session).await;
    }
    for session in POISON {
        let facts = server.session_until(session, "alice", is_completed).await;
        assert_eq!(facts["summary_status"], "failed", "{facts}");
        assert_eq!(facts["summary"], Value::Null);
    }
    let facts = server
        .session_until("harmless", "alice", is_completed)
        .await;
    assert_eq!(facts["summary_status"], "done", "{facts}");

    assert_listed(server.folder()).await;

    // The model has been fixed.
    for session in POISON {
        upstream.about(&summary_of(session), Script::text("At last."));
    }
    let (told, code) = run(server.folder(), &["jobs", "retry", "--all-failed"]).await;
    assert_eq!(
        (told.matches("will be retried").count(), code),
        (3, Some(0)),
        "{told}"
    );
    for session in POISON {
        let is_done = |facts: &Value| facts["summary_status"] == "done";
        let facts = server.session_until(session, "alice", is_done).await;
        assert_eq!(
            (&facts["summary"], is_completed(&facts)),
            (&"At last.".into(), true)
        );
    }
    let (listed, _) = run(server.folder(), &["jobs", "list", "--failed"]).await;
    assert_eq!(listed, "no failed jobs\n");
    assert_eq!(
        run(server.folder(), &["verify"]).await,
        (String::new(), Some(0))
    );
    server.kill().await;
}

/// A mistyped number gets a message with what to do, and nothing happens.
#[tokio::test]
async fn a_job_that_is_not_there_is_not_tried_again() {
    let server = ServerProcess::start().await;
    let output = run_to_end(server.folder(), &["jobs", "retry", "7"], &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("there is no job 7; `duologue jobs list` lists"),
        "{told}"
    );
    let (listed, code) = run(server.folder(), &["jobs", "list"]).await;
    let none = "no jobs: no session has ended yet\n";
    assert_eq!((&*listed, code), (none, Some(0)));
    let (told, code) = run(server.folder(), &["jobs", "retry", "--all-failed"]).await;
    assert_eq!(
        (told.contains("nothing to do"), code),
        (true, Some(0)),
        "{told}"
    );
    server.kill().await;
}
