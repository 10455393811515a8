//! What one client knows of a session, and what it may rely on, checked with every frame.
//!
//! * Events come in order, without gaps and without doubles, across all connections.
//! * Pieces of an answer are numbered 0, 1, 2, …; its end has the same text.
//! * The log never becomes shorter, and its time never goes back.
//! * Nothing of another session is ever shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
};

use duologue_protocol::{Received, ServerFrame};
use serde_json::Value;

use crate::canary;

/// Which promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreachKind {
    /// Events or pieces of text came with a gap, twice, or out of order.
    Gap,
    /// The log that the client had received is gone.
    LogWentBack,
    /// What came differs from what came before.
    Contradiction,
    /// A word of another session came.
    ForeignCanary,
    /// A frame is not what the protocol allows here.
    Protocol,
}

/// A promise that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which promise.
    pub kind: BreachKind,
    /// What exactly.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Whose view it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The session.
    pub session_id: String,
    /// Its user.
    pub user_id: String,
    /// The session's word: see [`canary`].
    pub canary: String,
}

/// What a client received of one session, over all its connections, from the first event on.
#[derive(Debug)]
pub struct View {
    identity: Identity,
    last_seq: u64,
    last_occurred_at: String,
    events: BTreeMap<u64, String>,
    /// Messages in the log without their answer, by their turn.
    open: BTreeMap<String, String>,
    receipts: BTreeSet<String>,
    answered: BTreeSet<String>,
    answer: Option<Answer>,
    /// Whether a message was sent again over this connection, so that its receipt may be repeated.
    may_repeat: bool,
    breaches: Vec<Breach>,
}

/// An answer in progress.
#[derive(Debug)]
struct Answer {
    turn_id: String,
    text: String,
    next_index: u64,
    /// Whether every piece is received: from its start, or from a draft on.
    is_complete: bool,
}

impl View {
    /// The view of a client that has not connected yet.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            last_seq: 0,
            last_occurred_at: String::new(),
            events: BTreeMap::new(),
            open: BTreeMap::new(),
            receipts: BTreeSet::new(),
            answered: BTreeSet::new(),
            answer: None,
            may_repeat: false,
            breaches: Vec::new(),
        }
    }

    /// The number of the last event; 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Every event by its number, as a replay sends it.
    pub fn events(&self) -> &BTreeMap<u64, String> {
        &self.events
    }

    /// Whether the message with this text was acknowledged.
    pub fn has_receipt(&self, text: &str) -> bool {
        self.receipts.contains(text)
    }

    /// Whether the turn of the message with this text is over.
    pub fn has_answer(&self, text: &str) -> bool {
        self.answered.contains(text)
    }

    /// A connection begins: pieces are missed until a draft or the next start.
    pub fn connected(&mut self) {
        self.may_repeat = false;
        if let Some(answer) = &mut self.answer {
            answer.is_complete = false;
        }
    }

    /// A message was sent again: its receipt may come again as well.
    pub fn resent(&mut self) {
        self.may_repeat = true;
    }

    /// Takes a frame in. Returns the promises that it breaks.
    pub fn receive(&mut self, text: &str, frame: &Value) -> Vec<Breach> {
        if let Some(foreign) = canary::foreign(text, &self.identity.canary) {
            let own = &self.identity.canary;
            let what = format!("{foreign} is shown in the session of {own}: {text}");
            self.breach(BreachKind::ForeignCanary, what);
        }
        match (frame["seq"].as_u64(), field(frame, "type")) {
            (_, "replayed") => self.replayed(frame),
            (Some(seq), kind) => self.event(seq, kind, frame, text),
            (None, "session_started") => self.resumed(frame),
            (None, "error") => self.error(frame),
            (None, "start") => self.start(frame),
            (None, "draft") => self.draft(frame),
            (None, "token") => self.token(frame),
            _ => {}
        }
        mem::take(&mut self.breaches)
    }

    fn breach(&mut self, kind: BreachKind, what: String) {
        self.breaches.push(Breach { kind, what });
    }

    fn event(&mut self, seq: u64, kind: &str, frame: &Value, text: &str) {
        if seq <= self.last_seq {
            return self.repeated(seq, kind, text);
        }
        if seq != self.last_seq + 1 {
            let what = format!("event {seq} follows event {}", self.last_seq);
            self.breach(BreachKind::Gap, what);
        }
        self.last_seq = seq;
        self.events.insert(seq, event_in_log(text));
        self.occurred(seq, field(frame, "occurred_at"));
        match kind {
            "message_queued" => {
                self.receipts.insert(field(frame, "text").to_owned());
            }
            "user_message" => {
                let message = field(frame, "text").to_owned();
                let turn_id = field(frame, "turn_id").to_owned();
                self.receipts.insert(message.clone());
                self.open.insert(turn_id, message);
            }
            "done" => self.done(frame),
            _ => {}
        }
    }

    /// Only the receipt of a message that was sent again, and its answer, may come again.
    fn repeated(&mut self, seq: u64, kind: &str, text: &str) {
        let is_same = self.events.get(&seq).is_some_and(|before| before == text);
        let is_receipt = ["user_message", "done", "message_queued"].contains(&kind);
        if is_receipt && self.may_repeat && is_same {
            return;
        }
        let last_seq = self.last_seq;
        let kind = match kind {
            "session_started" => BreachKind::LogWentBack,
            _ if is_same => BreachKind::Gap,
            _ => BreachKind::Contradiction,
        };
        let what = format!("event {seq} is sent again after event {last_seq}: {text}");
        self.breach(kind, what);
    }

    fn occurred(&mut self, seq: u64, occurred_at: &str) {
        // RFC 3339 in UTC sorts as text, except for the digits after the second.
        if occurred_at.get(..19) < self.last_occurred_at.get(..19) {
            let what = format!("time goes back at event {seq}");
            self.breach(BreachKind::Contradiction, what);
        }
        occurred_at.clone_into(&mut self.last_occurred_at);
    }

    /// The log has come as far as this client has, or further, and is that of its session.
    fn resumed(&mut self, frame: &Value) {
        let (last_seq, known) = (frame["last_seq"].as_u64(), self.last_seq);
        if last_seq.is_none_or(|last_seq| last_seq < known) {
            let what = format!("the log ends at {last_seq:?}, but {known} was received");
            self.breach(BreachKind::LogWentBack, what);
        }
        let is_own = field(frame, "session_id") == self.identity.session_id
            && field(frame, "user_id") == self.identity.user_id;
        if !is_own {
            let what = format!("{frame} is another's");
            self.breach(BreachKind::Protocol, what);
        }
    }

    fn error(&mut self, frame: &Value) {
        if field(frame, "code") == "unknown_position" {
            let what = format!("{frame} after event {}", self.last_seq);
            self.breach(BreachKind::LogWentBack, what);
        }
    }

    fn replayed(&mut self, frame: &Value) {
        if frame["seq"].as_u64() != Some(self.last_seq) {
            let what = format!("{frame} follows event {}", self.last_seq);
            self.breach(BreachKind::Gap, what);
        }
    }

    fn start(&mut self, frame: &Value) {
        let turn_id = field(frame, "turn_id");
        if let Some(answer) = &self.answer
            && answer.is_complete
        {
            let what = format!("{turn_id} starts within {}", answer.turn_id);
            self.breach(BreachKind::Protocol, what);
        }
        self.answer = Some(Answer {
            turn_id: turn_id.to_owned(),
            text: String::new(),
            next_index: 0,
            is_complete: true,
        });
    }

    fn draft(&mut self, frame: &Value) {
        let (turn_id, draft) = (field(frame, "turn_id"), field(frame, "text"));
        if let Some(answer) = self.answer.take()
            && answer.turn_id == turn_id
            && !draft.starts_with(&answer.text)
        {
            let what = format!("the draft of {turn_id} lacks what was shown");
            self.breach(BreachKind::Contradiction, what);
        }
        self.answer = Some(Answer {
            turn_id: turn_id.to_owned(),
            text: draft.to_owned(),
            next_index: frame["next_index"].as_u64().unwrap_or_default(),
            is_complete: true,
        });
    }

    fn token(&mut self, frame: &Value) {
        let (turn_id, index) = (field(frame, "turn_id"), frame["index"].as_u64());
        let answer = self.answer.as_mut();
        let answer = answer.filter(|answer| answer.is_complete && answer.turn_id == turn_id);
        match answer {
            Some(answer) if index == Some(answer.next_index) => {
                answer.next_index += 1;
                answer.text.push_str(field(frame, "token"));
            }
            Some(answer) => {
                let expected = answer.next_index;
                let what = format!("piece {index:?} of {turn_id} comes in place of {expected}");
                self.breach(BreachKind::Gap, what);
            }
            None => {
                let what = format!("piece {index:?} of {turn_id} comes before its start");
                self.breach(BreachKind::Gap, what);
            }
        }
    }

    /// The end of an answer has the text of its pieces. Where the server was lost in between, it has what
    /// was stored last.
    fn done(&mut self, frame: &Value) {
        let (turn_id, whole) = (field(frame, "turn_id"), field(frame, "text"));
        if let Some(message) = self.open.remove(turn_id) {
            self.answered.insert(message);
        } else {
            let what = format!("{turn_id} ends without a message, or twice");
            self.breach(BreachKind::Protocol, what);
        }
        let Some(shown) = self.answer.take() else {
            return;
        };
        if shown.turn_id != turn_id {
            if shown.is_complete {
                let what = format!("{turn_id} ends within {}", shown.turn_id);
                self.breach(BreachKind::Protocol, what);
            }
            return;
        }
        let agrees = match field(frame, "finish_reason") {
            "interrupted" => whole.starts_with(&shown.text) || shown.text.starts_with(whole),
            _ if shown.is_complete => whole == shown.text,
            _ => whole.starts_with(&shown.text),
        };
        if !agrees {
            let what = format!(
                "{turn_id} ends as {whole:?}, but {:?} was shown",
                shown.text
            );
            self.breach(BreachKind::Contradiction, what);
        }
    }
}

/// The event as a replay spells it: the first frame of a new session says more than its event does.
fn event_in_log(text: &str) -> String {
    match ServerFrame::read(text) {
        Ok(Received::Frame(ServerFrame::Opened(opened))) => opened.event().map_or_else(
            || text.to_owned(),
            |event| ServerFrame::Event(event).to_json(),
        ),
        _ => text.to_owned(),
    }
}

/// A text field; empty if it is not there.
fn field<'a>(frame: &'a Value, name: &str) -> &'a str {
    frame[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests;
