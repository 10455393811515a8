//! What holds for every log, whatever happened.

use duologue_protocol::{
    CallId, ConnectionId, DisconnectReason, Event, EventBody, MessageQueued, Seq, TurnId,
};

/// Panics, saying where, unless the log keeps the invariants.
///
/// Numbers without gaps, time that does not go back, the session's start first; one turn at a time,
/// each with one end; every tool call with one result; every message that waited with one turn, in
/// which it says the same; nobody leaves twice.
pub(crate) fn check(log: &[Event]) {
    let mut open_turn: Option<TurnId> = None;
    let mut open_calls: Vec<&CallId> = Vec::new();
    let mut gone: Vec<ConnectionId> = Vec::new();
    let mut last_turn = 0;
    for (event, seq) in log.iter().zip(1..) {
        let place = || format!("event {seq} in {:?}", types(log));
        assert_eq!(event.seq.0, seq, "{}", place());
        let is_first = seq == 1;
        let is_start = matches!(event.body, EventBody::SessionStarted(_));
        assert_eq!(is_first, is_start, "{}", place());
        match &event.body {
            EventBody::UserMessage(_) => {
                assert_eq!(open_turn, None, "{}", place());
                open_turn = event.turn_id;
                last_turn += 1;
                assert_eq!(event.turn_id, Some(TurnId(last_turn)), "{}", place());
            }
            EventBody::Routed(_) | EventBody::FollowUp(_) => {
                assert!(
                    open_turn.is_some() && event.turn_id == open_turn,
                    "{}",
                    place()
                );
            }
            EventBody::ToolCall(call) => {
                assert!(
                    open_turn.is_some() && event.turn_id == open_turn,
                    "{}",
                    place()
                );
                open_calls.push(&call.call_id);
            }
            EventBody::ToolResult(result) => {
                let call = open_calls.iter().position(|id| **id == result.call_id);
                open_calls.remove(call.unwrap_or_else(|| panic!("{}", place())));
            }
            EventBody::AssistantMessage(_) => {
                assert!(
                    open_turn.is_some() && event.turn_id == open_turn,
                    "{}",
                    place()
                );
                assert!(open_calls.is_empty(), "{}", place());
                open_turn = None;
            }
            EventBody::SessionEnded(_) => assert_eq!(open_turn, None, "{}", place()),
            EventBody::ClientDisconnected(left) => {
                assert!(!gone.contains(&left.connection), "{}", place());
                gone.push(left.connection);
            }
            EventBody::SessionStarted(_)
            | EventBody::Imported(_)
            | EventBody::ClientConnected(_)
            | EventBody::MessageQueued(_)
            | EventBody::SessionSummarized(_) => {}
        }
    }
    assert!(
        log.is_sorted_by_key(|event| event.occurred_at),
        "time goes back"
    );
    check_waiting(log);
}

/// Panics unless every message that waited has one turn, in which it says the same, before its
/// session ends.
fn check_waiting(log: &[Event]) {
    let mut waiting: Vec<(Seq, &MessageQueued)> = Vec::new();
    for event in log {
        match &event.body {
            EventBody::MessageQueued(queued) => {
                assert_eq!(event.turn_id, None, "event {}", event.seq);
                waiting.push((event.seq, queued));
            }
            EventBody::UserMessage(message) => {
                let Some(seq) = message.queued_seq else {
                    continue;
                };
                let found = waiting.iter().position(|(queued, _)| *queued == seq);
                let found = found.unwrap_or_else(|| panic!("event {}", event.seq));
                let (_, queued) = waiting.remove(found);
                assert_eq!((&message.text, &message.id), (&queued.text, &queued.id));
            }
            EventBody::SessionEnded(_) => assert_eq!(waiting, [], "event {}", event.seq),
            _ => {}
        }
    }
}

/// The log in short.
pub(crate) fn types(log: &[Event]) -> Vec<&'static str> {
    log.iter().map(|event| event.body.event_type()).collect()
}

/// Why readers left, oldest first.
pub(crate) fn drain_schedule(log: &[Event]) -> Vec<DisconnectReason> {
    let reasons = log.iter().filter_map(|event| match &event.body {
        EventBody::ClientDisconnected(left) => Some(left.reason),
        _ => None,
    });
    reasons.collect()
}
