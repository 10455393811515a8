//! One tab: connects, says what it has to say, follows the answers, and leaves.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message as Frame, protocol::CloseFrame},
};
use turmoil::net::TcpStream;

use super::{
    knowledge::{Message, Shared},
    view::{View, text},
};
use crate::{
    network::PORT,
    plan::{Character, TURBULENCE, Talk, server_name},
};

mod mischief;

/// How long a handshake may take; then the client tries elsewhere.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection may be silent. The server pings more often than that.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long a client may wait for the answer to its message once nothing goes wrong any more: for a
/// lost server's lease, for messages that others sent before, and for their turns.
const PATIENCE: Duration = Duration::from_secs(90);

/// See the module.
pub(super) struct Tab {
    shared: Shared,
    name: String,
    talk: Talk,
    number: u32,
    home: Arc<Mutex<usize>>,
    rng: Rng,
    view: View,
    socket: Option<WebSocketStream<TcpStream>>,
}

/// What came in.
enum Heard {
    Frame(Value),
    Ping,
    /// The connection is over.
    Gone,
}

/// What became of a message on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    Lost,
    WaitedInVain,
}

impl Tab {
    pub(super) fn new(
        shared: Shared,
        name: String,
        talk: Talk,
        number: u32,
        home: Arc<Mutex<usize>>,
    ) -> Self {
        Self {
            shared,
            name,
            number,
            home,
            rng: Rng::with_seed(talk.seed.wrapping_add(number.into())),
            view: View::new(&talk.canary),
            socket: None,
            talk,
        }
    }

    /// The whole life of the tab.
    pub(super) async fn live(mut self) {
        sleep(self.millis(0..3000)).await;
        for number in 0..self.talk.messages {
            if self.talk.character == Character::Hostile {
                self.misbehave().await;
            }
            let message = self.message(number);
            self.converse(&message).await;
            let pause = self.millis(0..4000);
            self.idle(pause).await;
        }
        self.leave().await;
        let seen = std::mem::take(&mut self.view.events);
        let name = self.name.clone();
        self.shared.learn(&self.talk.session_id, |known| {
            known.views.push((name, seen));
        });
    }

    fn message(&mut self, number: u32) -> Message {
        let (canary, tab) = (&self.talk.canary, self.number);
        let has_id = self.talk.character != Character::Trusting || self.rng.bool();
        Message {
            text: format!("{canary}: message {number} of tab {tab}"),
            id: has_id.then(|| format!("m-{tab}-{number}")),
        }
    }

    /// Sends a message and follows it to its end, as far as the tab's character goes.
    async fn converse(&mut self, message: &Message) {
        let give_up_at = self.shared.time.now().max(TURBULENCE) + PATIENCE;
        let mut was_sent = false;
        while !self.view.has_answer(&message.text) {
            if self.shared.time.now() > give_up_at {
                let what = format!("waited in vain for {message:?}");
                return self.shared.history.violation(&self.name, &what);
            }
            if self.socket.is_none() && !self.connect().await {
                continue;
            }
            let sends = !self.view.has_receipt(&message.text) && (!was_sent || self.insists());
            if sends {
                self.submit(message, was_sent).await;
                was_sent = true;
            }
            match self.follow(message, sends).await {
                Fate::Answered | Fate::Lost => {}
                Fate::Refused if !self.insists() => {
                    return self.note(&format!("gives up {:?}", message.text));
                }
                Fate::Refused => sleep(self.millis(200..600)).await,
                Fate::WaitedInVain => {
                    let what = format!("no word of {message:?} on an open connection");
                    return self.shared.history.violation(&self.name, &what);
                }
            }
        }
    }

    /// Whether it sends a message again that was not acknowledged.
    fn insists(&self) -> bool {
        self.talk.character != Character::Trusting
    }

    async fn submit(&mut self, message: &Message, again: bool) {
        if again {
            self.view.resent();
        }
        self.note(&format!(
            "sends {:?}{}",
            message.text,
            if again { " again" } else { "" }
        ));
        self.shared.learn(&self.talk.session_id, |known| {
            *known.sent.entry(message.clone()).or_default() += 1;
        });
        let frame = match &message.id {
            Some(id) => json!({ "type": "message", "message": message.text, "id": id }),
            None => json!({ "type": "message", "message": message.text }),
        };
        self.send(Frame::text(frame.to_string())).await;
    }

    /// Follows one message until it is answered, refused, or the connection is lost. Where it was not
    /// sent on this connection, it is lost if the replay does not bring it.
    async fn follow(&mut self, message: &Message, was_sent_here: bool) -> Fate {
        let patience_ends = self.shared.time.now() + PATIENCE;
        if self.talk.character == Character::Slow && self.rng.bool() {
            self.note("does not read");
            sleep(self.millis(1000..9000)).await;
        }
        while !self.view.has_answer(&message.text) {
            if self.shared.time.now() > patience_ends {
                return Fate::WaitedInVain;
            }
            match self.hear().await {
                Heard::Ping => {}
                Heard::Gone => return Fate::Lost,
                Heard::Frame(frame) => {
                    if self.view.has_receipt(&message.text) {
                        let message = message.clone();
                        self.shared.learn(&self.talk.session_id, |known| {
                            known.acknowledged.insert(message);
                        });
                    } else if is_refusal_of(&frame, message)
                        || !was_sent_here && is_end_of_replay(&frame)
                    {
                        return Fate::Refused;
                    }
                    if text(&frame, "type") == "token" && self.interferes().await {
                        return Fate::Lost;
                    }
                }
            }
        }
        Fate::Answered
    }

    /// In the middle of an answer some cancel it, and some are gone.
    async fn interferes(&mut self) -> bool {
        if self.rng.u32(0..150) == 0 {
            self.note("cancels");
            self.send(Frame::text(r#"{"type":"cancel"}"#)).await;
        }
        if self.talk.character != Character::Vanishing || self.rng.u32(0..10) > 0 {
            return false;
        }
        self.socket = None;
        let away = match self.rng.u32(0..5) {
            0 => self.millis(5000..25_000),
            _ => self.millis(0..5000),
        };
        self.note(&format!("vanishes for {} ms", away.as_millis()));
        sleep(away).await;
        if self.rng.bool() {
            // Another network, and another way in: the session is taken from a server that has it.
            self.move_on();
        }
        true
    }

    /// Connects, resuming where the tab has come to.
    async fn connect(&mut self) -> bool {
        let server = *self.home.lock().expect("no holder of this lock panics");
        let (session_id, user_id) = (&self.talk.session_id, &self.talk.user_id);
        let after = self.view.last_seq();
        let path = format!("/ws/session/{session_id}?user_id={user_id}&after={after}");
        match self.try_connect(server, &path).await {
            Ok(socket) => {
                self.note(&format!(
                    "connected to {} after {after}",
                    server_name(server)
                ));
                self.view.connected();
                self.socket = Some(socket);
                true
            }
            Err(why) => {
                self.note(&format!("not let in by {}: {why}", server_name(server)));
                if why == "404" {
                    let what = "its own session is said not to exist";
                    self.shared.history.violation(&self.name, what);
                }
                // A server that answers is there, and keeps its sessions; but it may be without its
                // database, and another is not.
                if !why.starts_with('5') || self.rng.bool() {
                    self.move_on();
                }
                sleep(self.millis(300..1200)).await;
                false
            }
        }
    }

    /// From now on, all tabs go to the next server.
    fn move_on(&self) {
        let mut home = self.home.lock().expect("no holder of this lock panics");
        *home = (*home + 1) % self.shared.servers;
    }

    /// A handshake, or why there is none: a status, or a word.
    async fn try_connect(
        &self,
        server: usize,
        path: &str,
    ) -> Result<WebSocketStream<TcpStream>, String> {
        let host = server_name(server);
        let connecting = async {
            let stream = TcpStream::connect((host.as_str(), PORT)).await;
            let stream = stream.map_err(|error| error.kind().to_string())?;
            let url = format!("ws://{host}:{PORT}{path}");
            match client_async(url, stream).await {
                Ok((socket, _response)) => Ok(socket),
                Err(tungstenite::Error::Http(response)) => {
                    Err(response.status().as_u16().to_string())
                }
                Err(_other) => Err("broken off".to_owned()),
            }
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        connected.unwrap_or_else(|_elapsed| Err("no answer".to_owned()))
    }

    async fn send(&mut self, frame: Frame) {
        if let Some(socket) = &mut self.socket {
            let sent = timeout(SILENCE_MAX, socket.send(frame)).await;
            if !matches!(sent, Ok(Ok(()))) {
                self.socket = None;
            }
        }
    }

    /// The next thing that the server says, checked.
    async fn hear(&mut self) -> Heard {
        let Some(socket) = &mut self.socket else {
            return Heard::Gone;
        };
        let frame = match timeout(SILENCE_MAX, socket.next()).await {
            Ok(Some(Ok(Frame::Text(raw)))) => raw,
            Ok(Some(Ok(Frame::Close(frame)))) => {
                let code = frame.map(|CloseFrame { code, .. }| u16::from(code));
                return self.gone(code);
            }
            Ok(Some(Ok(_control))) => {
                self.heard();
                return Heard::Ping;
            }
            Ok(Some(Err(_)) | None) | Err(_) => return self.gone(None),
        };
        self.heard();
        let value: Value = match serde_json::from_str(&frame) {
            Ok(value) => value,
            Err(error) => {
                let what = format!("a frame that is not JSON ({error}): {frame}");
                self.shared.history.violation(&self.name, &what);
                return self.gone(None);
            }
        };
        let (kind, seq) = (text(&value, "type"), &value["seq"]);
        match kind {
            "token" => {}
            "error" => self.note(&format!("hears error {}", text(&value, "code"))),
            _ => self.note(&format!("hears {kind} {seq}")),
        }
        if let Err(what) = self.view.note(&value, &frame) {
            self.shared.history.violation(&self.name, &what);
        }
        Heard::Frame(value)
    }

    /// Says nothing for a while, but listens.
    async fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(heard) = timeout_at(until, self.hear()).await {
            if let Heard::Gone = heard {
                return sleep_until(until).await;
            }
        }
    }

    fn gone(&mut self, code: Option<u16>) -> Heard {
        self.socket = None;
        self.note(&match code {
            Some(code) => format!("closed with {code}"),
            None => "lost its connection".to_owned(),
        });
        Heard::Gone
    }

    /// The server has this reader, or had it a latency ago. What a slow reader hears is old.
    fn heard(&self) {
        if self.talk.character != Character::Slow {
            let now = self.shared.time.now();
            self.shared.learn(&self.talk.session_id, |known| {
                known.heard.insert(now);
            });
        }
    }

    /// Says goodbye, or does not.
    async fn leave(&mut self) {
        if self.socket.is_none() {
            return;
        }
        if self.talk.character == Character::Ending {
            self.note("ends the session");
            self.send(Frame::text(r#"{"type":"end"}"#)).await;
            while let Heard::Frame(_) | Heard::Ping = self.hear().await {}
        } else if self.rng.bool() {
            self.note("closes");
            self.send(Frame::Close(None)).await;
            while let Heard::Frame(_) | Heard::Ping = self.hear().await {}
        } else {
            self.note("leaves without a word");
        }
        self.socket = None;
    }

    fn note(&self, what: &str) {
        self.shared.history.note(&self.name, what);
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }
}

/// Whether the server does not want the message. One without an id is meant by any refusal.
fn is_refusal_of(frame: &Value, message: &Message) -> bool {
    text(frame, "type") == "error"
        && frame["turn_id"].is_null()
        && frame["id"].as_str() == message.id.as_deref()
}

/// Whether all that is on record has been told.
fn is_end_of_replay(frame: &Value) -> bool {
    match text(frame, "type") {
        "replayed" => true,
        "session_started" => frame["resumed"] == false,
        _ => false,
    }
}
