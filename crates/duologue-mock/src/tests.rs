//! What the mock says, in which pieces, and how its directives change that.

use std::sync::Arc;

use tokio::time::Instant;

use super::*;
use duologue_engine::provider::ModelCall;

fn mock() -> Mock {
    Mock::new(MockConfig {
        delay: Duration::ZERO,
        directives: true,
    })
}

fn request(purpose: Purpose, messages: Vec<Message>) -> Request {
    Request {
        purpose,
        system: Arc::from("Be kind."),
        messages,
        tools: Vec::new(),
        output_tokens_max: 4_096,
    }
}

fn user(text: &str) -> Message {
    Message::User(text.into())
}

fn assistant(text: &str) -> Message {
    Message::Assistant {
        text: text.into(),
        calls: Vec::new(),
    }
}

/// A conversation whose last message has led to a tool call that answered `content`.
fn called(name: &str, content: &str) -> Vec<Message> {
    let call = ModelCall {
        id: "call-1-1".into(),
        name: name.into(),
        arguments: serde_json::json!({}),
    };
    vec![
        user("please"),
        Message::Assistant {
            text: "".into(),
            calls: vec![call],
        },
        Message::Tool {
            call_id: "call-1-1".into(),
            name: name.into(),
            content: content.into(),
        },
    ]
}

type Chunks = Vec<Result<Chunk, ProviderError>>;

async fn answer(request: Request) -> Chunks {
    mock().generate(request).collect().await
}

async fn turn(messages: Vec<Message>) -> Chunks {
    answer(request(Purpose::Turn, messages)).await
}

fn text(chunks: &Chunks) -> String {
    let texts = chunks.iter().filter_map(|chunk| match chunk {
        Ok(Chunk::Text(text)) => Some(&**text),
        _ => None,
    });
    texts.collect()
}

async fn says(messages: Vec<Message>) -> String {
    text(&turn(messages).await)
}

#[tokio::test]
async fn an_answer_comes_word_by_word_and_ends_with_what_it_counted() {
    let chunks = turn(vec![user("hello")]).await;
    let (last, pieces) = chunks.split_last().unwrap();
    for piece in pieces {
        let Ok(Chunk::Text(piece)) = piece else {
            panic!("{piece:?}");
        };
        assert_eq!(piece.split_whitespace().count(), 1, "{piece:?}");
    }
    let Ok(Chunk::Finished { reason, usage }) = last else {
        panic!("{last:?}");
    };
    assert_eq!(*reason, StopReason::Stop);
    let usage = usage.unwrap();
    assert_eq!(usage.output_tokens, pieces.len() as u64);
    // "Be kind." and "hello".
    assert_eq!(usage.input_tokens, 3);
}

#[tokio::test]
async fn the_same_conversation_gets_the_same_answer_in_the_same_pieces() {
    let conversation = vec![user("hi"), assistant("Hello!"), user("what is love")];
    let texts = |chunks: Chunks| -> Vec<Chunk> { chunks.into_iter().map(Result::unwrap).collect() };
    let first = texts(turn(conversation.clone()).await);
    assert_eq!(first, texts(turn(conversation).await));
}

#[tokio::test]
async fn tool_results_are_put_into_words() {
    for (name, content, words) in [
        (
            "fetch_account_balance",
            r#"{"found":true,"user_id":"user-1","balance":1250.75,"currency":"USD"}"#,
            "The account balance of user-1 is 1250.75 USD.",
        ),
        (
            "fetch_order_status",
            r#"{"order_id":"ORD-1001","status":"shipped","carrier":"DHL","eta":"2026-12-03"}"#,
            "Order ORD-1001 is shipped with DHL. It should arrive on 2026-12-03.",
        ),
        (
            "fetch_order_status",
            r#"{"order_id":"ORD-1004","status":"cancelled","carrier":null,"eta":null}"#,
            "Order ORD-1004 is cancelled.",
        ),
        (
            "fetch_invoice",
            r#"{"invoice_id":"INV-1","user_id":"user-1","month":"2026-01","amount":54,
                "currency":"USD","status":"paid"}"#,
            "The invoice of user-1 for 2026-01 is INV-1: 54.00 USD, paid.",
        ),
        (
            "knowledge_base_lookup",
            r#"{"found":true,"topic":"CO2","answer":"A gas."}"#,
            "A gas.",
        ),
        (
            "fetch_order_status",
            r#"{"found":false,"order_id":"ORD-9999","message":"There is no order ORD-9999."}"#,
            "There is no order ORD-9999.",
        ),
        (
            "measure",
            r#"{"error":"the tool took too long"}"#,
            "I could not get that from measure: the tool took too long",
        ),
        (
            "measure",
            r#"{"room_name":"attic","degrees":21.5,"heated":false}"#,
            "measure answered: degrees 21.5, heated no, room name attic.",
        ),
        ("measure", "21", "measure answered: 21."),
        ("measure", "{}", "measure is done."),
        ("measure", r#"{"cut of"#, r#"measure answered: {"cut of"#),
    ] {
        assert_eq!(says(called(name, content)).await, words);
    }
}

#[tokio::test]
async fn results_of_an_earlier_turn_are_not_told_again() {
    let mut conversation = called("measure", "21");
    conversation.push(assistant("measure answered: 21."));
    conversation.push(user("thank you"));
    assert_eq!(says(conversation).await, "You are welcome!");
}

#[tokio::test]
async fn it_says_what_it_is_and_how_to_get_a_real_model() {
    for text in [
        "help",
        "What can you do?",
        "how does this work",
        "tell me a joke",
    ] {
        let answer = says(vec![user(text)]).await;
        for part in ["mock model", "OPENAI_API_KEY", "GROQ_API_KEY"] {
            assert!(answer.contains(part), "{text}: {answer}");
        }
    }
    let answer = says(vec![
        user("hi"),
        assistant("Hello!"),
        user("tell me a joke"),
    ])
    .await;
    assert!(answer.contains("message number 2"), "{answer}");
    assert!(answer.contains("\"tell me a joke\""), "{answer}");
}

/// A newcomer's first question gets the explanation, however it is put.
#[tokio::test]
async fn a_question_about_the_system_gets_the_explanation() {
    for text in [
        "Hello, explain what this system does",
        "What does this app do?",
        "what is this",
        "Hi! What's this?",
        "Describe yourself",
        "Tell me about this demo, please",
        "How does this service work?",
        "Can you tell me what you can do?",
        "Who are you?",
    ] {
        let answer = says(vec![user(text)]).await;
        assert!(
            answer.contains("Here is what you can do"),
            "{text}: {answer}"
        );
    }
    for text in [
        "explain what my contract means",
        "what is this invoice about",
        "tell me about whales",
        "how does a combustion engine work",
    ] {
        let answer = says(vec![user(text)]).await;
        assert!(answer.contains("You said"), "{text}: {answer}");
    }
}

#[tokio::test]
async fn a_dropped_question_is_told_from_nothing_to_drop() {
    let dropped = vec![
        user("balance"),
        assistant("What is the user ID?"),
        user("never mind"),
    ];
    assert!(says(dropped).await.contains("dropped"));
    assert!(says(vec![user("never mind")]).await.contains("No question"));
}

/// Time is paused, so the waits are exact: one between every two pieces and none before the first.
#[tokio::test(start_paused = true)]
async fn pieces_come_at_the_configured_pace() {
    let mock = Mock::new(MockConfig {
        delay: Duration::from_millis(30),
        directives: true,
    });
    for (text, waited) in [("mock:words=5", 120), ("mock:words=5 mock:delay_ms=7", 28)] {
        let started = Instant::now();
        let request = request(Purpose::Turn, vec![user(text)]);
        let chunks: Chunks = mock.generate(request).collect().await;
        assert_eq!(chunks.len(), 6);
        assert_eq!(started.elapsed(), Duration::from_millis(waited), "{text}");
    }
}

/// Without a delay, every chunk is ready as soon as it is asked for: no timer is involved.
#[test]
fn without_a_delay_no_runtime_is_needed() {
    let request = request(Purpose::Turn, vec![user("mock:words=100")]);
    let mut stream = mock().generate(request);
    for _ in 0..101 {
        let chunk = futures_util::FutureExt::now_or_never(stream.next());
        assert!(matches!(chunk, Some(Some(Ok(_)))), "{chunk:?}");
    }
}

#[tokio::test]
async fn a_directive_sets_the_number_of_words_up_to_the_limit() {
    let chunks = turn(vec![user("please mock:words=3")]).await;
    assert_eq!(text(&chunks), "word1 word2 word3");
    let mut long = request(Purpose::Turn, vec![user("mock:words=999999999999")]);
    long.output_tokens_max = 4;
    let chunks = answer(long).await;
    assert_eq!(text(&chunks), "word1 word2 word3 word4 ");
    assert!(matches!(
        chunks.last(),
        Some(Ok(Chunk::Finished {
            reason: StopReason::Length,
            ..
        }))
    ));
}

#[tokio::test]
async fn a_directive_breaks_the_answer_off() {
    for (directive, told) in [
        ("mock:fail_at=0", ""),
        ("mock:fail_at=2", "word1 word2 "),
        ("mock:fail_at=9", "word1 word2 word3"),
    ] {
        let chunks = turn(vec![user(&format!("mock:words=3 {directive}"))]).await;
        assert_eq!(text(&chunks), told);
        let last = chunks.last();
        assert!(
            matches!(last, Some(Err(ProviderError::Unavailable(_)))),
            "{last:?}"
        );
    }
    for text in [
        "mock:refuse",
        "mock:words=many",
        "mock:explode",
        "mock:fail_at",
    ] {
        let chunks = turn(vec![user(text)]).await;
        assert!(
            matches!(chunks.as_slice(), [Err(ProviderError::Refused(_))]),
            "{chunks:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_directive_stalls_the_answer_for_ever() {
    let request = request(Purpose::Turn, vec![user("mock:stall_at=1")]);
    let mut stream = mock().generate(request);
    assert!(matches!(stream.next().await, Some(Ok(Chunk::Text(_)))));
    let day = Duration::from_hours(24);
    assert!(tokio::time::timeout(day, stream.next()).await.is_err());
}

#[tokio::test]
async fn directives_are_plain_words_unless_they_are_allowed() {
    let mock = Mock::new(MockConfig {
        delay: Duration::ZERO,
        directives: false,
    });
    let request = request(Purpose::Turn, vec![user("mock:refuse")]);
    let chunks: Chunks = mock.generate(request).collect().await;
    assert!(text(&chunks).contains("\"mock:refuse\""));
}

#[tokio::test]
async fn a_session_is_summed_up_in_bullet_points() {
    let transcript = "\
user: What is my account balance?
assistant: Sure, which user ID should I check (for example user-1)?
user: My user_id is user-1
tool fetch_account_balance({\"user_id\":\"user-1\"}): {\"balance\":1250.75}
assistant: The account balance of user-1 is 1250.75 USD.
It is active.
user: And my invoice?
assistant: What are the user ID (for example user-1) and the month (for example 2026-01)?";
    let summary = answer(request(Purpose::Summary, vec![user(transcript)])).await;
    assert_eq!(
        text(&summary),
        "\
- Discussed: \"What is my account balance?\"; \"My user_id is user-1\"; \"And my invoice?\"
- Tools used: fetch_account_balance({\"user_id\":\"user-1\"})
- Open questions: the assistant asked \"What are the user ID (for example user-1) and the month \
         (for example 2026-01)?\"
- Final intent: \"And my invoice?\""
    );
}

/// Summaries must ignore directives that a user once wrote to test a turn.
#[tokio::test]
async fn a_summary_of_nothing_or_of_directives_is_still_one() {
    for (transcript, open) in [
        ("", "none"),
        ("user: mock:refuse", "\"mock:refuse\" was not answered"),
        ("user: hi\nassistant: Hello.", "none"),
    ] {
        let summary = answer(request(Purpose::Summary, vec![user(transcript)])).await;
        assert!(
            text(&summary).contains(&format!("- Open questions: {open}\n")),
            "{transcript}"
        );
    }
}

#[test]
fn the_configuration_reads_durations_and_refuses_unknown_keys() {
    let config: MockConfig = toml::from_str("delay = \"30ms\"\ndirectives = false").unwrap();
    assert_eq!(config.delay, Duration::from_millis(30));
    assert!(toml::from_str::<MockConfig>("delay = \"0s\"\ndirectives = false\nx = 1").is_err());
}
