//! The provider against an upstream that we did not write, so that a misreading of the protocol
//! cannot hide in both sides.
//!
//! It is `llmock` of the npm package `@copilotkit/aimock`, which answers by `aimock/fixtures.json`.

#[path = "support/endpoint.rs"]
mod endpoint;

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use duologue_engine::{
    provider::{Chunk, Message, ModelCall, ProviderError, StopReason},
    tool::{OfferedTool, ToolDefinition},
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::endpoint::{ask, provider, request};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/aimock");

/// How long it may take to start: a third of a second, if the machine has nothing else to do.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running `llmock`, killed when dropped.
struct Aimock {
    base_url: String,
    _child: Child,
    /// Kept open, so that it does not fail to write.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Aimock {
    async fn start() -> Self {
        let program = Path::new(FOLDER).join("node_modules/@copilotkit/aimock/dist/cli.js");
        assert!(
            program.exists(),
            "llmock is not installed; run `npm ci` in crates/duologue-llm/tests/aimock"
        );
        let mut child = Command::new("node")
            .arg(program)
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--fixtures",
                "fixtures.json",
            ])
            .current_dir(FOLDER)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is installed (Debian: `apt-get install nodejs`)");
        let output = child.stdout.take().expect("its output is piped");
        let mut output = BufReader::new(output).lines();
        let starting = async {
            loop {
                let line = output.next_line().await.expect("its output is text");
                let line = line.expect("it says where it listens before it ends");
                if let Some(address) = line.split("listening on ").nth(1) {
                    return format!("{}/v1", address.trim());
                }
            }
        };
        let base_url = timeout(START_TIMEOUT, starting)
            .await
            .expect("it starts in time");
        Self {
            base_url,
            _child: child,
            _output: output,
        }
    }
}

fn get_order() -> ToolDefinition {
    ToolDefinition {
        name: "get_order".to_owned(),
        description: "Looks an order up.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {"order_id": {"type": "string"}},
            "required": ["order_id"],
        }),
    }
}

#[tokio::test]
async fn a_plain_answer_is_streamed_and_counted() {
    let aimock = Aimock::start().await;
    let outcome = ask(&provider(&aimock.base_url), request("greet me")).await;
    assert_eq!(outcome.text(), "Grüß dich! 👋 How can I help you today?");
    let pieces = outcome.chunks.len() - 1;
    assert!(pieces > 1, "it comes in pieces: {:?}", outcome.chunks);
    let Some(Chunk::Finished {
        reason: StopReason::Stop,
        usage: Some(usage),
    }) = outcome.chunks.last()
    else {
        panic!("the usage is asked for, and counted: {outcome:?}");
    };
    assert!(
        usage.input_tokens > 0 && usage.output_tokens > 0,
        "{usage:?}"
    );
}

/// The calls, and then the request that brings their results.
#[tokio::test]
async fn tool_calls_go_there_and_back() {
    let aimock = Aimock::start().await;
    let provider = provider(&aimock.base_url);
    let mut request = request("where is my order?");
    request.tools.push(Arc::new(OfferedTool::new(get_order())));

    let outcome = ask(&provider, request.clone()).await;
    let call = |id: &str, order_id: &str| ModelCall {
        id: id.to_owned(),
        name: "get_order".to_owned(),
        arguments: json!({"order_id": order_id}),
    };
    let calls = vec![call("call_1", "ORD-1001"), call("call_2", "ORD-1002")];
    let expected: Vec<Chunk> = calls.iter().cloned().map(Chunk::Call).collect();
    let (last, asked) = outcome.chunks.split_last().expect("it ends");
    assert_eq!(asked, expected);
    assert!(
        matches!(
            last,
            Chunk::Finished {
                reason: StopReason::Stop,
                ..
            }
        ),
        "{last:?}"
    );

    let answers = calls.iter().map(|call| Message::Tool {
        call_id: call.id.clone(),
        name: call.name.clone(),
        content: r#"{"status":"shipped"}"#.into(),
    });
    let answers: Vec<Message> = answers.collect();
    request.messages.push(Message::Assistant {
        text: "".into(),
        calls,
    });
    request.messages.extend(answers);
    let outcome = ask(&provider, request).await;
    assert_eq!(outcome.text(), "Order ORD-1001 is on its way.");
}

#[tokio::test]
async fn a_rate_limit_is_understood() {
    let aimock = Aimock::start().await;
    let outcome = ask(&provider(&aimock.base_url), request("too fast")).await;
    let Some(ProviderError::RateLimited { retry_after }) = outcome.error else {
        panic!("expected a rate limit: {outcome:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_refused_request_is_final() {
    let aimock = Aimock::start().await;
    let outcome = ask(
        &provider(&aimock.base_url),
        request("no fixture matches this"),
    )
    .await;
    assert!(
        matches!(outcome.error, Some(ProviderError::Refused(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_no_answer() {
    let aimock = Aimock::start().await;
    let outcome = ask(&provider(&aimock.base_url), request("break off")).await;
    assert!(
        matches!(outcome.error, Some(ProviderError::Unavailable(_))),
        "{outcome:?}"
    );
    let whole = "This answer will be cut off in the middle of it.";
    let text = outcome.text();
    assert!(
        !text.is_empty() && whole.starts_with(&text) && text != whole,
        "{text:?}"
    );
}
