//! What one reader knows of a session, and what it may rely on, checked with every frame.
//!
//! * Events come in order, without gaps and without doubles, across all connections.
//! * Pieces of an answer are numbered 0, 1, 2, …; its end says what they said.
//! * Nothing of another session is ever shown.

use std::collections::{BTreeMap, BTreeSet};

use duologue_protocol::{Received, ServerFrame};
use serde_json::Value;

use crate::canary;

/// See the module.
#[derive(Debug)]
pub(crate) struct View {
    canary: String,
    last_seq: u64,
    last_occurred_at: String,
    /// Every event as it was sent.
    pub(crate) events: BTreeMap<u64, String>,
    /// Messages on record, by their turn.
    open: BTreeMap<String, String>,
    receipts: BTreeSet<String>,
    answered: BTreeSet<String>,
    answer: Option<Answer>,
    /// Whether the server was asked to repeat a receipt on this connection.
    may_repeat: bool,
}

/// A forming answer.
#[derive(Debug)]
struct Answer {
    turn_id: String,
    text: String,
    next_index: u64,
    /// Whether every piece is heard: from its start, or from a draft on.
    follows: bool,
}

impl View {
    pub(crate) fn new(canary: &str) -> Self {
        Self {
            canary: canary.to_owned(),
            last_seq: 0,
            last_occurred_at: String::new(),
            events: BTreeMap::new(),
            open: BTreeMap::new(),
            receipts: BTreeSet::new(),
            answered: BTreeSet::new(),
            answer: None,
            may_repeat: false,
        }
    }

    /// The position to resume after.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Whether the message is on record, as far as this reader knows.
    pub(crate) fn has_receipt(&self, text: &str) -> bool {
        self.receipts.contains(text)
    }

    /// Whether the message's turn is over, as far as this reader knows.
    pub(crate) fn has_answer(&self, text: &str) -> bool {
        self.answered.contains(text)
    }

    /// A connection begins: pieces are missed until a draft or the next start.
    pub(crate) fn connected(&mut self) {
        self.may_repeat = false;
        if let Some(answer) = &mut self.answer {
            answer.follows = false;
        }
    }

    /// A message was sent again: its receipt may come again as well.
    pub(crate) fn resent(&mut self) {
        self.may_repeat = true;
    }

    /// Takes a frame in, or says which promise it breaks.
    pub(crate) fn note(&mut self, frame: &Value, raw: &str) -> Result<(), String> {
        if let Some(foreign) = canary::all(raw).into_iter().find(|it| *it != self.canary) {
            return Err(format!(
                "{foreign} is shown in the session of {}",
                self.canary
            ));
        }
        match (frame["seq"].as_u64(), text(frame, "type")) {
            (Some(seq), kind) if kind != "replayed" => self.event(seq, kind, frame, raw),
            (_, "session_started") => self.resumed(frame),
            (_, "start") => self.start(frame),
            (_, "draft") => self.draft(frame),
            (_, "token") => self.token(frame),
            (_, "replayed") => self.replayed(frame),
            _ => Ok(()),
        }
    }

    fn event(&mut self, seq: u64, kind: &str, frame: &Value, raw: &str) -> Result<(), String> {
        if seq <= self.last_seq {
            let same = self.events.get(&seq).is_some_and(|seen| seen == raw);
            return if self.may_repeat && same {
                Ok(())
            } else {
                Err(format!("event {seq} is sent again: {raw}"))
            };
        }
        if seq != self.last_seq + 1 {
            return Err(format!("event {seq} follows event {}", self.last_seq));
        }
        let occurred_at = text(frame, "occurred_at");
        // RFC 3339 in UTC sorts as text, but for the digits after the second.
        if occurred_at.get(..19) < self.last_occurred_at.get(..19) {
            return Err(format!("time goes back at event {seq}"));
        }
        occurred_at.clone_into(&mut self.last_occurred_at);
        self.last_seq = seq;
        self.events.insert(seq, event_in_log(raw));
        match kind {
            "message_queued" => {
                self.receipts.insert(text(frame, "text").to_owned());
                Ok(())
            }
            "user_message" => {
                let said = text(frame, "text").to_owned();
                let turn_id = text(frame, "turn_id").to_owned();
                self.receipts.insert(said.clone());
                self.open.insert(turn_id, said);
                Ok(())
            }
            "done" => self.done(frame),
            _ => Ok(()),
        }
    }

    /// The log has come as far as this reader has, or further.
    fn resumed(&self, frame: &Value) -> Result<(), String> {
        let last_seq = frame["last_seq"].as_u64().unwrap_or_default();
        if last_seq < self.last_seq {
            let seen = self.last_seq;
            return Err(format!(
                "the log ends at {last_seq}, but {seen} was received"
            ));
        }
        Ok(())
    }

    fn replayed(&self, frame: &Value) -> Result<(), String> {
        if frame["seq"].as_u64() != Some(self.last_seq) {
            return Err(format!("{frame} follows event {}", self.last_seq));
        }
        Ok(())
    }

    fn start(&mut self, frame: &Value) -> Result<(), String> {
        let turn_id = text(frame, "turn_id");
        if let Some(answer) = &self.answer
            && answer.follows
        {
            return Err(format!("{turn_id} starts within {}", answer.turn_id));
        }
        self.answer = Some(Answer {
            turn_id: turn_id.to_owned(),
            text: String::new(),
            next_index: 0,
            follows: true,
        });
        Ok(())
    }

    fn draft(&mut self, frame: &Value) -> Result<(), String> {
        let (turn_id, drafted) = (text(frame, "turn_id"), text(frame, "text"));
        if let Some(answer) = self.answer.take()
            && answer.turn_id == turn_id
            && !drafted.starts_with(&answer.text)
        {
            return Err(format!("the draft of {turn_id} lacks what was shown"));
        }
        self.answer = Some(Answer {
            turn_id: turn_id.to_owned(),
            text: drafted.to_owned(),
            next_index: frame["next_index"].as_u64().unwrap_or_default(),
            follows: true,
        });
        Ok(())
    }

    fn token(&mut self, frame: &Value) -> Result<(), String> {
        let (turn_id, index) = (text(frame, "turn_id"), frame["index"].as_u64());
        let answer = self
            .answer
            .as_mut()
            .filter(|answer| answer.follows && answer.turn_id == turn_id)
            .ok_or_else(|| format!("a piece of {turn_id} comes before its start"))?;
        if index != Some(answer.next_index) {
            let expected = answer.next_index;
            return Err(format!(
                "piece {index:?} of {turn_id} comes in place of {expected}"
            ));
        }
        answer.next_index += 1;
        answer.text.push_str(text(frame, "token"));
        Ok(())
    }

    fn done(&mut self, frame: &Value) -> Result<(), String> {
        let (turn_id, whole) = (text(frame, "turn_id"), text(frame, "text"));
        if let Some(said) = self.open.remove(turn_id) {
            self.answered.insert(said);
        } else {
            return Err(format!("{turn_id} ends without a message, or twice"));
        }
        let Some(shown) = self.answer.take() else {
            return Ok(());
        };
        if shown.turn_id != turn_id {
            return Ok(());
        }
        let agrees = match text(frame, "finish_reason") {
            // What was kept when the server was lost may be more or less than what was shown.
            "interrupted" => whole.starts_with(&shown.text) || shown.text.starts_with(whole),
            _ if shown.follows => whole == shown.text,
            _ => whole.starts_with(&shown.text),
        };
        if agrees {
            return Ok(());
        }
        let shown = shown.text;
        Err(format!(
            "{turn_id} ends as {whole:?}, but {shown:?} was shown"
        ))
    }
}

/// The event as a replay spells it: the first frame of a new session says more than its event does.
fn event_in_log(raw: &str) -> String {
    match ServerFrame::read(raw) {
        Ok(Received::Frame(ServerFrame::Opened(opened))) => opened.event().map_or_else(
            || raw.to_owned(),
            |event| ServerFrame::Event(event).to_json(),
        ),
        _ => raw.to_owned(),
    }
}

/// A text field; empty if it is not there.
pub(crate) fn text<'a>(frame: &'a Value, field: &str) -> &'a str {
    frame[field].as_str().unwrap_or_default()
}
