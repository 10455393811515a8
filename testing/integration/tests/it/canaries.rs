//! Secrets and words, marked and searched for: in logs, error bodies, other people's frames and the
//! command line.

use std::net::SocketAddr;

use duologue_integration::{
    Client,
    process::{ServerProcess, run_to_end},
    raw::{Handshake, exchange},
    server::{http, install_crypto},
};
use duologue_llm::testing::{Script, ScriptedUpstream};
use serde_json::json;
use tokio::io::AsyncWriteExt;

/// Every mark holds this word, so that one search finds them all, whatever became of the rest.
const CANARY: &str = "canary";

const API_KEY: &str = "sk-canary-api-key";
const SESSION: &str = "canary-session";
const USER: &str = "canary-user";

/// Goal: whatever goes right or wrong, the log holds nothing that was said, and no secret.
/// Method: conversations with marks in every text, through every kind of failure, at the finest
/// level of our own log; once in each of its formats.
#[tokio::test]
async fn nothing_said_and_no_secret_is_logged_or_told_to_others() {
    install_crypto();
    for format in ["json", "text"] {
        let upstream = ScriptedUpstream::start().await;
        let server = ServerProcess::start_with(&[
            ("OPENAI_API_KEY", API_KEY),
            ("OPENAI_BASE_URL", &upstream.base_url()),
            ("DUOLOGUE_GENERATION__RETRY_DELAY", "1ms"),
            ("DUOLOGUE_JOBS__RETRY_DELAYS", "1ms"),
            ("DUOLOGUE_LOG__FORMAT", format),
            (
                "DUOLOGUE_LOG__FILTER",
                "info,duologue=trace,duologue_server=trace,duologue_engine=trace,\
                 duologue_store=trace,duologue_llm=trace,duologue_router=trace,\
                 duologue_tools=trace",
            ),
        ])
        .await;
        let address = server.address();
        let url = server.socket_url(SESSION, &format!("?user_id={USER}"));
        let mut client = Client::open(&url).await;
        let bystander = server.socket_url("bystander", "?user_id=bystander");
        let mut bystander = Client::open(&bystander).await;
        talk(&upstream, &mut client).await;
        disturb(address).await;
        let told = refusals(address).await;
        for (what, body) in &told {
            assert!(!body.contains(CANARY), "{what} is answered {body}");
        }
        bystander.ping().await;
        let seen = json!(bystander.seen).to_string();
        assert!(seen.contains("session_started"), "nothing was seen: {seen}");
        assert!(!seen.contains(CANARY), "another user received: {seen}");
        client.send_json(json!({ "type": "end" })).await;
        client.until_closed().await;
        let summarised = |facts: &serde_json::Value| facts["status"] == "completed";
        server.session_until(SESSION, USER, summarised).await;
        assert!(!server.proc_file("cmdline").contains(CANARY));
        let log = server.log_up_to_now().await;
        server.kill().await;
        assert!(
            log.contains("turn.failed"),
            "this log tells of nothing:\n{log}"
        );
        assert_nothing_told(&log);
    }
}

/// Says something marked, and lets model and tools answer in every way, marked as well.
async fn talk(upstream: &ScriptedUpstream, client: &mut Client) {
    let order = json!({ "order_id": "ORD-1001", "canary-argument": "canary-value" });
    // What an endpoint says of its own is logged, since operators need it; but not our key.
    let wrong_key = "Incorrect API key provided: sk-canary-api-key";
    let echo = json!({ "error": { "message": wrong_key } });
    for scripts in [
        vec![Script::text("canary-answer from the model")],
        vec![
            Script::call("fetch_order_status", &json!({ "order_id": "ORD-1001" })),
            Script::text("canary-answer after a tool"),
        ],
        vec![
            Script::calls(&[("fetch_order_status", order), ("canary_tool", json!({}))]),
            Script::text("canary-answer after refused calls"),
        ],
        vec![Script::error(401, wrong_key)],
        vec![Script::json(422, &echo)],
        vec![Script::stream().say("canary-half").event(&echo)],
        vec![Script::stream().bytes("data: {canary-malformed\n\n")],
        vec![Script::stream().say("canary-half").reset()],
        vec![Script::head(200, "text/canary").bytes("canary-body")],
    ] {
        for script in scripts {
            upstream.will(script);
        }
        client.ask("canary-user-text, please").await;
    }
    upstream.otherwise(Script::text("- canary-summary"));
    for frame in [
        r#"{"message":"canary-cut"#,
        r#"{"message":["canary-array"]}"#,
        r#"{"type":"canary-type"}"#,
        r#"{"type":"auth","token":"canary-token"}"#,
    ] {
        client.send(frame).await;
        client.until("error").await;
    }
}

/// Breaks the rules of the connection itself.
async fn disturb(address: SocketAddr) {
    for bytes in [
        // Bad UTF-8 after good, an unmasked frame, one with a reserved bit, one that is too long.
        &b"\x81\x87\0\0\0\0canary\xff"[..],
        b"\x81\x06canary",
        b"\xc1\x86\0\0\0\0canary",
        b"\x81\xff\x10\0\0\0\0\0\0\0\0\0\0\0canary",
    ] {
        let mut raw = Handshake::at(address, "canary-broken", USER).await;
        let sent = raw.stream.write_all(bytes).await;
        sent.expect("the server reads");
        raw.close_code().await;
    }
}

/// Asks for what is refused, with marks in every place, and returns what the answers say.
async fn refusals(address: SocketAddr) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for path in [
        "/canary-path?token=canary-token",
        "/v1/sessions/canary-session?user_id=another",
        "/v1/sessions/none?user_id=canary%00user",
        "/v1/sessions/canary%20session",
        "/v1/sessions/%ffcanary",
        "/ws/session/canary-session?user_id=another&after=canary",
        "/demo/canary.js",
    ] {
        let request = http()
            .post(format!("http://{address}{path}"))
            .bearer_auth("canary-bearer");
        let posted = request.body("canary-body").send().await;
        let posted = posted.expect("it is answered");
        let body = posted.text().await.expect("an answer is text");
        told.push((format!("POST {path}"), body));
        let request = http().get(format!("http://{address}{path}"));
        let got = request.bearer_auth("canary-bearer").send().await;
        let got = got.expect("it is answered");
        let body = got.text().await.expect("an answer is text");
        told.push((format!("GET {path}"), body));
    }
    for request in [
        "GET / HTTP/1.1\r\nhost: canary.test\r\ncookie: canary\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\norigin: http://canary.test\r\nconnection: close\r\n\r\n",
        "GET /canary HTTP/1.1\r\ncanary canary\r\n\r\n",
        "CANARY\r\n\r\n",
    ] {
        told.push((request.into(), exchange(address, request.as_bytes()).await));
    }
    told
}

fn assert_nothing_told(log: &str) {
    for line in log.lines() {
        assert!(!line.contains(CANARY), "the log tells: {line}");
        let is_clean = line.chars().all(|character| !character.is_control());
        assert!(is_clean, "the log has control characters: {line:?}");
    }
}

/// Secrets are not told where they are wrong either: by a start that fails, by `check`, by `config`.
#[tokio::test]
async fn a_secret_that_does_not_work_is_not_told() {
    let supabase = [
        ("SUPABASE_URL", "http://127.0.0.1:9"),
        ("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_canary"),
    ];
    let database = [(
        "SUPABASE_DB_URL",
        "postgres://u:canary@127.0.0.1:9/db?password=canary",
    )];
    let malformed = [("DATABASE_URL", "postgres://u:canary/pass@host:99999999/db")];
    let model = [
        ("OPENAI_API_KEY", "sk-canary\u{7}"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:9"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for settings in [&supabase[..], &database, &malformed, &model] {
        for command in [
            &["serve", "--port", "0"][..],
            &["check"],
            &["config"],
            &["migrate"],
        ] {
            let is_a_server = command[0] == "serve" && settings == model;
            if is_a_server {
                continue;
            }
            let mut settings = settings.to_vec();
            settings.extend([
                ("RUST_LOG", "debug"),
                ("DUOLOGUE_STORE__ACQUIRE_TIMEOUT", "200ms"),
            ]);
            let output = run_to_end(folder.path(), command, &settings).await;
            for said in [&output.stdout, &output.stderr] {
                let said = String::from_utf8_lossy(said);
                assert!(
                    !said.contains(CANARY),
                    "{command:?} with {settings:?} says {said}"
                );
            }
        }
    }
}
