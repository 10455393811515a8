//! The provider against a scripted upstream: what it sends, and what it makes of every way in which
//! an endpoint can answer, fail, or not answer at all.

#[path = "upstream/check.rs"]
mod check;
#[path = "support/endpoint.rs"]
mod endpoint;

use std::{collections::HashSet, error::Error, sync::Arc, time::Duration};

use duologue_engine::{
    limits::GenerationLimits,
    provider::{Chunk, ModelCall, Provider, ProviderError, StopReason, attempt},
};
use duologue_llm::{
    OpenAi,
    testing::{RequestStatus, Script, ScriptedUpstream},
};
use duologue_protocol::Usage;
use futures_util::StreamExt;
use serde_json::json;
use tokio::net::TcpListener;

use crate::endpoint::{Outcome, ask, config, provider, request};

/// Asks an upstream that follows `script`.
async fn answer_to(script: Script) -> Outcome {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(script);
    ask(&provider(&upstream.base_url()), request("hello")).await
}

fn finished() -> Chunk {
    let usage = Some(Usage {
        input_tokens: 10,
        output_tokens: 5,
        estimated: false,
    });
    Chunk::Finished {
        reason: StopReason::Stop,
        usage,
    }
}

fn text(text: &str) -> Chunk {
    Chunk::Text(text.into())
}

fn is_unavailable(outcome: &Outcome) -> bool {
    matches!(outcome.error, Some(ProviderError::Unavailable(_)))
}

#[tokio::test]
async fn an_answer_is_asked_for_and_streamed() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will_say("Hello, world");
    let outcome = ask(&provider(&upstream.base_url()), request("greet me")).await;
    assert_eq!(outcome.chunks, [text("Hello, "), text("world"), finished()]);

    let sent = &upstream.requests()[0];
    assert_eq!(
        (sent.method.as_str(), sent.path.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(sent.header("authorization"), Some("Bearer sk-test-1234"));
    assert_eq!(sent.header("content-type"), Some("application/json"));
    assert_eq!(sent.body["model"], "gpt-4o-mini");
    assert_eq!(sent.body["stream"], true);
    assert_eq!(sent.last_message(), "greet me");
}

#[tokio::test]
async fn an_endpoint_without_a_key_is_sent_none() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will_say("hello");
    drop(provider(&upstream.base_url()));
    let mut config = config(&upstream.base_url());
    config.api_key = "".into();
    ask(&OpenAi::new(config).unwrap(), request("hello")).await;
    assert_eq!(upstream.requests()[0].header("authorization"), None);
}

/// The first piece must be there while the upstream still holds the second.
#[tokio::test]
async fn each_piece_is_passed_on_when_it_comes() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(
        Script::stream()
            .say("Hello, ")
            .hold("half-way")
            .say("world")
            .finish("stop"),
    );
    let mut answer = provider(&upstream.base_url()).generate(request("hello"));
    assert_eq!(answer.next().await.unwrap().unwrap(), text("Hello, "));
    upstream.release("half-way");
    assert_eq!(answer.next().await.unwrap().unwrap(), text("world"));
    assert_eq!(answer.next().await.unwrap().unwrap(), finished());
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn tool_calls_are_put_together() {
    let first = json!({"order_id": "ORD-1001", "note": "grüß"});
    let outcome = answer_to(Script::calls(&[
        ("get_order", first.clone()),
        ("list", json!({})),
    ]))
    .await;
    let call = |id: &str, name: &str, arguments| {
        Chunk::Call(ModelCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments,
        })
    };
    let expected = [
        call("call_0", "get_order", first),
        call("call_1", "list", json!({})),
    ];
    assert_eq!(outcome.chunks, [&expected[..], &[finished()]].concat());
}

#[tokio::test]
async fn an_endpoint_that_does_not_stream_answers_in_one_piece() {
    let message = json!({"role": "assistant", "content": "Hello, world"});
    let body = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
    let outcome = answer_to(Script::json(200, &body)).await;
    let end = Chunk::Finished {
        reason: StopReason::Stop,
        usage: None,
    };
    assert_eq!(outcome.chunks, [text("Hello, world"), end]);
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back() {
    let outcome = answer_to(Script::rate_limited("7")).await;
    let Some(ProviderError::RateLimited { retry_after }) = outcome.error else {
        panic!("expected a rate limit: {outcome:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_refusal_keeps_the_endpoints_own_words_for_the_log() {
    let outcome = answer_to(Script::error(
        401,
        "Incorrect API key provided: sk-test-1234",
    ))
    .await;
    let Some(error @ ProviderError::Refused(_)) = outcome.error else {
        panic!("expected a refusal: {outcome:?}");
    };
    let cause = error.source().unwrap().to_string();
    assert_eq!(cause, "401: Incorrect API key provided: *** (error)");
}

/// A redirect would take the key to another place.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = ScriptedUpstream::start().await;
    let target = format!("{}/chat/completions", elsewhere.base_url());
    let outcome = answer_to(Script::head(307, "text/plain").header("location", &target)).await;
    assert!(
        matches!(outcome.error, Some(ProviderError::Refused(_))),
        "{outcome:?}"
    );
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_or_fails_may_be_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let outcome = ask(&provider(&nowhere), request("hello")).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");

    for (what, script) in [
        ("an error of its own", Script::error(503, "try later")),
        ("closed before the head", Script::new().close()),
        ("reset before the head", Script::new().reset()),
        (
            "an error within the stream",
            Script::stream().event(&json!({"error": "overloaded"})),
        ),
        (
            "a page of a gateway",
            Script::head(200, "text/html").bytes("<h1>Welcome</h1>"),
        ),
        (
            "JSON that is no answer",
            Script::json(200, &json!({"ok": true})),
        ),
        (
            "half an answer in JSON",
            Script::head(200, "application/json")
                .bytes("{\"choi")
                .close(),
        ),
        ("no body", Script::stream()),
    ] {
        let outcome = answer_to(script).await;
        assert!(is_unavailable(&outcome), "{what}: {outcome:?}");
        assert_eq!(outcome.chunks, [], "{what}");
    }
}

/// A reset discards what the client has not read yet, so the upstream holds until it has.
#[tokio::test]
async fn an_answer_that_breaks_off_is_passed_on_as_far_as_it_came() {
    for (what, script) in [
        (
            "closed",
            Script::stream().say("Hello, ").hold("read").close(),
        ),
        (
            "reset",
            Script::stream().say("Hello, ").hold("read").reset(),
        ),
        (
            "ended without a reason",
            Script::stream().say("Hello, ").hold("read"),
        ),
        (
            "cut in the middle of an event",
            Script::stream()
                .say("Hello, ")
                .hold("read")
                .bytes("data: {\"choices\":[{\"del")
                .close(),
        ),
        (
            "half a tool call",
            Script::stream()
                .say("Hello, ")
                .hold("read")
                .delta(&json!({"tool_calls": [
                    {"index": 0, "id": "a", "function": {"name": "pay", "arguments": "{}"}}]}))
                .close(),
        ),
    ] {
        let upstream = ScriptedUpstream::start().await;
        upstream.will(script);
        let mut answer = provider(&upstream.base_url()).generate(request("hello"));
        assert_eq!(
            answer.next().await.unwrap().unwrap(),
            text("Hello, "),
            "{what}"
        );
        upstream.release("read");
        let mut rest = Vec::new();
        while let Some(item) = answer.next().await {
            rest.extend((!matches!(item, Ok(Chunk::Progress))).then_some(item));
        }
        assert!(
            matches!(rest[..], [Err(ProviderError::Unavailable(_))]),
            "{what}: {rest:?}"
        );
    }
}

/// The model has said all; what is missing is the count of tokens, or only the end of the stream.
#[tokio::test]
async fn a_complete_answer_does_not_wait_for_an_end_that_never_comes() {
    let reason = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    for (what, script) in [
        (
            "after the reason",
            Script::stream().say("hello").event(&reason).stall(),
        ),
        ("after [DONE]", Script::text("hello").stall()),
        (
            "closed after the reason",
            Script::stream().say("hello").event(&reason).close(),
        ),
    ] {
        let outcome = answer_to(script).await;
        assert!(outcome.error.is_none(), "{what}: {outcome:?}");
        assert_eq!(outcome.text(), "hello", "{what}");
        let end = Chunk::Finished {
            reason: StopReason::Stop,
            usage: None,
        };
        let ends = [end, finished()];
        assert!(
            ends.contains(outcome.chunks.last().unwrap()),
            "{what}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_error_whose_body_never_ends_is_still_what_its_status_says() {
    let outcome = answer_to(Script::rate_limited("3").stall()).await;
    assert!(
        matches!(outcome.error, Some(ProviderError::RateLimited { .. })),
        "{outcome:?}"
    );
    let flood = (0..100).fold(Script::head(400, "text/plain"), |script, _| {
        script.bytes(vec![b'x'; 100_000])
    });
    let outcome = answer_to(flood.stall()).await;
    assert!(
        matches!(outcome.error, Some(ProviderError::Refused(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_line_without_end_is_not_gathered() {
    let flood = (0..100).fold(Script::stream().say("hello"), |script, _| {
        script.bytes(vec![b'x'; 100_000])
    });
    let outcome = answer_to(flood.stall()).await;
    assert_eq!(outcome.chunks, [text("hello")]);
    assert!(is_unavailable(&outcome), "{outcome:?}");
}

/// Cancelling must stop the model, and its cost, wherever the answer stands.
#[tokio::test]
async fn dropping_the_answer_closes_the_connection() {
    let upstream = ScriptedUpstream::start().await;
    let provider = provider(&upstream.base_url());

    upstream.will(Script::new().stall());
    let mut answer = provider.generate(request("before the head"));
    tokio::select! {
        item = answer.next() => panic!("nothing was sent: {item:?}"),
        () = upstream.wait_for_requests(1) => {}
    }
    drop(answer);
    upstream
        .wait_for_status(1, RequestStatus::ClosedByClient)
        .await;

    upstream.will(Script::stream().say("Hello, ").stall());
    let mut answer = provider.generate(request("in the middle"));
    assert_eq!(answer.next().await.unwrap().unwrap(), text("Hello, "));
    drop(answer);
    upstream
        .wait_for_status(2, RequestStatus::ClosedByClient)
        .await;
    upstream.wait_for_no_connections().await;
}

/// The client may race a new connection against the one that is about to be free, so not each
/// request must come on the first; without reuse, each would come on its own.
#[tokio::test]
async fn a_complete_answer_leaves_its_connection_to_the_next() {
    let upstream = ScriptedUpstream::start().await;
    let provider = provider(&upstream.base_url());
    for _ in 0..10 {
        upstream.will_say("hello");
        ask(&provider, request("hello")).await;
    }
    let requests = upstream.requests();
    let connections: HashSet<usize> = requests.iter().map(|request| request.connection).collect();
    assert!(connections.len() < requests.len(), "{connections:?}");
}

/// Nothing is sent, and no connection made, for an answer that nobody looks at.
#[tokio::test]
async fn the_request_starts_with_the_first_poll() {
    let upstream = ScriptedUpstream::start().await;
    let provider = provider(&upstream.base_url());
    let unseen = provider.generate(request("unseen"));
    upstream.will_say("hello");
    ask(&provider, request("seen")).await;
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(upstream.requests()[0].last_message(), "seen");
    drop(unseen);
}

/// The provider and the engine's retries together: one failure that the user does not notice.
#[tokio::test]
async fn the_engine_asks_again_after_a_passing_fault() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::error(503, "starting up"));
    upstream.will(Script::new().reset());
    upstream.will_say("hello");
    let limits = GenerationLimits {
        first_token_timeout: Duration::from_secs(5),
        next_token_timeout: Duration::from_secs(5),
        total_timeout: Duration::from_secs(10),
        retries_max: 2,
        retry_delay: Duration::from_millis(1),
        retry_after_max: Duration::from_secs(1),
    };
    let provider = Arc::new(provider(&upstream.base_url()));
    let answer = attempt::generate(provider, request("hello"), limits);
    let chunks: Vec<Chunk> = answer
        .map(|item| item.expect("the third attempt works"))
        .collect()
        .await;
    assert_eq!(chunks, [text("hello"), finished()]);
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn the_provider_never_shows_its_key() {
    let shown = format!("{:?}", provider("https://api.example.com/v1"));
    assert!(!shown.contains("1234"), "{shown}");
}

/// One answer at a time: the second request is not sent before the first answer is over, and then it is.
#[tokio::test]
async fn no_more_answers_than_connections_are_on_their_way() {
    let upstream = ScriptedUpstream::start().await;
    upstream.will(Script::stream().say("one").hold("first").finish("stop"));
    upstream.will_say("two");
    drop(provider(&upstream.base_url()));
    let mut config = config(&upstream.base_url());
    config.connections_max = 1;
    let provider = OpenAi::new(config).unwrap();
    let first = ask(&provider, request("one"));
    let second = ask(&provider, request("two"));
    let release = async {
        upstream.wait_for_requests(1).await;
        // Whatever was sent at the same time would have arrived before the answer to this one.
        let models = provider.check().await;
        assert!(models.is_ok(), "{models:?}");
        assert_eq!(upstream.requests().len(), 2);
        upstream.release("first");
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    assert_eq!((first.text(), second.text()), ("one".into(), "two".into()));
}
