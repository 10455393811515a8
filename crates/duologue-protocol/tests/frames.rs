//! The wire, frame by frame: each snapshot is what a client receives, byte for byte.
//!
//! A change of a snapshot is a change of the protocol. `docs/protocol.md` says which ones version 1
//! permits.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test may fail it as the test itself may"
)]

use duologue_protocol::{
    AssistantMessage, CallId, ClientConnected, ClientDisconnected, ConnectionId, DegradedReason,
    DisconnectReason, EndReason, ErrorCode, ErrorFrame, Event, EventBody, FinishReason, FollowUp,
    GoAwayReason, Imported, LogId, MessageId, MessageQueued, OnBusy, Received, Role, Routed, Seq,
    ServerFrame, SessionEnded, SessionId, SessionOpened, SessionStarted, SessionSummarized,
    SummaryStatus, TextFrames, ToolCall, ToolOutcome, ToolResult, TurnId, Usage, UserId,
    UserMessage,
};
use insta::assert_snapshot;
use serde_json::json;

const TURN: TurnId = TurnId(1);

/// The frame in both dialects, the text one as a reader gets it between two turns. A client must be
/// able to read the JSON back.
fn spelled(frame: &ServerFrame) -> String {
    let read = ServerFrame::read(&frame.to_json()).unwrap();
    assert_eq!(read, Received::Frame(frame.clone()));
    let texts = TextFrames::default().spell(frame);
    let texts = texts.iter().flatten().map(|text| format!("text: {text}"));
    let lines = std::iter::once(format!("json: {}", frame.to_json())).chain(texts);
    lines.collect::<Vec<_>>().join("\n")
}

/// The frame of an event, which must also come out of the store as it went in.
fn spelled_event(turn_id: Option<TurnId>, body: EventBody) -> String {
    let event = Event {
        seq: Seq(7),
        occurred_at: "2026-01-01T09:00:00.000125Z".parse().unwrap(),
        turn_id,
        body,
    };
    let payload = event.payload();
    let event_type = event.body.event_type();
    let read = Event::read_text(event.seq, event.occurred_at, event_type, &payload).unwrap();
    assert_eq!(read, event);
    let stored = serde_json::from_str(&payload).unwrap();
    let read = Event::read(event.seq, event.occurred_at, event_type, stored).unwrap();
    assert_eq!(read, event);
    spelled(&ServerFrame::Event(event))
}

fn in_turn(body: EventBody) -> String {
    spelled_event(Some(TURN), body)
}

fn outside(body: EventBody) -> String {
    spelled_event(None, body)
}

fn start() -> ServerFrame {
    ServerFrame::Start {
        role: Role::Assistant,
        turn_id: TURN,
    }
}

fn log_id() -> LogId {
    LogId::new("6f1ed002ab5595859014ebf0951522d9").expect("a log id")
}

fn started() -> SessionStarted {
    SessionStarted {
        session_id: session_id(),
        user_id: user_id(),
        agent: "duologue".into(),
    }
}

fn session_id() -> SessionId {
    SessionId::new("s-1").unwrap()
}

fn user_id() -> UserId {
    UserId::new("user-1").unwrap()
}

fn message_id() -> MessageId {
    MessageId::new("m-1").unwrap()
}

fn error(code: ErrorCode, id: Option<MessageId>, turn_id: Option<TurnId>) -> ServerFrame {
    let error = ErrorFrame::new(code, "a sentence");
    ServerFrame::Error(error.with_id(id).with_turn(turn_id))
}

fn answer() -> AssistantMessage {
    AssistantMessage {
        text: "Hello.".into(),
        finish_reason: FinishReason::Stop,
        error: None,
        usage: Some(Usage {
            input_tokens: 12,
            output_tokens: 3,
            estimated: false,
        }),
        ttft_ms: Some(310),
        duration_ms: 1000,
        model: "mock".into(),
    }
}

#[test]
fn session_started_is_the_first_event_of_a_new_session() {
    let occurred_at = "2026-01-01T09:00:00.000125Z".parse().unwrap();
    let opened = SessionOpened::new_session(Seq(1), occurred_at, started(), log_id());
    assert_snapshot!(spelled(&ServerFrame::Opened(opened)), @r#"
    json: {"type":"session_started","seq":1,"occurred_at":"2026-01-01T09:00:00.000125Z","session_id":"s-1","user_id":"user-1","agent":"duologue","log_id":"6f1ed002ab5595859014ebf0951522d9","resumed":false,"last_seq":1}
    text: {"type":"session_started","seq":1,"occurred_at":"2026-01-01T09:00:00.000125Z","session_id":"s-1","user_id":"user-1","agent":"duologue","log_id":"6f1ed002ab5595859014ebf0951522d9","resumed":false,"last_seq":1}
    "#);
}

#[test]
fn session_started_in_a_replay_has_only_what_the_log_has() {
    assert_snapshot!(outside(EventBody::SessionStarted(started())), @r#"
    json: {"type":"session_started","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","session_id":"s-1","user_id":"user-1","agent":"duologue"}
    text: {"type":"session_started","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","session_id":"s-1","user_id":"user-1","agent":"duologue"}
    "#);
}

#[test]
fn session_started_restates_the_facts_of_a_session_that_existed() {
    let resumed = ServerFrame::Opened(SessionOpened {
        seq: None,
        occurred_at: None,
        session_id: session_id(),
        user_id: user_id(),
        agent: "duologue".into(),
        log_id: log_id(),
        resumed: true,
        last_seq: Seq(7),
        message_bytes_max: Some(65536),
    });
    assert_snapshot!(spelled(&resumed), @r#"
    json: {"type":"session_started","session_id":"s-1","user_id":"user-1","agent":"duologue","log_id":"6f1ed002ab5595859014ebf0951522d9","resumed":true,"last_seq":7,"message_bytes_max":65536}
    text: {"type":"session_started","session_id":"s-1","user_id":"user-1","agent":"duologue","log_id":"6f1ed002ab5595859014ebf0951522d9","resumed":true,"last_seq":7,"message_bytes_max":65536}
    "#);
}

#[test]
fn client_connected_says_so_where_it_reopens_a_session() {
    let connected = |reopened| {
        outside(EventBody::ClientConnected(ClientConnected {
            connection: ConnectionId(2),
            reopened,
        }))
    };
    assert_snapshot!(connected(false), @r#"json: {"type":"client_connected","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","connection":2}"#);
    assert_snapshot!(connected(true), @r#"json: {"type":"client_connected","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","connection":2,"reopened":true}"#);
}

#[test]
fn client_disconnected_says_why() {
    let disconnected = ClientDisconnected {
        connection: ConnectionId(2),
        reason: DisconnectReason::Lost,
    };
    assert_snapshot!(outside(EventBody::ClientDisconnected(disconnected)), @r#"json: {"type":"client_disconnected","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","connection":2,"reason":"lost"}"#);
}

#[test]
fn user_message_has_the_id_that_the_client_gave() {
    let message = |id| {
        in_turn(EventBody::UserMessage(UserMessage {
            text: "say \"hello\"\n🦀".into(),
            id,
            queued_seq: None,
        }))
    };
    assert_snapshot!(message(None), @r#"json: {"type":"user_message","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","text":"say \"hello\"\n🦀"}"#);
    assert_snapshot!(message(Some(message_id())), @r#"json: {"type":"user_message","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","text":"say \"hello\"\n🦀","id":"m-1"}"#);
}

#[test]
fn user_message_names_the_message_queued_that_it_was() {
    let message = UserMessage {
        text: "hi".into(),
        id: Some(message_id()),
        queued_seq: Some(Seq(5)),
    };
    assert_snapshot!(in_turn(EventBody::UserMessage(message)), @r#"json: {"type":"user_message","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","text":"hi","id":"m-1","queued_seq":5}"#);
}

#[test]
fn message_queued_says_which_place_it_takes_and_nothing_as_text() {
    let queued = |id, on_busy| {
        outside(EventBody::MessageQueued(MessageQueued {
            text: "hi".into(),
            id,
            on_busy,
        }))
    };
    assert_snapshot!(queued(None, OnBusy::Queue), @r#"json: {"type":"message_queued","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","text":"hi","on_busy":"queue"}"#);
    assert_snapshot!(queued(Some(message_id()), OnBusy::Interrupt), @r#"json: {"type":"message_queued","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","text":"hi","id":"m-1","on_busy":"interrupt"}"#);
}

#[test]
fn start_opens_an_answer() {
    assert_snapshot!(spelled(&start()), @r#"json: {"type":"start","role":"assistant","turn_id":"turn-1"}"#);
}

#[test]
fn routed_names_the_tool_that_the_route_leads_to() {
    let routed = |tool: Option<&str>| {
        in_turn(EventBody::Routed(Routed {
            route: "order_status".into(),
            tool: tool.map(Into::into),
        }))
    };
    assert_snapshot!(routed(None), @r#"json: {"type":"routed","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","route":"order_status"}"#);
    assert_snapshot!(routed(Some("get_order_status")), @r#"json: {"type":"routed","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","route":"order_status","tool":"get_order_status"}"#);
}

#[test]
fn tool_call_has_its_arguments() {
    let call = ToolCall {
        call_id: CallId::new(TURN, 1),
        name: "get_order_status".into(),
        arguments: json!({"order_id": "ORD-1001"}),
    };
    assert_snapshot!(in_turn(EventBody::ToolCall(call)), @r#"json: {"type":"tool_call","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","call_id":"call-1-1","name":"get_order_status","arguments":{"order_id":"ORD-1001"}}"#);
}

#[test]
fn tool_result_has_a_result_or_an_error() {
    let result = |outcome| {
        in_turn(EventBody::ToolResult(ToolResult {
            call_id: CallId::new(TURN, 1),
            name: "get_order_status".into(),
            outcome,
            duration_ms: 12,
        }))
    };
    assert_snapshot!(result(ToolOutcome::Result(json!({"status": "shipped"}))), @r#"json: {"type":"tool_result","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","call_id":"call-1-1","name":"get_order_status","result":{"status":"shipped"},"duration_ms":12}"#);
    assert_snapshot!(result(ToolOutcome::Error("the tool took too long".into())), @r#"json: {"type":"tool_result","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","call_id":"call-1-1","name":"get_order_status","error":"the tool took too long","duration_ms":12}"#);
}

#[test]
fn follow_up_has_the_question_and_the_schema_of_what_is_missing() {
    let follow_up = FollowUp {
        tool: "get_order_status".into(),
        missing: vec!["order_id".into()],
        question: "Which order?".into(),
        schema: json!({"type": "object"}),
        arguments: json!({}),
    };
    assert_snapshot!(in_turn(EventBody::FollowUp(follow_up)), @r#"json: {"type":"follow_up","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","tool":"get_order_status","missing":["order_id"],"question":"Which order?","schema":{"type":"object"},"arguments":{}}"#);
}

#[test]
fn token_is_a_piece_of_text() {
    let token = ServerFrame::Token {
        turn_id: TURN,
        text: "Hel".into(),
        index: 0,
    };
    assert_snapshot!(spelled(&token), @r#"
    json: {"type":"token","turn_id":"turn-1","index":0,"token":"Hel"}
    text: Hel
    "#);
}

#[test]
fn draft_is_the_text_so_far_and_unsaid_as_text_where_it_is_empty() {
    let draft = |text: &str| {
        spelled(&ServerFrame::Draft {
            turn_id: TURN,
            text: text.into(),
            next_index: 1,
        })
    };
    assert_snapshot!(draft("Hel"), @r#"
    json: {"type":"draft","turn_id":"turn-1","text":"Hel","next_index":1}
    text: Hel
    "#);
    assert_snapshot!(draft(""), @r#"json: {"type":"draft","turn_id":"turn-1","text":"","next_index":1}"#);
}

#[test]
fn done_has_the_whole_answer() {
    assert_snapshot!(in_turn(EventBody::AssistantMessage(answer())), @r#"
    json: {"type":"done","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","text":"Hello.","finish_reason":"stop","usage":{"input_tokens":12,"output_tokens":3},"ttft_ms":310,"duration_ms":1000,"model":"mock"}
    text: [END_OF_RESPONSE]
    "#);
}

#[test]
fn done_says_what_failed_and_leaves_out_what_there_was_not() {
    let failed = AssistantMessage {
        text: "".into(),
        finish_reason: FinishReason::Error,
        error: Some(ErrorCode::UpstreamTimeout),
        usage: None,
        ttft_ms: None,
        ..answer()
    };
    assert_snapshot!(in_turn(EventBody::AssistantMessage(failed)), @r#"
    json: {"type":"done","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","turn_id":"turn-1","text":"","finish_reason":"error","error":"upstream_timeout","duration_ms":1000,"model":"mock"}
    text: [END_OF_RESPONSE]
    "#);
}

#[test]
fn replayed_says_how_far() {
    assert_snapshot!(spelled(&ServerFrame::Replayed { seq: Seq(7) }), @r#"json: {"type":"replayed","seq":7}"#);
}

#[test]
fn error_refuses_a_message_or_fails_a_turn() {
    let refused = error(ErrorCode::EmptyMessage, Some(message_id()), None);
    assert_snapshot!(spelled(&refused), @r#"
    json: {"type":"error","code":"empty_message","message":"a sentence","retryable":false,"id":"m-1"}
    text: [ERROR] empty_message: a sentence
    text: [END_OF_RESPONSE]
    "#);
    let failed = error(ErrorCode::UpstreamTimeout, None, Some(TURN));
    assert_snapshot!(spelled(&failed), @r#"
    json: {"type":"error","code":"upstream_timeout","message":"a sentence","retryable":true,"turn_id":"turn-1"}
    text: [ERROR] upstream_timeout: a sentence
    "#);
}

#[test]
fn goaway_says_when_to_come_back() {
    let goaway = ServerFrame::GoAway {
        reason: GoAwayReason::Restart,
        reconnect_after_ms: 1250,
    };
    assert_snapshot!(spelled(&goaway), @r#"json: {"type":"goaway","reason":"restart","reconnect_after_ms":1250}"#);
}

#[test]
fn degraded_and_recovered_say_what_is_away_and_back() {
    let reason = DegradedReason::Storage;
    assert_snapshot!(spelled(&ServerFrame::Degraded { reason }), @r#"json: {"type":"degraded","reason":"storage"}"#);
    assert_snapshot!(spelled(&ServerFrame::Recovered { reason }), @r#"json: {"type":"recovered","reason":"storage"}"#);
}

#[test]
fn session_ended_says_why() {
    let ended = SessionEnded {
        reason: EndReason::Abandoned,
    };
    assert_snapshot!(outside(EventBody::SessionEnded(ended)), @r#"json: {"type":"session_ended","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","reason":"abandoned"}"#);
}

#[test]
fn imported_shows_what_it_was() {
    let imported = outside(EventBody::Imported(Imported {
        former_type: "feedback".to_owned(),
        former: json!({ "stars": 5 }),
    }));
    assert_snapshot!(imported, @r#"json: {"type":"imported","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","former_type":"feedback","former":{"stars":5}}"#);
}

#[test]
fn session_summarized_has_the_summary_unless_it_failed() {
    let summarized = |status, summary: Option<&str>| {
        outside(EventBody::SessionSummarized(SessionSummarized {
            status,
            summary: summary.map(Into::into),
        }))
    };
    assert_snapshot!(summarized(SummaryStatus::Done, Some("- Orders.")), @r#"json: {"type":"session_summarized","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","status":"done","summary":"- Orders."}"#);
    assert_snapshot!(summarized(SummaryStatus::Failed, None), @r#"json: {"type":"session_summarized","seq":7,"occurred_at":"2026-01-01T09:00:00.000125Z","status":"failed"}"#);
}

#[test]
fn authentication_has_frames_that_only_the_json_dialect_spells() {
    let expires_at = "2026-01-01T10:00:00Z".parse().unwrap();
    let required = ServerFrame::AuthRequired { timeout_ms: 10_000 };
    assert_snapshot!(spelled(&required), @r#"json: {"type":"auth_required","timeout_ms":10000}"#);
    let ok = ServerFrame::AuthOk {
        user_id: user_id(),
        expires_at,
    };
    assert_snapshot!(spelled(&ok), @r#"json: {"type":"auth_ok","user_id":"user-1","expires_at":"2026-01-01T10:00:00Z"}"#);
    let expiring = ServerFrame::AuthExpiring { expires_at };
    assert_snapshot!(spelled(&expiring), @r#"json: {"type":"auth_expiring","expires_at":"2026-01-01T10:00:00Z"}"#);
}

#[test]
fn pong_is_bare() {
    assert_snapshot!(spelled(&ServerFrame::Pong), @r#"json: {"type":"pong"}"#);
}

/// A text client waits for the marker: it must get one for each message, whatever goes wrong.
#[test]
fn the_text_dialect_ends_each_turn_with_one_marker() {
    let done = Event {
        seq: Seq(7),
        occurred_at: "2026-01-01T09:00:00Z".parse().unwrap(),
        turn_id: Some(TURN),
        body: EventBody::AssistantMessage(answer()),
    };
    let script = [
        error(ErrorCode::EmptyMessage, None, None), // refused, and nothing is running
        start(),
        error(ErrorCode::Busy, None, None), // refused, and an answer is open
        error(ErrorCode::ToolFailed, None, Some(TURN)),
        ServerFrame::Event(done),
        error(ErrorCode::Busy, None, None), // refused again, after the answer
    ];
    let mut dialect = TextFrames::default();
    let frames = script.iter().flat_map(|frame| dialect.spell(frame));
    let texts: Vec<_> = frames.flatten().collect();
    assert_snapshot!(texts.join("\n"), @r#"
    [ERROR] empty_message: a sentence
    [END_OF_RESPONSE]
    [ERROR] busy: a sentence
    [ERROR] tool_failed: a sentence
    [END_OF_RESPONSE]
    [ERROR] busy: a sentence
    [END_OF_RESPONSE]
    "#);
}

#[test]
fn a_stored_row_that_this_build_cannot_read_is_an_error_that_names_its_type() {
    for (event_type, payload) in [
        ("from_the_future", json!({})),
        ("user_message", json!({})),
        ("user_message", json!({"text": "hi", "turn_id": "seven"})),
        (
            "tool_result",
            json!({"call_id": "call-1-1", "name": "x", "duration_ms": 1}),
        ),
    ] {
        let at = "2026-01-01T09:00:00Z".parse().unwrap();
        let error = Event::read(Seq(1), at, event_type, payload).unwrap_err();
        assert!(error.to_string().contains(event_type), "{error}");
    }
}
