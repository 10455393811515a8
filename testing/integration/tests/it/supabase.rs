//! A server whose sessions are in a Supabase project, through its REST interface; and what
//! Supabase's own client shows of them to whom.

use std::{process::Stdio, time::Duration};

use duologue_integration::{
    DEADLINE, TestServer,
    fault_proxy::Fault,
    server::ServerBuilder,
    supabase::{PUBLISHABLE_KEY, Project, SECRET_KEY},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::postgres::converse;

/// Supabase's users are known by UUIDs.
const ALICE: &str = "0b0e7f4e-58a6-4d3c-9a3b-5d1c8f6f1a11";
const BOB: &str = "5f7d3f0a-2f6e-4c55-8f1f-0e6d5a1b2c22";

fn server_of(project: &Project) -> ServerBuilder {
    TestServer::builder()
        .set("SUPABASE_URL", &project.url())
        .set("SUPABASE_SERVICE_ROLE_KEY", SECRET_KEY)
        .without_file()
}

#[tokio::test]
async fn a_conversation_lives_in_a_supabase_project() {
    let project = Project::new().await;
    converse(server_of(&project)).await;
}

/// Goal: a round trip over the internet costs tens of milliseconds, so a turn makes few of them,
/// however many pieces its answer has.
#[tokio::test]
async fn a_turn_makes_as_few_requests_as_it_has_moments() {
    let project = Project::new().await;
    let server = server_of(&project).start().await;
    let mut client = server.connect("few", "alice").await;
    client.until("client_connected").await;
    project.gateway.will([]);
    let answer = client.ask("mock:words=300").await;
    assert!(answer.of_type("token").len() > 100);
    let seen = project.gateway.seen();
    let appends = seen.iter().filter(|call| call.path.ends_with("_append"));
    let appends = appends.count();
    assert!(appends <= 3, "{appends} requests for one turn");
    server.stop().await;
}

/// Goal: sessions that talk at the same time share their requests, so that the distance to the project limits
/// each of them and not all together. Method: 50 sessions with a turn after the other, and a gateway that
/// delays each request by 20 ms.
#[tokio::test]
async fn sessions_share_their_requests() {
    const SESSIONS: usize = 50;
    const TURNS: usize = 10;
    let project = Project::new().await;
    let server = server_of(&project).start().await;
    let mut clients = Vec::new();
    for number in 0..SESSIONS {
        let name = format!("shared-{number}");
        let mut client = server.connect(&name, &name).await;
        client.until("client_connected").await;
        clients.push(client);
    }
    let delay = Fault::Delay(Duration::from_millis(20));
    project.gateway.will(vec![delay; SESSIONS * TURNS * 10]);
    let talking = clients.iter_mut().map(async |client| {
        for _ in 0..TURNS {
            client.ask("mock:words=1").await;
        }
    });
    join_all(talking).await;
    let seen = project.gateway.seen().len();
    let turns = SESSIONS * TURNS;
    println!("{seen} requests for {turns} turns");
    assert!(seen * 5 <= turns, "{seen} requests for {turns} turns");
    server.stop().await;
}

/// What Supabase's client gets to see and do, with the project's publishable key.
async fn look(project: &Project, token: Option<&str>) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/postgrest/look.mjs");
    let task = json!({
        "url": project.url(),
        "key": PUBLISHABLE_KEY,
        "token": token,
        "user": ALICE,
        "sessions": ["of-alice", "of-bob"],
    });
    let run = Command::new("node")
        .args([script, &task.to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, run).await;
    let output = output.expect("the script ends in time");
    let output = output.expect("node is there: apt-get install nodejs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
}

/// Goal: the tables are open to the browsers of the project's users through Supabase's own client,
/// which must show each of them their own sessions and nothing else, and let nobody write.
#[tokio::test]
async fn supabases_client_shows_users_their_own_sessions_and_strangers_nothing() {
    let project = Project::new().await;
    let server = server_of(&project).start().await;
    for (session, user) in [("of-alice", ALICE), ("of-bob", BOB)] {
        let mut client = server.connect(session, user).await;
        client.ask("hello").await;
        client.close(1000).await;
        server
            .session_until(session, user, |facts| facts["status"] == "completed")
            .await;
    }
    let mut replay = server.resume("of-alice", ALICE, 0).await;
    replay.until("replayed").await;
    server.stop().await;

    let token = project.user_token(ALICE);
    let alice = look(&project, Some(&token)).await;
    let sessions = alice["sessions"].as_array().expect("she may read");
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_eq!(sessions[0]["session_id"], "of-alice");
    assert!(sessions[0]["summary"].as_str().unwrap().contains("hello"));
    let said: Vec<_> = texts(&alice["events"]["of-alice"]);
    let shown: Vec<_> = texts(&json!(replay.seen));
    assert_eq!(said, shown, "the events are those of the log");
    assert!(said.len() >= 2);
    assert_eq!(alice["events"]["of-bob"], json!([]));
    assert_nothing_written(&alice);

    let stranger = look(&project, None).await;
    assert_eq!(stranger["sessions"], Value::Null, "{stranger}");
    for session in ["of-alice", "of-bob"] {
        assert_eq!(stranger["events"][session], Value::Null, "{stranger}");
    }
    assert_nothing_written(&stranger);
}

/// The texts of events, whether they are rows of the table or frames of the wire.
fn texts(events: &Value) -> Vec<Value> {
    let events = events.as_array().expect("events are a list").iter();
    let texts = events.map(|event| match &event["payload"] {
        Value::Null => event["text"].clone(),
        payload => payload["text"].clone(),
    });
    texts.filter(|text| !text.is_null()).collect()
}

/// Every attempt to write, and to call a function that servers call, was refused.
fn assert_nothing_written(report: &Value) {
    let attempts = report["attempts"].as_object().expect("there are some");
    assert!(attempts.len() >= 5, "{report}");
    for (attempt, error) in attempts {
        assert_eq!(error["code"], "42501", "{attempt}: {error}");
    }
}
