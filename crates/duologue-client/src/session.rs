//! The rules of the protocol for one client in one session. Pure: frames in, decisions out.
//!
//! ```text
//! connecting ──▶ receive … receive ──▶ lost ──▶ NextStep: finish, give up, reauthenticate, reconnect
//!                   ▲
//!                next_transmission
//! ```
//!
//! [`Session`] touches no socket and no clock, so it can be tested and simulated; the time is passed in.
//!
//! Invariants:
//!
//! * Events are delivered in the order of the log. An event that does not follow the one before is a
//!   [`Violation`], and the position stays where it was.
//! * A message is sent over each new connection until its receipt, under the same id, and only after
//!   everything that was missed was received, since the receipt may be part of that.

use std::{collections::VecDeque, time::Duration};

use duologue_protocol::OnBusy;
use fastrand::Rng;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    answer::{Answer, string},
    backoff::{Backoff, BackoffOptions},
    close::AfterClose,
    loss::Loss,
    outbox::{MessageTooBig, Outbox},
    violation::Violation,
};

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

/// After so many violations in a row, without a new event in between, a client gives up.
const VIOLATIONS_MAX: u32 = 3;

/// A position in a session's log: where a client resumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last event that was received; 0 before the first.
    pub last_seq: u64,
    /// The identity of the log, if the server sent one. A log that was restored from a backup has another.
    pub log_id: Option<String>,
}

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Where to resume. `None`: the first connection starts live, and does not replay the log.
    pub position: Option<Position>,
    /// The waits between attempts to connect.
    pub backoff: BackoffOptions,
    /// Over how many connections a message is sent before it is given up. A message whose connection is
    /// lost each time is probably the reason.
    pub sendings_max: u32,
    /// Message ids begin with this. It must differ between all clients of a session.
    pub id_prefix: String,
    /// The source of jitter.
    pub rng: Rng,
}

impl Default for SessionOptions {
    fn default() -> Self {
        let mut rng = Rng::new();
        Self {
            position: None,
            backoff: BackoffOptions::default(),
            sendings_max: 5,
            id_prefix: format!("{:032x}", rng.u128(..)),
            rng,
        }
    }
}

/// A frame of the server that passed the checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The frame as it was sent.
    pub text: String,
    /// The frame as JSON. It always has a `type`.
    pub json: Value,
    /// Whether it tells something new. An event or a piece of text that was received before is not new; it
    /// only matters as the receipt of a message that was sent again.
    pub is_new: bool,
}

impl Received {
    /// The frame's `type`.
    pub fn kind(&self) -> &str {
        string(&self.json, "type")
    }
}

/// What a client does after a connection was lost or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// The session has ended.
    Finish,
    /// Reconnecting would not help.
    GiveUp,
    /// Reconnect at `at`, and only with another token.
    Reauthenticate {
        /// Not earlier than this.
        at: Instant,
    },
    /// Reconnect, and resume.
    Reconnect {
        /// Not earlier than this.
        at: Instant,
    },
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Disconnected,
    /// Before `session_started`. The position that was asked for, if one was.
    Opening {
        after: Option<u64>,
    },
    /// Before `replayed`.
    Replaying,
    Live,
}

/// The state of a client in a session, across connections.
#[derive(Debug)]
pub struct Session {
    position: Option<Position>,
    phase: Phase,
    /// The end of the log when the connection began.
    head: u64,
    answer: Answer,
    outbox: Outbox,
    /// Frames that are sent once, over this connection or not at all.
    transient: VecDeque<String>,
    abandoned: VecDeque<String>,
    /// The largest message that the server of this connection accepts, if it said so.
    message_bytes_max: Option<u64>,
    is_history_lost: bool,
    ids_given: u64,
    violations: u32,
    /// Not to reconnect before, as the server asked.
    not_before: Option<Instant>,
    last_retry_after: Option<Duration>,
    backoff: Backoff,
    sendings_max: u32,
    id_prefix: String,
}

impl Session {
    /// A client that has not connected yet.
    pub fn new(options: SessionOptions) -> Self {
        Self {
            position: options.position,
            phase: Phase::Disconnected,
            head: 0,
            answer: Answer::default(),
            outbox: Outbox::default(),
            transient: VecDeque::new(),
            abandoned: VecDeque::new(),
            message_bytes_max: None,
            is_history_lost: false,
            ids_given: 0,
            violations: 0,
            not_before: None,
            last_retry_after: None,
            backoff: Backoff::new(&options.backoff, options.rng),
            sendings_max: options.sendings_max,
            id_prefix: options.id_prefix,
        }
    }

    /// Where the next connection resumes; `None` before the first frame of a client without a position.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Continues from another position, for example one that was stored. Only while disconnected.
    pub fn set_position(&mut self, position: Option<Position>) {
        self.position = position;
        self.is_history_lost = false;
    }

    /// Whether everything that was missed was received, so that messages are sent at once.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether the log that this client knew is gone. The client should drop what it knows of the session
    /// and replay the log from its start, which [`forget_history`](Self::forget_history) prepares.
    pub fn is_history_lost(&self) -> bool {
        self.is_history_lost
    }

    /// The next connection replays the log from its start.
    pub fn forget_history(&mut self) {
        self.set_position(Some(Position::default()));
    }

    /// A connection begins. It must ask for [`position`](Self::position).
    pub fn connecting(&mut self) {
        self.answer.connection_lost();
        self.transient.clear();
        self.not_before = None;
        self.phase = Phase::Opening {
            after: self.position.as_ref().map(|position| position.last_seq),
        };
    }

    /// Gives a message to be sent, under an id that is returned. It is sent again over later connections
    /// until [`is_pending`](Self::is_pending) is false.
    pub fn message(&mut self, text: impl Into<String>) -> String {
        self.ids_given += 1;
        let id = format!("{}-{}", self.id_prefix, self.ids_given);
        self.message_as(id.clone(), text, None);
        id
    }

    /// Gives a message under an id of the caller's, and with a rule for a running turn.
    pub fn message_as(
        &mut self,
        id: impl Into<String>,
        text: impl Into<String>,
        on_busy: Option<OnBusy>,
    ) {
        self.outbox.push(id.into(), &text.into(), on_busy);
    }

    /// Whether a message under this id waits for its receipt, refusal, or for being given up.
    pub fn is_pending(&self, id: &str) -> bool {
        self.outbox.sendings(id).is_some()
    }

    /// Over how many connections a pending message was sent.
    pub fn sendings(&self, id: &str) -> u32 {
        self.outbox.sendings(id).unwrap_or(0)
    }

    /// No longer sends this message.
    pub fn withdraw(&mut self, id: &str) {
        self.outbox.remove(id);
    }

    /// Whether an id was given by [`message`](Self::message).
    pub fn is_own_id(&self, id: &str) -> bool {
        let rest = id.strip_prefix(&self.id_prefix);
        rest.is_some_and(|rest| rest.starts_with('-'))
    }

    /// Sends `cancel` over this connection.
    pub fn cancel(&mut self) {
        self.transient.push_back(r#"{"type":"cancel"}"#.to_owned());
    }

    /// Sends `end` over this connection.
    pub fn end(&mut self) {
        self.transient.push_back(r#"{"type":"end"}"#.to_owned());
    }

    /// A message that was given up, since each of its connections was lost without a receipt.
    pub fn next_abandoned(&mut self) -> Option<String> {
        self.abandoned.pop_front()
    }

    /// A message that is not sent, since it is larger than the server accepts. The limit is known after
    /// the first connection.
    pub fn next_too_big(&mut self) -> Option<MessageTooBig> {
        self.outbox.remove_too_big(self.message_bytes_max?)
    }

    /// The next frame to send now.
    pub fn next_transmission(&mut self) -> Option<String> {
        if self.phase != Phase::Live {
            return None;
        }
        let message_bytes_max = self.message_bytes_max;
        self.transient
            .pop_front()
            .or_else(|| self.outbox.next_unsent(message_bytes_max))
    }

    /// Checks a frame and applies it.
    pub fn receive(&mut self, text: &str, now: Instant) -> Result<Received, Violation> {
        let received = self.try_receive(text, now);
        if received.is_err() {
            self.violations += 1;
        }
        received
    }

    fn try_receive(&mut self, text: &str, now: Instant) -> Result<Received, Violation> {
        let json: Value = serde_json::from_str(text).unwrap_or_default();
        let Some(kind) = json["type"].as_str() else {
            let start = text.chars().take(80).collect();
            return Err(Violation::NotAFrame(start));
        };
        if let Phase::Opening { .. } = self.phase
            && !["session_started", "auth_required", "auth_ok", "error"].contains(&kind)
        {
            return Err(Violation::FirstFrame(kind.to_owned()));
        }
        let turn_id = string(&json, "turn_id");
        let mut is_new = true;
        match kind {
            "session_started" => self.started(&json),
            "replayed" => self.replayed(&json)?,
            "error" => self.refused(&json),
            "goaway" => {
                let wait = json["reconnect_after_ms"].as_u64().unwrap_or(0);
                self.not_before = Some(now + Duration::from_millis(wait));
            }
            "start" => self.answer.start(turn_id, 0),
            "draft" => {
                let next_index = json["next_index"].as_u64().unwrap_or(0);
                self.answer.start(turn_id, next_index);
            }
            "token" => is_new = self.answer.token(turn_id, json["index"].as_u64())?,
            _ => {}
        }
        if let Some(seq) = json["seq"].as_u64()
            && kind != "replayed"
        {
            is_new = self.event(seq, kind, &json)?;
        }
        Ok(Received {
            text: text.to_owned(),
            is_new,
            json,
        })
    }

    fn started(&mut self, json: &Value) {
        let log_id = json["log_id"].as_str().map(str::to_owned);
        let last_seq = json["last_seq"].as_u64().unwrap_or(0);
        // A replay from the beginning brings the event once more, without these facts.
        let Phase::Opening { after } = self.phase else {
            return;
        };
        self.head = last_seq;
        self.message_bytes_max = json["message_bytes_max"].as_u64();
        let known = self.position.take().unwrap_or_default();
        let is_new_session = json["seq"].is_u64();
        let is_another_log = known.log_id.is_some() && log_id.is_some() && known.log_id != log_id;
        self.is_history_lost = is_another_log || is_new_session && known.last_seq > 0;
        self.phase = Phase::Live;
        let last_seq = match after {
            // The frame itself is the first event.
            _ if is_new_session => 0,
            Some(after) if after <= last_seq => {
                self.phase = Phase::Replaying;
                after
            }
            // Without a position, or with one that the server will call unknown, it starts live.
            _ => last_seq,
        };
        self.position = Some(Position { last_seq, log_id });
    }

    fn replayed(&mut self, json: &Value) -> Result<(), Violation> {
        let last_seq = self.last_seq();
        let seq = json["seq"].as_u64();
        if seq != Some(last_seq) {
            return Err(Violation::Replayed { last_seq, seq });
        }
        self.phase = Phase::Live;
        self.backoff.reset();
        Ok(())
    }

    /// An `error`: of a message, of the position, or of a turn.
    fn refused(&mut self, json: &Value) {
        if let Some(wait) = json["retry_after_ms"].as_u64() {
            self.last_retry_after = Some(Duration::from_millis(wait));
        }
        if !json["turn_id"].is_null() {
            return;
        }
        if let Some(id) = json["id"].as_str() {
            self.outbox.remove(id);
        }
        if json["code"] == "unknown_position" {
            self.is_history_lost = true;
            self.phase = Phase::Live;
            let head = self.head;
            if let Some(position) = &mut self.position {
                position.last_seq = head;
            }
        }
    }

    /// Whether the event is new.
    fn event(&mut self, seq: u64, kind: &str, json: &Value) -> Result<bool, Violation> {
        let expected = self.last_seq() + 1;
        if seq > expected {
            return Err(Violation::EventGap { expected, seq });
        }
        if let ("user_message" | "message_queued", Some(id)) = (kind, json["id"].as_str()) {
            self.outbox.remove(id);
        }
        if seq < expected {
            return Ok(false);
        }
        if kind == "done" {
            self.answer.done(string(json, "turn_id"));
        }
        self.position.get_or_insert_default().last_seq = seq;
        self.violations = 0;
        if self.phase == Phase::Live {
            self.backoff.reset();
        }
        Ok(true)
    }

    fn last_seq(&self) -> u64 {
        self.position
            .as_ref()
            .map_or(0, |position| position.last_seq)
    }

    /// There is no connection any more. What has no receipt will be sent again.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Disconnected;
        self.answer.connection_lost();
        self.transient.clear();
        let abandoned = self.outbox.connection_lost(self.sendings_max);
        self.abandoned.extend(abandoned);
    }

    /// The connection was lost or refused, or the attempt failed: what follows.
    pub fn lost(&mut self, loss: &Loss, now: Instant) -> NextStep {
        self.disconnected();
        let after = match loss {
            Loss::Violation(_) if self.violations >= VIOLATIONS_MAX => AfterClose::GiveUp,
            _ => loss.next(),
        };
        let asked = match loss {
            Loss::Refused(refusal) => refusal.retry_after,
            Loss::Closed { code: 4029, .. } => self.last_retry_after,
            _ => None,
        };
        let not_before = asked.map(|asked| now + asked).max(self.not_before.take());
        match after {
            AfterClose::Finish => NextStep::Finish,
            AfterClose::GiveUp => NextStep::GiveUp,
            AfterClose::Reauthenticate | AfterClose::Reconnect => {
                let Some(wait) = self.backoff.next_wait() else {
                    return NextStep::GiveUp;
                };
                let at = not_before.unwrap_or(now).max(now) + wait;
                if after == AfterClose::Reauthenticate {
                    NextStep::Reauthenticate { at }
                } else {
                    NextStep::Reconnect { at }
                }
            }
        }
    }

    /// Whether every message has its receipt or its refusal.
    pub fn is_all_acknowledged(&self) -> bool {
        self.outbox.is_empty()
    }
}
