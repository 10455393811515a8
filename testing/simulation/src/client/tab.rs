//! One tab of a client: an observed client of a session, in simulated time.
//!
//! Its rules are those of `duologue-client`; what it delivers is checked once more by its view, and every
//! broken promise is written into the trace. Where it connects to is the tab's decision.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use duologue_client::{
    Address, BackoffOptions, ClientOptions, Loss, Lost, NextStep, Refusal, SessionOptions,
};
use duologue_observer::{Identity, Observation, ObservedClient, View};
use fastrand::Rng;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::knowledge::Shared;
use crate::{
    network::{PORT, SimulatedTransport},
    plan::{Character, Talk, server_name},
};

/// How long a handshake may take; then the client tries elsewhere.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection may be silent. The server pings more often than that.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Much shorter than in life, like the server's times.
const BACKOFF: BackoffOptions = BackoffOptions {
    first_max: Duration::from_millis(400),
    max: Duration::from_millis(1600),
    attempts_max: None,
};

/// See the module.
pub(super) struct Tab {
    pub(super) shared: Shared,
    pub(super) talk: Talk,
    name: String,
    /// The server that all tabs of the session go to.
    home: Arc<Mutex<usize>>,
    rng: Rng,
    client: ObservedClient<SimulatedTransport>,
    /// When the last piece of an answer came, on this connection.
    last_token_at: Option<Duration>,
    /// Not to connect before.
    connect_at: Instant,
    /// Whether the client cannot continue, which is a broken promise.
    has_given_up: bool,
}

/// What came in.
pub(super) enum Incoming {
    Frame(Value),
    Control,
    /// The connection is over.
    Lost,
}

impl Tab {
    pub(super) fn new(
        shared: Shared,
        name: String,
        talk: Talk,
        home: Arc<Mutex<usize>>,
        mut rng: Rng,
    ) -> Self {
        let view = View::new(Identity {
            session_id: talk.session_id.to_string(),
            user_id: talk.user_id.to_string(),
            canary: talk.canary.clone(),
        });
        let options = ClientOptions {
            session: SessionOptions {
                position: None,
                backoff: BACKOFF,
                sendings_max: u32::MAX,
                id_prefix: name.clone(),
                rng: rng.fork(),
            },
            connect_timeout: CONNECT_TIMEOUT,
            keep_alive: SILENCE_MAX / 2,
        };
        let address = address(talk.home, &talk, &talk);
        let client = ObservedClient::new(SimulatedTransport, address, options, view, shared.fault);
        Self {
            shared,
            talk,
            name,
            home,
            rng,
            client,
            last_token_at: None,
            connect_at: Instant::now(),
            has_given_up: false,
        }
    }

    /// What was received.
    pub(super) fn view(&self) -> &View {
        self.client.view()
    }

    /// The client, to give it messages.
    pub(super) fn client(&mut self) -> &mut ObservedClient<SimulatedTransport> {
        &mut self.client
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// Whether the client cannot continue.
    pub(super) fn has_given_up(&self) -> bool {
        self.has_given_up
    }

    /// Makes one attempt to connect, when its time has come. Resumes after the last event.
    pub(super) async fn connect(&mut self) -> bool {
        sleep_until(self.connect_at).await;
        let server = *self.home.lock().expect("no holder of this lock panics");
        let name = server_name(server);
        self.client
            .set_address(address(server, &self.talk, &self.talk));
        let after = self.client.view().last_seq();
        self.last_token_at = None;
        match self.client.connect().await {
            Ok(()) => {
                self.record(&format!("connected to {name} after {after}"));
                true
            }
            Err(lost) => {
                self.record(&format!("refused by {name}: {}", lost.loss));
                // A server that answers is there, and keeps its sessions; but it may be without its
                // database, and another is not.
                let status = match &lost.loss {
                    Loss::Refused(Refusal { status, .. }) => *status,
                    _ => 0,
                };
                if status < 500 || self.rng.bool() {
                    self.move_on();
                }
                self.lost(&lost);
                false
            }
        }
    }

    /// From now on, all tabs go to the next server.
    pub(super) fn move_on(&self) {
        let mut home = self.home.lock().expect("no holder of this lock panics");
        *home = (*home + 1) % self.shared.servers;
    }

    /// Does what the protocol says after a loss.
    fn lost(&mut self, lost: &Lost) {
        self.connect_at = match lost.next {
            NextStep::Reconnect { at } => at,
            // The session has ended. A tab that has more to say reopens it.
            NextStep::Finish => Instant::now(),
            NextStep::GiveUp | NextStep::Reauthenticate { .. } => {
                // A hostile client sends what the server must reject.
                if self.talk.character != Character::Hostile {
                    let what = format!("the client cannot continue: {}", lost.loss);
                    self.violation(&what);
                    self.has_given_up = true;
                }
                Instant::now()
            }
        };
    }

    /// Sends a WebSocket message, past the rules of the client.
    pub(super) async fn send(&mut self, frame: Frame) {
        self.client.queue(frame);
        self.flush().await;
    }

    /// Sends what the client has to send, without receiving.
    pub(super) async fn flush(&mut self) {
        match timeout(SILENCE_MAX, self.client.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(lost)) => self.lost(&lost),
            Err(_elapsed) => self.client.disconnect(),
        }
    }

    /// The next thing that the client delivers. Cancel safe.
    pub(super) async fn receive(&mut self) -> Incoming {
        if !self.client.is_connected() {
            return Incoming::Lost;
        }
        let observation = self.client.receive().await;
        for breach in self.client.take_breaches() {
            self.shared.trace.violation(&self.name, &breach.to_string());
        }
        match observation {
            Observation::Control => {
                self.attached();
                Incoming::Control
            }
            Observation::Frame(frame) => {
                self.attached();
                self.record_frame(&frame);
                self.measure(&frame);
                Incoming::Frame(frame)
            }
            Observation::Lost(lost) => {
                self.record(&match lost.loss.close_code() {
                    Some(code) => format!("closed with {code}"),
                    None => format!("lost its connection: {}", lost.loss),
                });
                self.lost(&lost);
                Incoming::Lost
            }
        }
    }

    /// The server has this reader, or had it a latency ago. What a slow reader receives is old.
    fn attached(&self) {
        if self.talk.character != Character::Slow {
            let now = self.shared.time.now();
            self.shared.learn(&self.talk.session_id, |known| {
                known.attached.insert(now);
            });
        }
    }

    /// Records how long after its last piece an answer ended. Those that do not always read cannot tell.
    fn measure(&mut self, frame: &Value) {
        let now = self.shared.time.now();
        match frame["type"].as_str() {
            Some("token") => self.last_token_at = Some(now),
            Some("done") => {
                let reads = !matches!(self.talk.character, Character::Slow | Character::Hostile);
                let last_token_at = self.last_token_at.take();
                if let Some(at) =
                    last_token_at.filter(|_| reads && frame["finish_reason"] == "stop")
                {
                    self.shared
                        .learn(&self.talk.session_id, |known| known.ends.push((at, now)));
                }
            }
            _ => {}
        }
    }

    fn record_frame(&self, frame: &Value) {
        let text = |field: &str| frame[field].as_str().unwrap_or_default();
        match text("type") {
            "token" => {}
            "error" => self.record(&format!("receives error {}", text("code"))),
            kind => self.record(&format!("receives {kind} {}", frame["seq"])),
        }
    }

    /// Writes into the trace what the tab does.
    pub(super) fn record(&self, what: &str) {
        self.shared.trace.note(&self.name, what);
    }

    /// Writes into the trace that a promise was broken.
    pub(super) fn violation(&self, what: &str) {
        self.shared.trace.violation(&self.name, what);
    }

    /// The tab is closed: what it received is compared with the log later.
    pub(super) fn close(self) {
        let events = self.client.view().events().clone();
        self.shared.learn(&self.talk.session_id, |known| {
            known.views.push((self.name, events));
        });
    }
}

/// Where a user reaches a session, perhaps another user's, on a server.
pub(super) fn address(server: usize, session: &Talk, user: &Talk) -> Address {
    let server = format!("{}:{PORT}", server_name(server));
    let (session_id, user_id) = (&session.session_id, &user.user_id);
    let address = Address::new(&server, Some(session_id), Some(user_id), "unused");
    address.expect("it is host and port")
}
