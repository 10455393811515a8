//! What a client reads from a server that is newer, or broken.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test may fail it as the test itself may"
)]

use duologue_protocol::{
    AssistantMessage, DegradedReason, ErrorCode, ErrorFrame, Event, EventBody, FinishReason,
    GoAwayReason, MessageQueued, OnBusy, ReadError, Received, Seq, ServerFrame,
};

fn read(text: &str) -> Received {
    ServerFrame::read(text).unwrap()
}

fn event(text: &str) -> EventBody {
    match read(text) {
        Received::Frame(ServerFrame::Event(Event { body, .. })) => body,
        other => panic!("{other:?} is not an event"),
    }
}

#[test]
fn an_unknown_type_is_reported_with_its_position() {
    for (text, seq) in [
        (r#"{"type":"from_the_future","user":"a"}"#, None),
        (
            r#"{"type":"voted","seq":9,"occurred_at":"2026-01-01T09:00:00Z"}"#,
            Some(Seq(9)),
        ),
        (r#"{"type":"voted","seq":"nine"}"#, None),
    ] {
        let Received::Unknown { seq: found, .. } = read(text) else {
            panic!("{text} is known");
        };
        assert_eq!(found, seq, "{text}");
    }
}

#[test]
fn unknown_fields_are_ignored() {
    assert_eq!(
        read(r#"{"type":"pong","at":1}"#),
        Received::Frame(ServerFrame::Pong)
    );
    let body = event(
        r#"{"type":"session_started","seq":1,"occurred_at":"2026-01-01T09:00:00Z","session_id":"s","user_id":"u","agent":"a","region":"eu"}"#,
    );
    assert!(matches!(body, EventBody::SessionStarted(_)));
}

#[test]
fn an_unknown_finish_reason_reads_like_stop() {
    let done = r#"{"type":"done","seq":7,"occurred_at":"2026-01-01T09:00:00Z","turn_id":"turn-1","text":"","finish_reason":"tired","error":"no_coffee","duration_ms":1,"model":"m"}"#;
    assert!(matches!(
        event(done),
        EventBody::AssistantMessage(AssistantMessage {
            finish_reason: FinishReason::Stop,
            error: Some(ErrorCode::Internal),
            ..
        })
    ));
}

#[test]
fn an_unknown_error_code_keeps_its_message_and_whether_it_can_be_retried() {
    for retryable in [true, false] {
        let text = format!(
            r#"{{"type":"error","code":"no_coffee","message":"out of beans","retryable":{retryable}}}"#
        );
        let mut expected = ErrorFrame::new(ErrorCode::Internal, "out of beans");
        expected.retryable = retryable;
        assert_eq!(read(&text), Received::Frame(ServerFrame::Error(expected)));
    }
}

#[test]
fn an_unknown_place_in_the_queue_reads_like_queue() {
    let queued = r#"{"type":"message_queued","seq":7,"occurred_at":"2026-01-01T09:00:00Z","text":"hi","on_busy":"someday"}"#;
    assert!(matches!(
        event(queued),
        EventBody::MessageQueued(MessageQueued {
            on_busy: OnBusy::Queue,
            ..
        })
    ));
}

#[test]
fn an_unknown_reason_does_not_hide_the_frame_that_has_it() {
    assert_eq!(
        read(r#"{"type":"goaway","reason":"moving","reconnect_after_ms":5}"#),
        Received::Frame(ServerFrame::GoAway {
            reason: GoAwayReason::Unknown,
            reconnect_after_ms: 5
        })
    );
    assert_eq!(
        read(r#"{"type":"degraded","reason":"model"}"#),
        Received::Frame(ServerFrame::Degraded {
            reason: DegradedReason::Unknown
        })
    );
    for (r#type, field) in [
        ("session_ended", "reason"),
        ("client_disconnected", "reason"),
        ("session_summarized", "status"),
    ] {
        let text = format!(
            r#"{{"type":"{type}","seq":9,"occurred_at":"2026-01-01T09:00:00Z","connection":1,"{field}":"new"}}"#
        );
        let expected = Received::Unknown {
            r#type: r#type.to_owned(),
            seq: Some(Seq(9)),
        };
        assert_eq!(read(&text), expected);
    }
}

#[test]
fn what_is_not_a_frame_is_an_error() {
    for text in ["", "hello", "[]", "{}", r#"{"type":null}"#, r#"{"type":7}"#] {
        let error = ServerFrame::read(text).unwrap_err();
        assert!(matches!(error, ReadError::NotAFrame(_)), "{text}: {error}");
    }
}

#[test]
fn a_known_frame_that_lacks_a_field_is_an_error() {
    for text in [
        r#"{"type":"token","turn_id":"turn-1","index":0}"#,
        r#"{"type":"token","turn_id":"one","index":0,"token":"a"}"#,
        r#"{"type":"error","code":7,"message":"m","retryable":true}"#,
        r#"{"type":"session_started","resumed":true}"#,
        r#"{"type":"user_message","text":"no position"}"#,
    ] {
        let error = ServerFrame::read(text).unwrap_err();
        assert!(matches!(error, ReadError::Fields { .. }), "{text}: {error}");
    }
    let without_text = r#"{"type":"user_message","seq":1,"occurred_at":"2026-01-01T09:00:00Z"}"#;
    let error = ServerFrame::read(without_text).unwrap_err();
    assert!(matches!(error, ReadError::Event(_)), "{error}");
}
