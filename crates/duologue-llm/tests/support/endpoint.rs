//! Asking an endpoint, for all tests that talk to one.

use std::time::Duration;

use duologue_engine::provider::{Chunk, Message, Provider, ProviderError, Purpose, Request};
use duologue_llm::{OpenAi, OpenAiConfig, OutputTokensField};
use futures_util::StreamExt;
use tokio::time::timeout;

/// How long anything may take before its test fails.
const DEADLINE: Duration = Duration::from_secs(10);

/// What came of one request.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// All chunks besides progress.
    pub(crate) chunks: Vec<Chunk>,
    /// What ended them, if not [`Chunk::Finished`].
    pub(crate) error: Option<ProviderError>,
}

pub(crate) fn config(base_url: &str) -> OpenAiConfig {
    OpenAiConfig {
        api_key: "sk-test-1234".into(),
        model: "gpt-4o-mini".to_owned(),
        base_url: base_url.to_owned(),
        usage_in_stream: true,
        output_tokens_field: OutputTokensField::MaxCompletionTokens,
        connect_timeout: Duration::from_secs(5),
        connections_max: 100,
        idle_connections_max: 10,
        sse_line_bytes_max: 64 * 1024,
    }
}

pub(crate) fn provider(base_url: &str) -> OpenAi {
    // The first test of the process chooses; for the others it has been chosen already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    OpenAi::new(config(base_url)).expect("the configuration is right")
}

pub(crate) fn request(text: &str) -> Request {
    Request {
        purpose: Purpose::Turn,
        system: "Be brief.".into(),
        messages: vec![Message::User(text.into())],
        tools: Vec::new(),
        output_tokens_max: 100,
    }
}

pub(crate) async fn ask(provider: &impl Provider, request: Request) -> Outcome {
    let mut answer = provider.generate(request);
    let mut chunks = Vec::new();
    let mut error = None;
    let asking = async {
        while let Some(item) = answer.next().await {
            assert!(error.is_none(), "nothing follows an error");
            match item {
                Ok(Chunk::Progress) => {}
                Ok(Chunk::Text(pieces)) => {
                    // What comes together is a matter of the network.
                    chunks.extend(pieces.iter().map(|piece| Chunk::Text(piece.into())));
                }
                Ok(chunk) => chunks.push(chunk),
                Err(failure) => error = Some(failure),
            }
        }
    };
    timeout(DEADLINE, asking)
        .await
        .expect("every answer has an end");
    Outcome { chunks, error }
}

impl Outcome {
    /// The text of all pieces together.
    pub(crate) fn text(&self) -> String {
        let texts = self.chunks.iter().filter_map(|chunk| match chunk {
            Chunk::Text(text) => Some(&**text),
            _ => None,
        });
        texts.collect()
    }
}
