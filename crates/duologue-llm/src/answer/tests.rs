//! Recorded streams, in the shapes of the endpoints that people use, cut wherever a network may cut
//! them.

use duologue_engine::provider::ModelCall;
use serde_json::json;

use super::*;

const BYTES_MAX: usize = 1 << 20;

struct Recording {
    name: &'static str,
    bytes: &'static [u8],
    /// What is shown of it, in order.
    texts: &'static [&'static str],
    calls: Vec<ModelCall>,
    reason: StopReason,
    usage: Option<(u64, u64)>,
}

macro_rules! recording {
    ($name:literal, $texts:expr, $calls:expr, $reason:ident, $usage:expr) => {
        Recording {
            name: $name,
            bytes: include_bytes!(concat!("../../tests/recordings/", $name, ".txt")),
            texts: &$texts,
            calls: Vec::from($calls),
            reason: StopReason::$reason,
            usage: $usage,
        }
    };
}

fn call(id: &str, name: &str, arguments: Value) -> ModelCall {
    ModelCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments,
    }
}

fn recordings() -> Vec<Recording> {
    let order = |id: &str, order_id: &str| call(id, "get_order", json!({"order_id": order_id}));
    vec![
        recording!(
            "openai_text",
            ["Grüß", " dich", "! 👋"],
            [],
            Stop,
            Some((11, 5))
        ),
        recording!(
            "openai_tools",
            [],
            [
                order("call_9aZ1", "ORD-1001"),
                call("call_9aZ2", "list_orders", json!({}))
            ],
            Stop,
            Some((84, 38))
        ),
        recording!(
            "groq_text",
            ["Bon", "jour à", " tous."],
            [],
            Stop,
            Some((39, 6))
        ),
        recording!(
            "groq_tools",
            [],
            [order("fc_1", "ORD-7")],
            Stop,
            Some((90, 20))
        ),
        recording!("ollama_text", ["你", "好"], [], Length, None),
        recording!(
            "ollama_tools",
            [],
            [order("call_k1", "ORD-1"), order("call_k2", "ORD-2")],
            Stop,
            None
        ),
        recording!(
            "vllm_text",
            ["\n\nHello", " there \"friend\""],
            [],
            Stop,
            Some((21, 8))
        ),
        recording!(
            "vllm_tools",
            [],
            [order("chatcmpl-tool-a1", "ORD-9")],
            Stop,
            None
        ),
        recording!("llamacpp_text", ["Один", ", два."], [], Stop, Some((14, 6))),
        recording!("azure_text", ["Olá", ", mundo"], [], Stop, None),
        recording!("gateway_text", ["Ciao", " a tutti"], [], Stop, Some((4, 3))),
    ]
}

impl Recording {
    /// The chunks that it must decode to, besides [`Chunk::Progress`].
    fn chunks(&self) -> Vec<Chunk> {
        let texts = self.texts.iter().map(|text| Chunk::Text((*text).into()));
        let calls = self.calls.iter().cloned().map(Chunk::Call);
        let usage = self.usage.map(|(input_tokens, output_tokens)| Usage {
            input_tokens,
            output_tokens,
            estimated: false,
        });
        let end = Chunk::Finished {
            reason: self.reason,
            usage,
        };
        texts.chain(calls).chain([end]).collect()
    }
}

/// What a stream decodes to that comes in the given pieces.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Chunk>, Result<(), AnswerError>) {
    let mut answer = StreamedAnswer::new(BYTES_MAX);
    let read = pieces.into_iter().try_for_each(|piece| answer.bytes(piece));
    let end = read.and_then(|()| answer.end());
    let chunks = std::iter::from_fn(|| answer.next_chunk());
    (chunks.flat_map(one_by_one).collect(), end)
}

/// A chunk's pieces of text, one by one.
fn one_by_one(chunk: Chunk) -> Vec<Chunk> {
    match chunk {
        Chunk::Text(pieces) => pieces.iter().map(text).collect(),
        other => vec![other],
    }
}

fn without_progress(chunks: Vec<Chunk>) -> Vec<Chunk> {
    chunks
        .into_iter()
        .filter(|chunk| *chunk != Chunk::Progress)
        .collect()
}

#[test]
fn each_endpoints_stream_is_understood() {
    for recording in recordings() {
        let (chunks, end) = decode([recording.bytes]);
        end.unwrap_or_else(|error| panic!("{}: {error}", recording.name));
        assert_eq!(
            without_progress(chunks),
            recording.chunks(),
            "{}",
            recording.name
        );
    }
}

#[test]
fn the_cuts_of_the_network_change_nothing() {
    for recording in recordings() {
        let (whole, _) = decode([recording.bytes]);
        for cut in 0..=recording.bytes.len() {
            let (one, other) = recording.bytes.split_at(cut);
            let (chunks, end) = decode([one, other]);
            assert!(
                end.is_ok() && chunks == whole,
                "{} cut at {cut}",
                recording.name
            );
        }
        let (chunks, end) = decode(recording.bytes.chunks(1));
        assert!(
            end.is_ok() && chunks == whole,
            "{} byte by byte",
            recording.name
        );
    }
}

/// However early the connection is lost, what was decoded is the beginning of the whole; and it is
/// taken for the whole only if the model had said all.
#[test]
fn a_stream_that_is_cut_off_is_never_taken_for_a_whole_one() {
    for recording in recordings() {
        let whole = recording.chunks();
        for length in 0..recording.bytes.len() {
            let (chunks, end) = decode([&recording.bytes[..length]]);
            let mut chunks = without_progress(chunks);
            if end.is_ok() {
                // The count of tokens may have been lost.
                let Some(Chunk::Finished { reason, .. }) = chunks.pop() else {
                    panic!(
                        "{} at {length}: a complete answer has an end",
                        recording.name
                    );
                };
                assert_eq!(reason, recording.reason);
                assert_eq!(
                    chunks,
                    whole[..whole.len() - 1],
                    "{} at {length}",
                    recording.name
                );
            } else {
                let is_beginning = whole[..whole.len() - 1].starts_with(&chunks);
                assert!(is_beginning, "{} at {length}: {chunks:?}", recording.name);
                let has_calls = chunks.iter().any(|chunk| matches!(chunk, Chunk::Call(_)));
                assert!(
                    !has_calls,
                    "{} at {length}: half an answer calls nothing",
                    recording.name
                );
            }
        }
    }
}

/// Broken streams end somehow: with an error, or with less of an answer, but never with a panic.
#[test]
fn no_broken_byte_causes_a_panic() {
    for recording in recordings() {
        let breaking = b"\0\"{[\n\r:9e\\\xff".iter().cycle();
        for (position, byte) in (0..recording.bytes.len()).zip(breaking) {
            let mut bytes = recording.bytes.to_vec();
            bytes[position] = *byte;
            drop(decode([&*bytes]));
        }
    }
}

/// A stream of the given events' data, and its end.
fn events(data: &[&str]) -> (Vec<Chunk>, Result<(), AnswerError>) {
    let mut stream = String::new();
    for data in data {
        stream.extend([
            "data: ", data, "

",
        ]);
    }
    decode([stream.as_bytes()])
}

fn text(text: &str) -> Chunk {
    Chunk::Text(text.into())
}

fn finished(reason: StopReason) -> Chunk {
    Chunk::Finished {
        reason,
        usage: None,
    }
}

const HELLO: &str = r#"{"choices":[{"delta":{"content":"hello"}}]}"#;
const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;

#[test]
fn an_answer_is_over_at_its_reason_or_at_done() {
    for (stream, has_end) in [
        (&[HELLO, STOP, DONE][..], true),
        (&[HELLO, STOP], true),
        (&[HELLO, DONE], true),
        (&[HELLO, STOP, DONE, HELLO, "{"], true),
        (&[HELLO], false),
    ] {
        let (chunks, end) = events(stream);
        let mut expected = vec![text("hello")];
        expected.extend(has_end.then(|| finished(StopReason::Stop)));
        assert_eq!(chunks, expected, "{stream:?}");
        assert_eq!(end.is_ok(), has_end, "{stream:?}");
    }
}

#[test]
fn nothing_that_happens_after_the_reason_spoils_the_answer() {
    for last in ["{", r#"{"error":{"message":"too late"}}"#, "[1]"] {
        let (chunks, end) = events(&[HELLO, STOP, last]);
        assert_eq!(
            chunks,
            [text("hello"), finished(StopReason::Stop)],
            "{last}"
        );
        assert!(end.is_ok(), "{last}");
    }
}

#[test]
fn an_error_within_the_stream_ends_it_after_what_came_before() {
    for error in [
        r#"{"error":{"message":"The server had an error","type":"server_error"}}"#,
        r#"{"id":"x","choices":[],"error":"out of memory"}"#,
        r#"{"object":"error","message":"out of memory","type":"Internal","code":500}"#,
    ] {
        let (chunks, end) = events(&[HELLO, error, DONE]);
        assert_eq!(chunks, [text("hello")]);
        assert!(matches!(end, Err(AnswerError::Reported(_))), "{error}");
    }
    let (_, end) = events(&[
        HELLO,
        r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#,
    ]);
    assert!(matches!(end, Err(AnswerError::Failed)));
    // Cut off from the blank line that would end its event.
    let (_, end) = decode([&b"data: {\"error\":{\"message\":\"x\"}}"[..]]);
    assert!(matches!(end, Err(AnswerError::Reported(_))));
}

#[test]
fn what_is_no_chat_completion_fails_the_answer() {
    for data in ["{", "hello", "[1]", "17", r#"{"choices":"secret"}"#] {
        let (_, end) = events(&[data, STOP]);
        let Err(error @ AnswerError::Malformed { .. }) = end else {
            panic!("{data} was accepted: {end:?}");
        };
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let (_, end) = decode([&*vec![b'x'; BYTES_MAX + 1]]);
    assert!(matches!(end, Err(AnswerError::TooLong(_))));
}

#[test]
fn fields_that_we_can_do_without_may_have_any_shape() {
    let data = r#"{"id":7,"object":[],"created":"now","model":null,"usage":"none","x_groq":[],
        "choices":[{"index":null,"finish_reason":null,"logprobs":4,"delta":
        {"role":9,"content":"hello","refusal":{},"reasoning":null,"tool_calls":null}}]}"#;
    let (chunks, _) = events(&[
        &data.replace('\n', " "),
        r#"{"choices":null,"usage":{}}"#,
        DONE,
    ]);
    assert_eq!(chunks, [text("hello"), finished(StopReason::Stop)]);
}

#[test]
fn a_second_choice_is_not_mixed_into_the_first() {
    let other = r#"{"choices":[{"index":1,"delta":{"content":"bye"},"finish_reason":"length"}]}"#;
    let (chunks, _) = events(&[HELLO, other, STOP]);
    assert_eq!(chunks, [text("hello"), finished(StopReason::Stop)]);
}

#[test]
fn nul_never_gets_through() {
    let data = r#"{"choices":[{"delta":{"content":"a\u0000b"}}]}"#;
    let (chunks, _) = events(&[data, DONE]);
    assert_eq!(chunks[0], text("a\u{fffd}b"));
}

#[test]
fn a_refusal_is_an_answer() {
    let data = r#"{"choices":[{"delta":{"refusal":"I cannot help with that."}}]}"#;
    let (chunks, _) = events(&[data, STOP]);
    assert_eq!(chunks[0], text("I cannot help with that."));
}

#[test]
fn thinking_and_writing_arguments_count_as_progress() {
    let empty = r#"{"choices":[{"delta":{"role":"assistant","content":"","reasoning":""}}]}"#;
    let thinks = r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#;
    let writes = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":
        {"name":"x","arguments":"{"}}]}}]}"#;
    let (chunks, _) = events(&[empty, thinks, &writes.replace('\n', " ")]);
    assert_eq!(chunks, [Chunk::Progress, Chunk::Progress]);
}

#[test]
fn an_answer_that_comes_as_a_whole_is_one_piece() {
    let body = json!({
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant",
            "content": "One moment.",
            "tool_calls": [
                {"id": "a", "type": "function",
                    "function": {"name": "get_order", "arguments": "{\"order_id\":\"ORD-1\"}"}},
                {"id": "b", "type": "function",
                    "function": {"name": "get_order", "arguments": "{\"order_id\":\"ORD-2\"}"}},
            ],
        }}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    });
    let chunks = read_whole(body.to_string().as_bytes()).unwrap();
    let expected = [
        text("One moment."),
        Chunk::Call(call("a", "get_order", json!({"order_id": "ORD-1"}))),
        Chunk::Call(call("b", "get_order", json!({"order_id": "ORD-2"}))),
        Chunk::Finished {
            reason: StopReason::Stop,
            usage: Some(Usage {
                input_tokens: 3,
                output_tokens: 2,
                estimated: false,
            }),
        },
    ];
    assert_eq!(without_progress(chunks.into()), expected);
    let silent_about_its_end = br#"{"choices":[{"message":{"content":"hello"}}]}"#;
    let chunks = read_whole(silent_about_its_end).unwrap();
    assert_eq!(chunks, [text("hello"), finished(StopReason::Stop)]);
    assert!(matches!(read_whole(b"{}"), Err(AnswerError::BrokeOff)));
    assert!(matches!(
        read_whole(br#"{"error":"x"}"#),
        Err(AnswerError::Reported(_))
    ));
}
