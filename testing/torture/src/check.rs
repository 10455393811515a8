//! Compares what clients saw with what the log says once all is quiet.
//!
//! It looks at the logs as clients do: as frames. What can be seen in the store alone is left to
//! `duologue verify`; here are the promises that need a witness.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use duologue_observer::canary;
use jiff::{Timestamp, ToSpan};
use serde_json::Value;

use crate::history::{Finding, FindingKind, History, Outcome, Request};

#[cfg(test)]
mod tests;

/// How late a client may notice what the server knows: its task waits for its turn on a machine
/// that is under load.
const NOTICE_MILLISECONDS_MAX: i64 = 700;

/// The logs of all sessions when all is quiet, each as the frames that a replay would send.
pub type Logs = BTreeMap<String, Vec<Value>>;

/// What is broken. `grace` is how long a session waits for a client to come back.
pub fn findings(histories: &[History], logs: &Logs, grace: std::time::Duration) -> Vec<Finding> {
    let mut findings: Vec<Finding> = histories
        .iter()
        .flat_map(|history| history.breaches.clone())
        .collect();
    let none = Vec::new();
    let mut sessions: BTreeMap<&str, Vec<&History>> = BTreeMap::new();
    for history in histories {
        sessions.entry(&history.session).or_default().push(history);
    }
    for (session, histories) in sessions {
        let log = logs.get(session).unwrap_or(&none);
        let mut report = Report {
            session,
            findings: &mut findings,
        };
        report.messages(&histories, log);
        report.turns(log);
        report.endings(&histories, log);
        report.earliness(&histories, log, grace);
        report.canaries(&histories, log);
        for history in histories {
            report.view(history, log);
        }
    }
    findings
}

struct Report<'a> {
    session: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Report<'_> {
    fn found(&mut self, kind: FindingKind, what: String) {
        self.findings.push(Finding::new(kind, self.session, what));
    }

    /// Every acknowledged message once, every refused one not at all, none that nobody sent.
    fn messages(&mut self, histories: &[&History], log: &[Value]) {
        let mut stored: HashMap<&str, usize> = HashMap::new();
        for event in of_type(log, "user_message") {
            *stored.entry(string(event, "text")).or_default() += 1;
        }
        let mut sent = BTreeSet::new();
        for history in histories {
            for operation in &history.operations {
                let Request::Message { text, .. } = &operation.request else {
                    continue;
                };
                sent.insert(text.as_str());
                let times = stored.get(text.as_str()).copied().unwrap_or(0);
                match (operation.outcome, times) {
                    (Outcome::Ok, 0) => self.found(
                        FindingKind::LostReceipt,
                        format!("{} received that \"{text}\" is stored", history.client),
                    ),
                    (Outcome::Failed, 1..) => self.found(
                        FindingKind::RefusedButStored,
                        format!("{} received that \"{text}\" is refused", history.client),
                    ),
                    _ => {}
                }
            }
        }
        for (text, times) in stored {
            if times > 1 {
                let what = format!("\"{text}\" is stored {times} times");
                self.found(FindingKind::DoubledMessage, what);
            }
            if !sent.contains(text) {
                self.found(FindingKind::NeverSent, format!("\"{text}\""));
            }
        }
    }

    /// Every message has one answer, before the next message's turn and before the end.
    fn turns(&mut self, log: &[Value]) {
        let mut open: Option<&Value> = None;
        for event in log {
            let unanswered = match string(event, "type") {
                "user_message" => open.replace(event),
                "done" => match open.take() {
                    Some(_) => None,
                    None => Some(event),
                },
                "session_ended" => open.take(),
                _ => None,
            };
            if let Some(event) = unanswered {
                let what = format!("event {} has no counterpart", event["seq"]);
                self.found(FindingKind::OpenTurn, what);
            }
        }
        if let Some(event) = open {
            let what = format!("event {} was never answered", event["seq"]);
            self.found(FindingKind::OpenTurn, what);
        }
    }

    /// One ending for each life of the session, the last one for good; none that nobody asked for.
    fn endings(&mut self, histories: &[&History], log: &[Value]) {
        let mut ended_at = None;
        for event in log {
            match string(event, "type") {
                "session_ended" => {
                    if let Some(before) = ended_at.replace(event["seq"].clone()) {
                        let what = format!("events {before} and {} both end it", event["seq"]);
                        self.found(FindingKind::DoubledEnding, what);
                    }
                }
                "client_connected" if event["reopened"] == true => ended_at = None,
                _ => {}
            }
        }
        if ended_at.is_none()
            || log.last().map(|event| string(event, "type")) != Some("session_summarized")
        {
            let last = log.last().map_or("nothing", |event| string(event, "type"));
            let what = format!("the log ends with {last}");
            self.found(FindingKind::NotCompleted, what);
        }
        let asked = histories
            .iter()
            .flat_map(|history| &history.operations)
            .filter(|operation| {
                operation.request == Request::End && operation.outcome != Outcome::Failed
            })
            .count();
        let by_request = of_type(log, "session_ended")
            .filter(|event| ["requested", "closed"].contains(&string(event, "reason")))
            .count();
        if by_request > asked {
            let what = format!("ended {by_request} times by request, but {asked} were sent");
            self.found(FindingKind::DoubledEnding, what);
        }
    }

    /// Nobody is given up who is there, or has been gone for less than the grace.
    fn earliness(&mut self, histories: &[&History], log: &[Value], grace: std::time::Duration) {
        let abandoned =
            of_type(log, "session_ended").filter(|event| event["reason"] == "abandoned");
        let grace = jiff::SignedDuration::try_from(grace).expect("a grace is short");
        let notice = NOTICE_MILLISECONDS_MAX.milliseconds();
        for event in abandoned {
            let Ok(ended) = string(event, "occurred_at").parse::<Timestamp>() else {
                self.found(FindingKind::Protocol, format!("{event} has no time"));
                continue;
            };
            let attachments = histories.iter().flat_map(|history| {
                let ours = history.attachments.iter();
                ours.map(move |attachment| (&history.client, attachment))
            });
            for (client, attachment) in attachments.filter(|(_, one)| one.reads_at_once) {
                let earliest = attachment
                    .until
                    .map_or(Timestamp::MAX, |until| until - notice + grace);
                if attachment.from + notice < ended && ended < earliest {
                    let what = format!(
                        "event {} gives it up at {ended}, but {client} was there until {:?}",
                        event["seq"], attachment.until
                    );
                    self.found(FindingKind::EarlyEnding, what);
                }
            }
        }
    }

    /// What is said in one session is seen in no other.
    fn canaries(&mut self, histories: &[&History], log: &[Value]) {
        for event in log {
            let text = event.to_string();
            for history in histories {
                if let Some(foreign) = canary::foreign(&text, &history.canary) {
                    let what = format!("event {} has {foreign}", event["seq"]);
                    self.found(FindingKind::ForeignCanary, what);
                }
            }
        }
    }

    /// What a client saw is what the log says, without a gap.
    fn view(&mut self, history: &History, log: &[Value]) {
        let mut before: Option<u64> = None;
        for (seq, seen) in &history.events {
            if before.is_some_and(|before| seq - before != 1) {
                let what = format!(
                    "{} saw nothing between {before:?} and {seq}",
                    history.client
                );
                self.found(FindingKind::Gap, what);
            }
            before = Some(*seq);
            let place = usize::try_from(*seq)
                .ok()
                .and_then(|seq| seq.checked_sub(1));
            match place.and_then(|place| log.get(place)) {
                Some(logged) if logged == seen => {}
                Some(logged) => self.found(
                    FindingKind::DiffersFromLog,
                    format!("{} saw {seen}, the log has {logged}", history.client),
                ),
                None => self.found(
                    FindingKind::LogWentBack,
                    format!("{} saw {seen}, the log has {}", history.client, log.len()),
                ),
            }
        }
    }
}

fn of_type<'a>(log: &'a [Value], r#type: &'a str) -> impl Iterator<Item = &'a Value> {
    log.iter().filter(move |event| event["type"] == r#type)
}

fn string<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}
