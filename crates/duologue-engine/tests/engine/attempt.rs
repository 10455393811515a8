//! The limits of time and the retries of one answer.
//!
//! Time is paused: it moves on to the next timer when nothing else is to be done, so that every
//! wait below is exact and takes no time.

use std::{sync::Arc, time::Duration};

use duologue_doubles::scripted::{ScriptedProvider, Step};
use duologue_engine::{
    limits::GenerationLimits,
    provider::{Chunk, Message, ProviderError, Purpose, Request, StopReason, attempt::generate},
};
use futures_util::StreamExt;
use tokio::time::Instant;

fn limits() -> GenerationLimits {
    GenerationLimits {
        first_token_timeout: Duration::from_secs(20),
        next_token_timeout: Duration::from_secs(30),
        total_timeout: Duration::from_mins(2),
        retries_max: 2,
        retry_delay: Duration::from_millis(500),
        retry_after_max: Duration::from_secs(10),
    }
}

fn request() -> Request {
    Request {
        purpose: Purpose::Turn,
        system: "Be brief.".into(),
        messages: vec![Message::User("hello".into())],
        tools: Vec::new(),
        output_tokens_max: 100,
    }
}

fn unavailable() -> Step {
    Step::Fail(ProviderError::Unavailable("connection refused".into()))
}

fn rate_limited(retry_after: Option<Duration>) -> Step {
    Step::Fail(ProviderError::RateLimited { retry_after })
}

fn say(text: &str) -> Step {
    Step::Say(text.to_owned())
}

/// What came of one generation.
#[derive(Debug)]
struct Outcome {
    text: String,
    end: Result<StopReason, ProviderError>,
    elapsed: Duration,
}

async fn run(provider: &ScriptedProvider) -> Outcome {
    let started = Instant::now();
    let mut chunks = generate(Arc::new(provider.clone()), request(), limits());
    let mut text = String::new();
    let end = loop {
        match chunks.next().await.expect("an answer says how it ends") {
            Ok(Chunk::Text(piece)) => text.push_str(&piece),
            Ok(Chunk::Finished { reason, .. }) => break Ok(reason),
            Ok(other) => panic!("{other:?} was not scripted to be seen"),
            Err(error) => break Err(error),
        }
    };
    let elapsed = started.elapsed();
    assert!(chunks.next().await.is_none(), "nothing follows the end");
    assert_eq!(provider.streams_open(), 0, "the end closes the upstream");
    Outcome { text, end, elapsed }
}

#[tokio::test(start_paused = true)]
async fn an_answer_passes_through_as_it_is() {
    let provider = ScriptedProvider::following_rules();
    provider.will([
        say("Hello, "),
        say("world"),
        Step::Finish(StopReason::Length, None),
    ]);
    let outcome = run(&provider).await;
    assert_eq!(outcome.text, "Hello, world");
    assert!(matches!(outcome.end, Ok(StopReason::Length)));
    assert_eq!(outcome.elapsed, Duration::ZERO);
}

/// Waits grow by factors of two, each with up to as much jitter: 0.5 to 1 s, then 1 to 2 s.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_away_is_asked_again_with_growing_waits() {
    let provider = ScriptedProvider::following_rules();
    provider.will([unavailable()]);
    provider.will([Step::BreakOff]);
    provider.will_say("here I am");
    let outcome = run(&provider).await;
    assert_eq!(outcome.text, "here I am");
    assert_eq!(provider.requests().len(), 3);
    let waited = Duration::from_millis(1500)..=Duration::from_millis(3010);
    assert!(waited.contains(&outcome.elapsed), "{:?}", outcome.elapsed);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_retry_the_error_is_passed_on() {
    let provider = ScriptedProvider::following_rules();
    for _ in 0..3 {
        provider.will([unavailable()]);
    }
    let outcome = run(&provider).await;
    assert!(matches!(outcome.end, Err(ProviderError::Unavailable(_))));
    assert_eq!(provider.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final() {
    let provider = ScriptedProvider::following_rules();
    provider.will([Step::Fail(ProviderError::Refused("wrong key".into()))]);
    let outcome = run(&provider).await;
    assert!(matches!(outcome.end, Err(ProviderError::Refused(_))));
    assert_eq!(provider.requests().len(), 1);
    assert_eq!(outcome.elapsed, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_again_once_something_was_shown() {
    let provider = ScriptedProvider::following_rules();
    provider.will([say("Once upon"), unavailable()]);
    let outcome = run(&provider).await;
    assert_eq!(outcome.text, "Once upon");
    assert!(matches!(outcome.end, Err(ProviderError::Unavailable(_))));
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_up_to_its_limit() {
    let provider = ScriptedProvider::following_rules();
    provider.will([rate_limited(Some(Duration::from_secs(10)))]);
    provider.will_say("thank you for waiting");
    let outcome = run(&provider).await;
    assert_eq!(outcome.text, "thank you for waiting");
    let waited = Duration::from_millis(10_500)..=Duration::from_millis(11_010);
    assert!(waited.contains(&outcome.elapsed), "{:?}", outcome.elapsed);

    provider.will([rate_limited(Some(Duration::from_secs(11)))]);
    let outcome = run(&provider).await;
    let Err(ProviderError::RateLimited { retry_after }) = outcome.end else {
        panic!("expected the limit to be passed on: {outcome:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(11)));
    assert_eq!(outcome.elapsed, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_without_a_time_is_waited_out_like_an_outage() {
    let provider = ScriptedProvider::following_rules();
    provider.will([rate_limited(None)]);
    provider.will_say("hello");
    let outcome = run(&provider).await;
    assert_eq!(outcome.text, "hello");
    assert!(outcome.elapsed >= Duration::from_millis(500));
}

/// The connection that stays silent must be closed before another one is opened, or each retry
/// would add to the load of an endpoint that has too much already.
#[tokio::test(start_paused = true)]
async fn a_silent_endpoint_is_given_up_and_asked_again() {
    let provider = ScriptedProvider::following_rules();
    provider.will([Step::Stall]);
    provider.will_say("hello");
    let mut chunks = generate(Arc::new(provider.clone()), request(), limits());
    let waiting = tokio::time::timeout(Duration::from_millis(20_100), chunks.next());
    assert!(waiting.await.is_err(), "it waits before it asks again");
    assert_eq!(provider.streams_open(), 0);
    assert_eq!(provider.streams_dropped(), 1);
    let first = chunks.next().await.unwrap().unwrap();
    assert_eq!(first, Chunk::Text("hello".into()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stalls_is_given_up() {
    let provider = ScriptedProvider::following_rules();
    provider.will([say("Hello, "), Step::Stall]);
    let outcome = run(&provider).await;
    assert_eq!(outcome.text, "Hello, ");
    assert!(matches!(outcome.end, Err(ProviderError::TimedOut)));
    assert_eq!(provider.requests().len(), 1);
    let limit = Duration::from_secs(30)..Duration::from_millis(30_010);
    assert!(limit.contains(&outcome.elapsed), "{:?}", outcome.elapsed);
}

/// A model that writes a call's arguments, or thinks, shows nothing and yet has not stalled. Here
/// it takes 25 s to begin with the text, after a first sign of life at 15 s.
#[tokio::test(start_paused = true)]
async fn a_model_at_work_has_not_stalled_and_its_work_is_not_shown() {
    let provider = ScriptedProvider::following_rules();
    provider.will([
        Step::Hold("thinking"),
        Step::Work,
        Step::Hold("thought"),
        say("42"),
    ]);
    let releases = async {
        tokio::time::sleep(Duration::from_secs(15)).await;
        provider.release("thinking");
        tokio::time::sleep(Duration::from_secs(25)).await;
        provider.release("thought");
    };
    let (outcome, ()) = tokio::join!(run(&provider), releases);
    assert_eq!(outcome.text, "42");
    assert_eq!(provider.requests().len(), 1);
}

/// Three attempts that are silent for 50 s each do not fit into 120 s.
#[tokio::test(start_paused = true)]
async fn all_attempts_together_keep_to_the_total_limit() {
    let provider = ScriptedProvider::following_rules();
    for _ in 0..3 {
        provider.will([Step::Stall]);
    }
    let limits = GenerationLimits {
        first_token_timeout: Duration::from_secs(50),
        ..limits()
    };
    let started = Instant::now();
    let mut chunks = generate(Arc::new(provider.clone()), request(), limits);
    assert!(matches!(
        chunks.next().await,
        Some(Err(ProviderError::TimedOut))
    ));
    let total = Duration::from_mins(2)..Duration::from_millis(120_010);
    assert!(
        total.contains(&started.elapsed()),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(provider.requests().len(), 3);
}

/// An answer that never pauses gives no timer a chance; the limit must hold all the same.
#[tokio::test(start_paused = true)]
async fn an_endless_answer_is_ended_by_the_total_limit() {
    let provider = ScriptedProvider::following_rules();
    provider.will(std::iter::repeat_with(|| say("la ")).take(200_000));
    let mut chunks = generate(Arc::new(provider.clone()), request(), limits());
    for _ in 0..100 {
        assert!(chunks.next().await.unwrap().is_ok());
    }
    tokio::time::advance(Duration::from_mins(2)).await;
    assert!(matches!(
        chunks.next().await,
        Some(Err(ProviderError::TimedOut))
    ));
    assert!(chunks.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_answer_closes_the_upstream() {
    let provider = ScriptedProvider::following_rules();
    provider.will([say("Hello, "), Step::Hold("half-way")]);
    let mut chunks = generate(Arc::new(provider.clone()), request(), limits());
    chunks.next().await.unwrap().unwrap();
    assert_eq!(provider.streams_open(), 1);
    drop(chunks);
    provider.wait_for_dropped(1).await;
    assert_eq!(provider.streams_open(), 0);
}
