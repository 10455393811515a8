//! What a log must look like by itself, and beside its row.

use std::collections::{BTreeMap, BTreeSet};

use duologue_engine::store::SessionStatus;
use duologue_protocol::{EventBody, SummaryStatus};

use super::Kept;

pub(super) fn problems(kept: &Kept) -> Vec<String> {
    [
        numbers(kept),
        messages(kept),
        turns(kept),
        calls(kept),
        row(kept),
    ]
    .concat()
}

/// 1, 2, 3, …, and time does not go back.
fn numbers(kept: &Kept) -> Vec<String> {
    let mut problems = Vec::new();
    for (event, seq) in kept.events.iter().zip(1_u64..) {
        if event.seq.0 != seq {
            problems.push(format!("event {seq} bears the number {}", event.seq));
        }
    }
    for pair in kept.events.windows(2) {
        if pair[1].occurred_at < pair[0].occurred_at {
            problems.push(format!("time goes back at event {}", pair[1].seq));
        }
    }
    problems
}

/// No message is there twice. No two that clients send have the same text.
fn messages(kept: &Kept) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let texts = kept.events.iter().filter_map(|event| match &event.body {
        EventBody::UserMessage(said) => Some(said.text.to_string()),
        _ => None,
    });
    texts
        .filter(|text| !seen.insert(text.clone()))
        .map(|text| format!("{text:?} is there twice"))
        .collect()
}

/// Each message has its end before the next one and before the session's.
fn turns(kept: &Kept) -> Vec<String> {
    let mut problems = Vec::new();
    let mut open = None;
    for event in &kept.events {
        match &event.body {
            EventBody::UserMessage(_) => {
                if let Some(before) = open.replace(event.seq) {
                    problems.push(format!("message {before} has no end before {}", event.seq));
                }
            }
            EventBody::AssistantMessage(_) if open.take().is_none() => {
                problems.push(format!("event {} ends no message", event.seq));
            }
            EventBody::SessionEnded(_) => {
                if let Some(before) = open.take() {
                    problems.push(format!("the session ends before message {before} does"));
                }
            }
            _ => {}
        }
    }
    problems.extend(open.map(|seq| format!("message {seq} has no end")));
    problems
}

/// At most one result for each call, and none without one.
fn calls(kept: &Kept) -> Vec<String> {
    let mut results = BTreeMap::new();
    let mut problems = Vec::new();
    for event in &kept.events {
        match &event.body {
            EventBody::ToolCall(call) => {
                if results.insert(call.call_id.clone(), 0).is_some() {
                    problems.push(format!("{} is called twice", call.call_id));
                }
            }
            EventBody::ToolResult(result) => match results.get_mut(&result.call_id) {
                Some(count) if *count == 0 => *count += 1,
                _ => problems.push(format!("event {} is one result too many", event.seq)),
            },
            _ => {}
        }
    }
    problems
}

/// The row says what the log says: ended, and summed up.
fn row(kept: &Kept) -> Vec<String> {
    let Kept { record, events } = kept;
    let mut problems = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            problems.push(format!("{what}: {record:?}"));
        }
    };
    let length = events.len() as u64;
    expect(
        record.last_seq.0 == length,
        "the row and the log differ in length",
    );
    expect(
        record.status == SessionStatus::Completed,
        "it is not completed",
    );
    let is_over = matches!(
        record.summary_status,
        Some(SummaryStatus::Done | SummaryStatus::Failed)
    );
    expect(is_over, "its summary is still to come");
    let bodies: Vec<_> = events.iter().rev().map(|event| &event.body).collect();
    let [
        EventBody::SessionSummarized(summarized),
        EventBody::SessionEnded(ended),
        ..,
    ] = bodies[..]
    else {
        expect(
            false,
            "its log does not end with its ending and its summary",
        );
        return problems;
    };
    expect(
        record.end_reason == Some(ended.reason),
        "another reason to end",
    );
    expect(
        record.summary_status == Some(summarized.status),
        "another outcome",
    );
    if summarized.status == SummaryStatus::Done {
        expect(record.summary == summarized.summary, "another summary");
    }
    let ended_at = events[events.len() - 2].occurred_at;
    expect(record.end_time == Some(ended_at), "another time of its end");
    expect(
        record
            .duration_seconds
            .is_some_and(|seconds| seconds >= 0.0),
        "a negative duration",
    );
    problems
}
