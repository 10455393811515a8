//! Properties of what is kept: any event, any text, any size, and the time.

use std::time::Duration;

use duologue_protocol::{
    AssistantMessage, CallId, ClientConnected, ClientDisconnected, ConnectionId, DisconnectReason,
    ErrorCode, Event, EventBody, FinishReason, FollowUp, MessageId, MessageQueued, OnBusy, Routed,
    Seq, ToolCall, ToolOutcome, ToolResult, TurnId, Usage, UserMessage,
};
use serde_json::json;

use super::fixture::{
    LONG, claim, draft, ended, event, log, moment, record, said, save_draft, server, start,
    start_and_end, started, summarized,
};
use duologue_engine::store::{JobRelease, Store};

/// A log with one event of every kind, its optional fields filled.
pub async fn every_kind_of_event_is_read_back_as_it_was(store: &dyn Store) {
    let lease = start(store, "s").await;
    let mut middle: Vec<_> = (2..)
        .zip(bodies())
        .map(|(seq, body)| event(seq, body))
        .collect();
    middle[0].turn_id = None;
    let last = Seq(1 + middle.len() as u64);
    store.append(&lease, Seq(1), &middle).await.unwrap();
    store
        .end(&lease, last, &[ended(last.0 + 1)], None)
        .await
        .unwrap();
    let job = store
        .claim_job(&server("worker"), LONG)
        .await
        .unwrap()
        .unwrap();
    let summarized = summarized(last.0 + 2, Some("a talk"));
    store.finish_job(&job, &summarized).await.unwrap();

    let mut expected = vec![started("s")];
    expected.append(&mut middle);
    expected.push(ended(last.0 + 1));
    expected.push(summarized);
    assert_eq!(log(store, "s").await, expected);
}

fn bodies() -> Vec<EventBody> {
    let call_id = CallId::new(TurnId(1), 1);
    let result = |outcome| ToolResult {
        call_id: call_id.clone(),
        name: "get_order".to_owned(),
        outcome,
        duration_ms: 7,
    };
    vec![
        EventBody::ClientConnected(ClientConnected {
            connection: ConnectionId(1),
            reopened: true,
        }),
        EventBody::UserMessage(UserMessage {
            text: "where is it?".into(),
            id: Some(MessageId::new("m-1").expect("a message id")),
            queued_seq: None,
        }),
        EventBody::MessageQueued(MessageQueued {
            text: "and the other?".into(),
            id: Some(MessageId::new("m-2").expect("a message id")),
            on_busy: OnBusy::Interrupt,
        }),
        EventBody::UserMessage(UserMessage {
            text: "and the other?".into(),
            id: Some(MessageId::new("m-2").expect("a message id")),
            queued_seq: Some(Seq(3)),
        }),
        EventBody::Routed(Routed {
            route: "orders".to_owned(),
            tool: Some("get_order".to_owned()),
        }),
        EventBody::FollowUp(FollowUp {
            tool: "get_order".to_owned(),
            missing: vec!["order_id".to_owned()],
            question: "Which order?".to_owned(),
            schema: json!({"type": "object", "required": ["order_id"]}),
            arguments: json!({}),
        }),
        EventBody::ToolCall(ToolCall {
            call_id: call_id.clone(),
            name: "get_order".to_owned(),
            arguments: json!({"order_id": "ORD-1", "deep": [{"n": -1.5}, null, true, 1_u64 << 60]}),
        }),
        EventBody::ToolResult(result(ToolOutcome::Result(json!([{"state": "sent"}])))),
        EventBody::ToolResult(result(ToolOutcome::Error("out of order".to_owned()))),
        EventBody::AssistantMessage(AssistantMessage {
            text: "on its way".into(),
            finish_reason: FinishReason::Error,
            error: Some(ErrorCode::UpstreamTimeout),
            usage: Some(Usage {
                input_tokens: 11,
                output_tokens: 22,
                estimated: false,
            }),
            ttft_ms: Some(33),
            duration_ms: 44,
            model: "mock".to_owned(),
        }),
        EventBody::ClientDisconnected(ClientDisconnected {
            connection: ConnectionId(1),
            reason: DisconnectReason::Lost,
        }),
    ]
}

/// Scripts, emoji, quotes of every kind, control characters, and what looks like SQL or JSON; in
/// events, drafts and summaries.
pub async fn any_text_is_kept(store: &dyn Store) {
    let texts = [
        "",
        "👩‍👩‍👧‍👦 🏳️‍🌈 e\u{301} ﷽ 漢字 שלום \u{202E}abc",
        "'; drop table sessions; -- \" ` $1 ?1 %s \\ \\' \\u0000 \\\\u0041",
        r#"{"a": "b"}"#,
        "line\nline\r\n\ttab \u{1} \u{7f} \u{85} \u{2028} \u{feff}",
        "\u{10FFFF} \u{FFFD} \u{E000}",
    ];
    let lease = start(store, "s").await;
    let events: Vec<_> = (2..)
        .zip(texts)
        .map(|(seq, text)| said(seq, text))
        .collect();
    let last = Seq(1 + texts.len() as u64);
    store.append(&lease, Seq(1), &events).await.unwrap();
    assert_eq!(log(store, "s").await[1..], events);

    let all = texts.concat();
    save_draft(store, &lease, &draft(&all)).await;
    let lease = claim(store, "s", "there").await;
    assert_eq!(lease.draft, Some(draft(&all)));

    store
        .end(&lease.lease, last, &[ended(last.0 + 1)], None)
        .await
        .unwrap();
    let job = store
        .claim_job(&server("worker"), LONG)
        .await
        .unwrap()
        .unwrap();
    store
        .finish_job(&job, &summarized(last.0 + 2, Some(&all)))
        .await
        .unwrap();
    assert_eq!(record(store, "s").await.summary, Some(all));
}

/// Postgres cannot hold U+0000, so no store does; and it must not make a write fail again and again.
pub async fn a_nul_is_kept_as_a_replacement_character(store: &dyn Store) {
    let lease = start_and_end(store, "s").await;
    let job = store
        .claim_job(&server("worker"), LONG)
        .await
        .unwrap()
        .unwrap();
    store
        .release_job(&job, &JobRelease::failed(Duration::ZERO, "no\0good"))
        .await
        .unwrap();
    let lease = claim(store, lease.session_id.as_str(), "there").await.lease;
    store
        .append(&lease, Seq(2), &[said(3, "a\0b")])
        .await
        .unwrap();
    // The repetition must still be seen as one.
    store
        .append(&lease, Seq(2), &[said(3, "a\0b")])
        .await
        .unwrap();
    save_draft(store, &lease, &draft("c\0d")).await;
    assert_eq!(log(store, "s").await[2..], [said(3, "a\u{FFFD}b")]);
    let claimed = claim(store, "s", "there").await;
    assert_eq!(claimed.draft, Some(draft("c\u{FFFD}d")));
}

/// One event of a megabyte, and a draft of the same size.
pub async fn a_megabyte_is_kept(store: &dyn Store) {
    let text = "0123456789abcdé\n".repeat(1 << 16);
    let lease = start(store, "s").await;
    store
        .append(&lease, Seq(1), &[said(2, &text)])
        .await
        .unwrap();
    save_draft(store, &lease, &draft(&text)).await;
    assert_eq!(log(store, "s").await[1..], [said(2, &text)]);
    assert_eq!(claim(store, "s", "there").await.draft, Some(draft(&text)));
}

/// More events than any turn has, in one call.
pub async fn many_events_are_appended_at_once(store: &dyn Store) {
    let lease = start(store, "s").await;
    let events: Vec<_> = (2..=1_500).map(|seq| said(seq, "again")).collect();
    store.append(&lease, Seq(1), &events).await.unwrap();
    assert_eq!(log(store, "s").await[1..], events);
}

/// Microseconds survive, what is finer is cut off, and the order stays.
pub async fn times_are_kept_to_the_microsecond(store: &dyn Store) {
    let at = |seq, nanoseconds| Event {
        occurred_at: moment(1) + Duration::from_nanos(nanoseconds),
        ..said(seq, "tick")
    };
    let given = [
        at(2, 0),
        at(3, 1_000),
        at(4, 1_999),
        at(5, 2_000),
        at(6, 999_999_999),
    ];
    let kept = [
        at(2, 0),
        at(3, 1_000),
        at(4, 1_000),
        at(5, 2_000),
        at(6, 999_999_000),
    ];
    let lease = start(store, "s").await;
    store.append(&lease, Seq(1), &given).await.unwrap();
    // Also when it is repeated with what the caller still has.
    store.append(&lease, Seq(1), &given).await.unwrap();
    assert_eq!(log(store, "s").await[1..], kept);
}
