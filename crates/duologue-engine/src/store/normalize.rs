//! What stores keep of what they are given. All of them alike, so they share it.
//!
//! Postgres refuses U+0000 in `text` and `jsonb`. A message that has it would fail at every attempt
//! and take its session along; so U+FFFD is kept in its place. And times are kept to the
//! microsecond, the finest that Postgres knows.

use std::{borrow::Cow, time::Duration};

use duologue_protocol::{EndReason, Event, EventBody, SessionSummarized, Timestamp};

/// What a session's record keeps of its `session_ended`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// When it ended.
    pub time: Timestamp,
    /// Why it ended.
    pub reason: EndReason,
}

impl Ending {
    /// Reads it off the last of `events`, which must be a `session_ended`.
    pub fn of(events: &[Event]) -> Self {
        let Some((time, EventBody::SessionEnded(ended))) =
            events.last().map(|event| (event.occurred_at, &event.body))
        else {
            panic!("a session is ended by events of which the last is `session_ended`");
        };
        Self {
            time: stored_time(time),
            reason: ended.reason,
        }
    }

    /// How long the session took, in seconds with three decimals; zero if a clock stepped back.
    pub fn duration_seconds(&self, start_time: Timestamp) -> f64 {
        let microseconds = self.time.as_microsecond() - start_time.as_microsecond();
        let milliseconds = u64::try_from(microseconds.saturating_add(500) / 1000).unwrap_or(0);
        Duration::from_millis(milliseconds).as_secs_f64()
    }
}

/// The result in `event`, which must be a `session_summarized`.
pub fn summarized(event: &Event) -> &SessionSummarized {
    match &event.body {
        EventBody::SessionSummarized(result) => result,
        other => panic!(
            "a job is finished by `session_summarized`, not {}",
            other.event_type()
        ),
    }
}

/// A time as stores keep it.
pub fn stored_time(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).expect("rounding to zero keeps it in range")
}

/// The payload of `event` as stores keep it.
pub fn stored_payload(event: &Event) -> String {
    let mut json = event.payload();
    for at in escaped_nuls(&json) {
        json.replace_range(at..at + r"\u0000".len(), r"\ufffd");
    }
    json
}

/// Text outside of events as stores keep it.
pub fn stored_text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Where `json`, as `serde_json` writes it, has the escape of a NUL.
fn escaped_nuls(json: &str) -> Vec<usize> {
    const ESCAPE: &str = r"\u0000";
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = json[from..].find(ESCAPE).map(|at| from + at) {
        // After an odd number of backslashes the first one here is itself escaped, and what follows
        // it is plain text.
        let backslashes = json[..at].bytes().rev().take_while(|&b| b == b'\\').count();
        if backslashes % 2 == 0 {
            found.push(at);
        }
        from = at + ESCAPE.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use duologue_protocol::{Seq, SessionEnded, UserMessage};

    use super::*;

    fn said(text: &str) -> Event {
        Event {
            seq: Seq(1),
            occurred_at: Timestamp::UNIX_EPOCH,
            turn_id: None,
            body: EventBody::UserMessage(UserMessage {
                text: text.into(),
                id: None,
                queued_seq: None,
            }),
        }
    }

    /// The escape is distinguished from a backslash that the user wrote in front of `u0000`.
    #[test]
    fn a_nul_is_replaced_and_what_looks_like_one_is_not() {
        for (given, kept) in [
            ("a\0b\0\0", "a\u{FFFD}b\u{FFFD}\u{FFFD}"),
            (r"\u0000", r"\u0000"),
            ("\\\0", "\\\u{FFFD}"),
            (r"\\u0000", r"\\u0000"),
            ("\\\\\0", "\\\\\u{FFFD}"),
            ("plain", "plain"),
        ] {
            let payload = serde_json::from_str(&stored_payload(&said(given))).unwrap();
            let body = EventBody::read("user_message", payload).unwrap();
            assert_eq!(body, said(kept).body, "{given:?}");
        }
    }

    #[test]
    fn a_duration_is_rounded_to_milliseconds_and_never_negative() {
        let start = Timestamp::from_second(1_000).unwrap();
        for (microsecond, seconds) in [(1_000_000_000, 0.0), (1_001_234_500, 1.235), (1, 0.0)] {
            let ended = Event {
                occurred_at: Timestamp::from_microsecond(microsecond).unwrap(),
                body: EventBody::SessionEnded(SessionEnded {
                    reason: EndReason::Idle,
                }),
                ..said("")
            };
            let duration = Ending::of(&[said("bye"), ended]).duration_seconds(start);
            assert!(
                (duration - seconds).abs() < 1e-9,
                "{microsecond}: {duration}"
            );
        }
    }
}
