//! SIGKILL and SIGTERM to the real binary: what was acknowledged stays, what was due is done.

use duologue_integration::{Client, process::ServerProcess};
use duologue_llm::testing::{Script, ScriptedUpstream};
use serde_json::json;

/// Killed between the end and the summary, the server makes the summary after its next start.
///
/// The first server's model never answers the request for the summary, so the kill always falls
/// between the two; the second one has the mock.
#[tokio::test]
async fn a_summary_survives_the_death_of_the_server() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will_say("It is sunny.");
    upstream.otherwise(Script::stream().stall());
    let settings = [
        ("OPENAI_API_KEY", "sk-test"),
        ("OPENAI_BASE_URL", &upstream.base_url()),
    ];
    let server = ServerProcess::start_with(&settings).await;
    let mut client = Client::open(&server.socket_url("job", "?user_id=alice")).await;
    client.ask("What is the weather?").await;
    client.close(1000).await;
    upstream.wait_for_requests(2).await;
    server
        .session_until("job", "alice", |session| session["status"] == "ended")
        .await;
    let folder = server.kill().await;
    let server = ServerProcess::start_in(folder, &[]).await;
    let facts = server
        .session_until("job", "alice", |session| session["status"] == "completed")
        .await;
    assert_eq!(facts["summary_status"], "done");
    assert!(
        facts["summary"].as_str().unwrap().contains("weather"),
        "{facts}"
    );
    server.kill().await;
}

/// Killed in mid-answer, the server keeps every acknowledged message and closes the turn as
/// interrupted, so that the next one can begin.
#[tokio::test]
async fn an_answer_cut_by_a_kill_is_closed_as_interrupted() {
    let settings = [("DUOLOGUE_SESSION__DRAFT_INTERVAL", "20ms")];
    let server = ServerProcess::start_with(&settings).await;
    let mut client = Client::open(&server.socket_url("cut", "?user_id=alice")).await;
    client
        .send_json(json!({ "message": "mock:words=50 mock:stall_at=10", "id": "m1" }))
        .await;
    while client.until("token").await["index"] != 9 {}
    let last_seq = client.last_seq;
    // There is no sign on the wire that the draft is stored; the database shows it.
    let draft = server.database_until("select text from session_drafts", |drafts| {
        drafts
            .iter()
            .any(|text| text.split_whitespace().count() == 10)
    });
    draft.await;

    let server = server.kill_and_restart().await;
    let query = format!("?user_id=alice&after={last_seq}");
    let mut client = Client::open(&server.socket_url("cut", &query)).await;
    client.last_seq = last_seq;
    let done = client.until("done").await;
    assert_eq!(done["finish_reason"], "interrupted");
    assert_eq!(
        done["text"].as_str().unwrap().split_whitespace().count(),
        10,
        "{done}"
    );
    client.until("replayed").await;
    // Sending again what was acknowledged is answered from the log, not with another turn.
    client
        .send_json(json!({ "message": "mock:words=50 mock:stall_at=10", "id": "m1" }))
        .await;
    let receipt: serde_json::Value =
        serde_json::from_str(&client.receive_text().await.unwrap()).unwrap();
    assert_eq!(
        (&receipt["type"], &receipt["id"]),
        (&json!("user_message"), &json!("m1"))
    );
    server.kill().await;
}

/// SIGTERM stops the server in order: readers receive `goaway`, the exit code is 0, no session is ended.
#[tokio::test]
async fn sigterm_releases_sessions_and_exits_with_0() {
    let server = ServerProcess::start().await;
    let mut client = Client::open(&server.socket_url("term", "?user_id=alice")).await;
    client.ask("hello").await;
    let told = async {
        assert_eq!(client.until("goaway").await["reason"], "restart");
        assert_eq!(client.until_closed().await.0, 1012);
    };
    let (code, ()) = tokio::join!(server.terminate(), told);
    assert_eq!(code, Some(0));
}
