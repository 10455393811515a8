//! How clients behave: some trust every receipt, some send again until they have one, some vanish,
//! dawdle, talk nonsense, or end their session and come back to it.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    history::{FindingKind, History, Outcome, Request},
    tab::{Heard, Place, SILENCE_MAX, Tab},
};

/// How often a message is sent again before its sender gives up. Each time takes a while.
const SENDINGS_MAX: u32 = 60;

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persona {
    /// Sends each message once, without an id, and believes in its receipt.
    Trusting,
    /// Sends each message under an id, and again until it has the receipt.
    Resending,
    /// Loses its connection in the middle of answers, and comes back, sometimes too late.
    Vanishing,
    /// Reads slowly what comes fast.
    Slow,
    /// Sends what no client should, and tries to get into the sessions of others.
    Hostile,
    /// Ends its session, and goes on with it.
    Ending,
}

impl Persona {
    /// The name, for those who read findings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trusting => "trusting",
            Self::Resending => "resending",
            Self::Vanishing => "vanishing",
            Self::Slow => "slow",
            Self::Hostile => "hostile",
            Self::Ending => "ending",
        }
    }
}

/// A client under way.
pub(crate) struct Client {
    persona: Persona,
    tab: Tab,
    rng: Rng,
    said: u32,
    /// Sessions of other users.
    foreign: Vec<String>,
}

impl Client {
    pub(crate) fn new(
        persona: Persona,
        place: Place,
        history: History,
        rng: Rng,
        foreign: Vec<String>,
    ) -> Self {
        let tab = Tab::new(place, history);
        let tab = match persona {
            Persona::Slow => tab.with_small_buffer(),
            _ => tab,
        };
        Self {
            persona,
            tab,
            rng,
            said: 0,
            foreign,
        }
    }

    /// Makes itself at home: from now on its session is its user's. An intruder must not come first.
    pub(crate) async fn arrive(&mut self) -> Outcome {
        self.tab.connect().await
    }

    /// Runs until it is stopped, and leaves. Its history is what remains.
    pub(crate) async fn live(mut self) -> History {
        while !self.tab.is_over() {
            if !self.tab.is_open() && self.tab.connect().await != Outcome::Ok {
                self.pause(50..400).await;
                continue;
            }
            match self.persona {
                Persona::Trusting => self.trust().await,
                Persona::Resending => self.insist().await,
                Persona::Vanishing => self.vanish().await,
                Persona::Slow => self.dawdle().await,
                Persona::Hostile => self.annoy().await,
                Persona::Ending => self.end().await,
            }
        }
        // A part of them say goodbye; of the others, the server has to notice.
        if self.rng.bool() {
            self.tab.vanish();
        } else {
            self.goodbye().await;
        }
        self.tab.history
    }

    async fn trust(&mut self) {
        let text = self.something_to_say();
        if self.say_once(text).await == Outcome::Ok && self.rng.u8(..10) < 7 {
            self.hear_the_answer().await;
        }
        self.pause(20..200).await;
    }

    async fn insist(&mut self) {
        let text = self.something_to_say();
        let id = Some(format!("{}-{}", self.tab.history.client, self.said));
        let mut outcome = Outcome::Unknown;
        for _ in 0..SENDINGS_MAX {
            if !self.tab.is_open() && self.tab.connect().await != Outcome::Ok {
                self.pause(50..400).await;
                continue;
            }
            // To be refused says nothing here of the times before.
            if self.say(&text, id.as_deref()).await == Outcome::Ok {
                outcome = Outcome::Ok;
                break;
            }
            self.pause(20..100).await;
        }
        if outcome == Outcome::Ok && self.rng.u8(..10) < 3 {
            // Once more, for no reason: it must be answered from the log.
            self.say(&text, id.as_deref()).await;
        }
        self.tab
            .history
            .record(Request::Message { text, id }, outcome);
        if self.rng.u8(..10) < 7 {
            self.hear_the_answer().await;
        }
        self.pause(20..200).await;
    }

    async fn vanish(&mut self) {
        let text = format!("mock:words=60 mock:delay_ms=8 {}", self.words());
        if self.say_once(text).await == Outcome::Ok {
            for _ in 0..self.rng.u8(..40) {
                let Heard::Frame(_) = self.tab.hear(SILENCE_MAX).await else {
                    break;
                };
            }
        }
        self.tab.vanish();
        // Sometimes for longer than the session's grace.
        if self.rng.u8(..10) < 2 {
            self.pause(1600..2600).await;
        } else {
            self.pause(0..500).await;
        }
    }

    async fn dawdle(&mut self) {
        let text = format!("mock:words=1500 mock:delay_ms=0 {}", self.words());
        if self.say_once(text).await == Outcome::Ok {
            self.pause(200..1200).await;
            self.hear_the_answer().await;
        }
        self.pause(20..200).await;
    }

    async fn end(&mut self) {
        for _ in 0..self.rng.u8(1..4) {
            let text = self.something_to_say();
            if self.say_once(text).await == Outcome::Ok && self.rng.bool() {
                self.hear_the_answer().await;
            }
        }
        self.goodbye().await;
        self.pause(0..600).await;
    }

    /// Ends the session in one of the two ways.
    async fn goodbye(&mut self) {
        if !self.tab.is_open() {
            return;
        }
        let heard = if self.rng.bool() {
            self.tab.send(Message::text(r#"{"type":"end"}"#)).await;
            let heard = self
                .tab
                .hear_until(|frame| frame["type"] == "session_ended");
            heard.await
        } else {
            self.tab.close(1000).await
        };
        let outcome = match heard {
            Heard::Frame(_) | Heard::Closed(Some(1000)) => Outcome::Ok,
            _ => Outcome::Unknown,
        };
        self.tab.history.record(Request::End, outcome);
        self.tab.vanish();
    }

    async fn annoy(&mut self) {
        if self.rng.u8(..4) == 0 {
            return self.intrude().await;
        }
        let deep = format!(r#"{{"message":{}1{}}}"#, "[".repeat(9000), "]".repeat(9000));
        let long_id = json!({ "message": "hello", "id": "i".repeat(129) }).to_string();
        let nonsense = [
            (
                Message::text(r#"{"type":"message","message":5}"#),
                "bad_request",
            ),
            (
                Message::text(r#"{"type":"message","message":"cut"#),
                "bad_request",
            ),
            (Message::text(r#"{"type":"surrender"}"#), "unknown_type"),
            (
                Message::text(r#"{"type":"auth","token":"x"}"#),
                "unsupported",
            ),
            (Message::text("  "), "empty_message"),
            (Message::text(deep), "bad_request"),
            (Message::text(long_id), "bad_request"),
            (Message::binary(vec![0xff; 600]), "binary_unsupported"),
        ];
        let (message, code) = self.rng.choice(nonsense).expect("there is some");
        self.tab.send(message).await;
        let refused = self.tab.hear_until(is_refusal).await;
        let outcome = match refused {
            Heard::Frame(error) => {
                // A server that is closing may say so first.
                if error["code"] != code && error["retryable"] != true {
                    let what = format!("{error} in place of {code}");
                    self.tab.history.breach(FindingKind::Protocol, what);
                }
                Outcome::Ok
            }
            _ => Outcome::Unknown,
        };
        self.tab.history.record(Request::Nonsense, outcome);
        let text = self.something_to_say();
        self.say_once(text).await;
        if self.rng.u8(..4) == 0 {
            self.tab.send(Message::text("x".repeat(70_000))).await;
            let closed = self.tab.hear_until(|_| false).await;
            let outcome = match closed {
                Heard::Closed(Some(1009)) => Outcome::Ok,
                _ => Outcome::Unknown,
            };
            self.tab.history.record(Request::Nonsense, outcome);
        }
        self.pause(20..200).await;
    }

    /// Tries to get into another's session. It must look as if there were none.
    async fn intrude(&mut self) {
        let session = self.rng.choice(&self.foreign).expect("there are others");
        let outcome = self.tab.intrude(session).await;
        self.tab.history.record(Request::Nonsense, outcome);
    }

    async fn say_once(&mut self, text: String) -> Outcome {
        let outcome = self.say(&text, None).await;
        let request = Request::Message { text, id: None };
        self.tab.history.record(request, outcome);
        outcome
    }

    /// Sends a message once, and waits for its receipt, a refusal, or the end of the connection.
    async fn say(&mut self, text: &str, id: Option<&str>) -> Outcome {
        if let Some(id) = id {
            self.tab.submit(text, id);
        } else {
            let frame = json!({ "message": text });
            self.tab.send(Message::text(frame.to_string())).await;
        }
        let is_receipt = |frame: &Value| {
            (frame["type"] == "user_message" || frame["type"] == "message_queued")
                && frame["text"] == text
        };
        let is_ours = |frame: &Value| is_refusal(frame) && frame["id"].as_str() == id;
        let heard = self
            .tab
            .hear_until(|frame| is_receipt(frame) || is_ours(frame));
        match heard.await {
            Heard::Frame(frame) if is_receipt(&frame) => Outcome::Ok,
            Heard::Frame(error) => {
                let codes = ["busy", "shutting_down"];
                if codes.iter().any(|code| error["code"] == *code) {
                    Outcome::Failed
                } else {
                    Outcome::Unknown
                }
            }
            _ => Outcome::Unknown,
        }
    }

    async fn hear_the_answer(&mut self) {
        self.tab.hear_until(|frame| frame["type"] == "done").await;
    }

    /// A text that is said once in this session only.
    fn something_to_say(&mut self) -> String {
        let words = self.words();
        match self.rng.u8(..8) {
            0 => format!("Check order status for order_id=ORD-1001. {words}"),
            1 => format!("What is my account balance? {words}"),
            2 => format!("What is Duologue? {words}"),
            3 => format!("mock:words=30 mock:fail_at=7 {words}"),
            _ => format!("mock:words={} {words}", self.rng.u8(1..50)),
        }
    }

    fn words(&mut self) -> String {
        self.said += 1;
        let history = &self.tab.history;
        format!("No. {} of {} {}", self.said, history.client, history.canary)
    }

    async fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        let pause = Duration::from_millis(self.rng.u64(milliseconds));
        tokio::time::sleep(pause).await;
    }
}

/// Whether it says that a request is refused, and not that a turn failed.
fn is_refusal(frame: &Value) -> bool {
    frame["type"] == "error" && frame["turn_id"].is_null()
}
