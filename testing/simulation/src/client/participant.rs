//! A participant in a session: has its conversation over one tab, in character.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::{
    knowledge::{Message, Shared},
    tab::{Incoming, Tab},
};
use crate::plan::{Character, TURBULENCE, Talk};

mod mischief;

/// How long a client may wait for the answer to its message once nothing goes wrong any more: for a
/// lost server's lease, for messages that others sent before, and for their turns.
const PATIENCE: Duration = Duration::from_secs(90);

/// See the module.
pub(super) struct Participant {
    tab: Tab,
    /// The number of the tab in its session.
    number: u32,
    rng: Rng,
}

/// What became of a message on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestStatus {
    Answered,
    Refused,
    Lost,
    WaitedInVain,
}

impl Participant {
    pub(super) fn new(
        shared: Shared,
        name: String,
        talk: Talk,
        number: u32,
        home: Arc<Mutex<usize>>,
    ) -> Self {
        let mut rng = Rng::with_seed(talk.seed.wrapping_add(number.into()));
        Self {
            tab: Tab::new(shared, name, talk, home, rng.fork()),
            number,
            rng,
        }
    }

    /// The whole conversation.
    pub(super) async fn run(mut self) {
        sleep(self.millis(0..3000)).await;
        for number in 0..self.tab.talk.messages {
            if self.character() == Character::Hostile {
                self.misbehave().await;
            }
            let message = self.message(number);
            self.converse(&message).await;
            self.count_sendings(&message);
            let pause = self.millis(0..4000);
            self.idle(pause).await;
        }
        self.leave().await;
        self.tab.close();
    }

    fn character(&self) -> Character {
        self.tab.talk.character
    }

    fn message(&mut self, number: u32) -> Message {
        let (canary, tab) = (&self.tab.talk.canary, self.number);
        let has_id = self.resends() || self.rng.bool();
        Message {
            text: format!("{canary}: message {number} of tab {tab}"),
            id: has_id.then(|| format!("m-{tab}-{number}")),
        }
    }

    /// Whether it sends a message again that was not acknowledged.
    fn resends(&self) -> bool {
        self.character() != Character::Trusting
    }

    /// Sends a message and follows it to its end, as far as its character goes.
    async fn converse(&mut self, message: &Message) {
        let give_up_at = self.tab.shared.time.now().max(TURBULENCE) + PATIENCE;
        let mut was_sent = false;
        while !self.tab.view().has_answer(&message.text) {
            if self.tab.has_given_up() {
                return;
            }
            if self.tab.shared.time.now() > give_up_at {
                let what = format!("waited in vain for {message:?}");
                return self.tab.violation(&what);
            }
            if !self.tab.is_connected() && !self.tab.connect().await {
                continue;
            }
            let has_receipt = self.tab.view().has_receipt(&message.text);
            let sends = !has_receipt && (!was_sent || self.resends());
            if sends {
                self.submit(message, was_sent).await;
                was_sent = true;
            }
            match self.follow(message, sends).await {
                RequestStatus::Answered | RequestStatus::Lost => {}
                RequestStatus::Refused if !self.resends() => {
                    return self.tab.record(&format!("gives up {:?}", message.text));
                }
                RequestStatus::Refused => sleep(self.millis(200..600)).await,
                RequestStatus::WaitedInVain => {
                    let what = format!("no word of {message:?} on an open connection");
                    return self.tab.violation(&what);
                }
            }
        }
    }

    /// Gives a message to the client, which sends it over each connection until its receipt, after what
    /// was missed. Others send their messages at once: once only, or, like a client with other rules, again
    /// before they know whether the receipt is in what they missed.
    async fn submit(&mut self, message: &Message, again: bool) {
        if let Some(id) = message.id.as_ref().filter(|_| self.resends()) {
            let session = self.tab.client().session_mut();
            if !session.is_pending(id) {
                session.message_as(id, &message.text, None);
            }
            if !again || self.rng.bool() {
                return self.tab.flush().await;
            }
            self.tab.client().resent();
        }
        let suffix = if again { " again" } else { "" };
        self.tab
            .record(&format!("sends {:?}{suffix}", message.text));
        self.count(message, 1);
        let frame = match &message.id {
            Some(id) => json!({ "type": "message", "message": message.text, "id": id }),
            None => json!({ "type": "message", "message": message.text }),
        };
        self.tab.send(Frame::text(frame.to_string())).await;
    }

    /// Counts how often the client sent the message by itself.
    fn count_sendings(&mut self, message: &Message) {
        if let Some(id) = &message.id {
            let sendings = self.tab.client().sendings(id);
            self.count(message, sendings);
        }
    }

    fn count(&self, message: &Message, sendings: u32) {
        self.tab.shared.learn(&self.tab.talk.session_id, |known| {
            *known.sent.entry(message.clone()).or_default() += sendings;
        });
    }

    /// Follows one message until it is answered, refused, or the connection is lost. Where it was not
    /// sent over this connection, it is lost if the replay does not have it.
    async fn follow(&mut self, message: &Message, was_sent_here: bool) -> RequestStatus {
        let patience_ends = self.tab.shared.time.now() + PATIENCE;
        if self.character() == Character::Slow && self.rng.bool() {
            self.tab.record("does not read");
            sleep(self.millis(1000..9000)).await;
        }
        while !self.tab.view().has_answer(&message.text) {
            if self.tab.shared.time.now() > patience_ends {
                return RequestStatus::WaitedInVain;
            }
            let frame = match self.tab.receive().await {
                Incoming::Control => continue,
                Incoming::Lost => return RequestStatus::Lost,
                Incoming::Frame(frame) => frame,
            };
            if self.tab.view().has_receipt(&message.text) {
                self.tab.shared.learn(&self.tab.talk.session_id, |known| {
                    known.acknowledged.insert(message.clone());
                });
            } else if is_refusal_of(&frame, message) || !was_sent_here && is_end_of_replay(&frame) {
                return RequestStatus::Refused;
            }
            if frame["type"] == "token" && self.interferes().await {
                return RequestStatus::Lost;
            }
        }
        RequestStatus::Answered
    }

    /// In the middle of an answer some cancel it, and some disappear.
    async fn interferes(&mut self) -> bool {
        if self.rng.u32(0..150) == 0 {
            self.tab.record("cancels");
            self.tab.client().session_mut().cancel();
        }
        if self.character() != Character::Vanishing || self.rng.u32(0..10) > 0 {
            return false;
        }
        self.tab.client().disconnect();
        let away = match self.rng.u32(0..5) {
            0 => self.millis(5000..25_000),
            _ => self.millis(0..5000),
        };
        self.tab
            .record(&format!("vanishes for {} ms", away.as_millis()));
        sleep(away).await;
        if self.rng.bool() {
            // Another network, and another way in: the session is taken over from its server.
            self.tab.move_on();
        }
        true
    }

    /// Sends nothing for a while, but receives.
    async fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(incoming) = timeout_at(until, self.tab.receive()).await {
            if let Incoming::Lost = incoming {
                return sleep_until(until).await;
            }
        }
    }

    /// Ends the session, closes the connection, or only disappears.
    async fn leave(&mut self) {
        if !self.tab.is_connected() {
            return;
        }
        if self.character() == Character::Ending {
            self.tab.record("ends the session");
            self.tab.client().session_mut().end();
        } else if self.rng.bool() {
            self.tab.record("closes");
            self.tab.send(Frame::Close(None)).await;
        } else {
            self.tab.record("leaves without a close frame");
            return self.tab.client().disconnect();
        }
        while let Incoming::Frame(_) | Incoming::Control = self.tab.receive().await {}
    }

    fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }
}

/// Whether the server does not want the message. One without an id is meant by any refusal.
fn is_refusal_of(frame: &Value, message: &Message) -> bool {
    frame["type"] == "error"
        && frame["turn_id"].is_null()
        && frame["id"].as_str() == message.id.as_deref()
}

/// Whether everything that was missed was received.
fn is_end_of_replay(frame: &Value) -> bool {
    match frame["type"].as_str() {
        Some("replayed") => true,
        Some("session_started") => frame["resumed"] == false,
        _ => false,
    }
}
