//! One tab: a client of a session that reconnects again and again, and checks what it receives.
//!
//! The rules of the protocol are those of `duologue-client`. What it delivers is checked here once more and
//! independently of its own checks, across connections: each event follows the one before, pieces of text
//! come in order and `done` has the same text, a replay ends where it says, and nothing of other sessions
//! shows.

use std::{io, net::SocketAddr, time::Duration};

use duologue_client::{
    Activity, Address, Client, ClientOptions, Connection, Loss, Opening, Position, Refusal,
    SessionOptions, Transport,
};
use duologue_protocol::{Received, ServerFrame, SessionId, UserId};
use fastrand::Rng;
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::Instant,
};
use tokio_tungstenite::tungstenite::{
    self, Message, client::IntoClientRequest, protocol::CloseFrame,
};
use tokio_util::sync::CancellationToken;

use crate::{
    check::foreign_canary,
    history::{Attachment, FindingKind, History, Outcome, Request},
};

/// How long the server may be silent towards somebody who waits. Twice what it may take to give up
/// on its store, which is the longest.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long being let in may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a reader that cannot take much takes in at a time, in bytes.
const SMALL_BUFFER_BYTES: u32 = 4096;

/// What all clients of a run have in common.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where the server is reached.
    pub(crate) server: SocketAddr,
    /// Cancelled when clients shall come to an end.
    pub(crate) stop: CancellationToken,
    /// A planted fault: clients leave one event out when they resume.
    pub(crate) skips_gaps: bool,
}

/// A client in one session.
#[derive(Debug)]
pub(crate) struct Tab {
    pub(crate) history: History,
    place: Place,
    client: Client<LinkTransport>,
    forming: Option<Forming>,
    small_buffer: bool,
}

/// TCP with a receive buffer of a chosen size.
#[derive(Debug, Default)]
struct LinkTransport {
    receive_buffer_bytes: Option<u32>,
}

impl Transport for LinkTransport {
    type Stream = TcpStream;

    fn open(&mut self, server: String) -> Opening<TcpStream> {
        let receive_buffer_bytes = self.receive_buffer_bytes;
        Box::pin(async move {
            let address = server.parse().map_err(io::Error::other)?;
            let socket = TcpSocket::new_v4()?;
            if let Some(size) = receive_buffer_bytes {
                socket.set_recv_buffer_size(size)?;
            }
            socket.connect(address).await
        })
    }
}

/// An answer that is being received.
#[derive(Debug)]
struct Forming {
    turn_id: Value,
    text: String,
    next_index: u64,
}

/// What a tab hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Frame(Value),
    /// The connection is over; with the code, if there was a close frame.
    Closed(Option<u16>),
    /// Nothing, for as long as was waited.
    Nothing,
}

impl Tab {
    pub(crate) fn new(place: Place, history: History) -> Self {
        Self {
            client: client(&place, &history, LinkTransport::default()),
            history,
            place,
            forming: None,
            small_buffer: false,
        }
    }

    /// Takes in only a little at a time, and is not expected to read at once.
    pub(crate) fn with_small_buffer(mut self) -> Self {
        self.small_buffer = true;
        let transport = LinkTransport {
            receive_buffer_bytes: Some(SMALL_BUFFER_BYTES),
        };
        self.client = client(&self.place, &self.history, transport);
        self
    }

    pub(crate) fn is_open(&self) -> bool {
        self.client.is_connected()
    }

    /// Whether clients shall come to an end.
    pub(crate) fn is_over(&self) -> bool {
        self.place.stop.is_cancelled()
    }

    /// Connects, once, and resumes after the last event seen.
    pub(crate) async fn connect(&mut self) -> Outcome {
        self.skip_a_gap();
        let outcome = match self.client.connect().await {
            Ok(()) => {
                self.forming = None;
                self.first_frame().await
            }
            Err(lost) => match lost.loss {
                Loss::Refused(refusal) => {
                    if refusal.status != 503 {
                        let what = format!("was not let in: {refusal}");
                        self.history.breach(FindingKind::Protocol, what);
                    }
                    Outcome::Failed
                }
                // The connection to the server is cut, or no server runs. Either end may see that first.
                _ => Outcome::Unknown,
            },
        };
        self.history.record(Request::Connect, outcome);
        outcome
    }

    async fn first_frame(&mut self) -> Outcome {
        match self.hear(SILENCE_MAX).await {
            Heard::Frame(frame) if frame["type"] == "session_started" => {
                self.history.attachments.push(Attachment {
                    from: now(),
                    until: None,
                    reads_at_once: !self.small_buffer,
                });
                Outcome::Ok
            }
            Heard::Frame(frame) => {
                let what = format!("the first frame is {frame}");
                self.history.breach(FindingKind::Protocol, what);
                Outcome::Failed
            }
            Heard::Closed(_) => Outcome::Unknown,
            Heard::Nothing => {
                self.left_waiting("the first frame");
                Outcome::Unknown
            }
        }
    }

    /// Where that is planted: the client believes to have received one event more than it has.
    fn skip_a_gap(&mut self) {
        let last_seq = self.history.last_seq();
        if self.place.skips_gaps && last_seq > 0 && !self.is_open() {
            let session = self.client.session_mut();
            let log_id = session
                .position()
                .and_then(|position| position.log_id.clone());
            session.set_position(Some(Position {
                last_seq: last_seq + 1,
                log_id,
            }));
        }
    }

    /// Tries to get into the session of another user, which must look as if there were none.
    pub(crate) async fn intrude(&mut self, session: &str) -> Outcome {
        let url = address(&self.place, session, &self.history.user).url(None);
        let request = url.into_client_request().expect("the URL is well formed");
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, Connection::connect(request));
        let refusal = match connecting.await {
            Ok(Ok(_)) => {
                let what = format!("was let into {session}");
                self.history.breach(FindingKind::ForeignCanary, what);
                return Outcome::Failed;
            }
            Ok(Err(tungstenite::Error::Http(response))) => Refusal::read(&response),
            Ok(Err(_)) | Err(_) => return Outcome::Unknown,
        };
        match refusal.status {
            404 => Outcome::Ok,
            503 => Outcome::Unknown,
            _ => {
                let what = format!("a foreign session is refused by {refusal}");
                self.history.breach(FindingKind::Protocol, what);
                Outcome::Failed
            }
        }
    }

    /// Gives a message to the client, which sends it again over each new connection until its receipt.
    pub(crate) fn submit(&mut self, text: &str, id: &str) {
        let session = self.client.session_mut();
        if !session.is_pending(id) {
            session.message_as(id, text, None);
        }
    }

    /// Sends something as it is. The connection may be over without the tab knowing.
    pub(crate) async fn send(&mut self, message: Message) {
        self.client.queue(message);
        // If it did not arrive, that shows when listening.
        let sending = tokio::time::timeout(SILENCE_MAX, self.client.flush());
        if let Ok(Err(_)) = sending.await {
            self.detached();
        }
    }

    /// Hears one frame, and checks it.
    pub(crate) async fn hear(&mut self, patience: Duration) -> Heard {
        let deadline = Instant::now() + patience;
        loop {
            let Ok(incoming) = tokio::time::timeout_at(deadline, self.client.next_incoming()).await
            else {
                return Heard::Nothing;
            };
            match incoming {
                Ok(Activity::Frame(received)) => {
                    self.note(&received.text, &received.json);
                    return Heard::Frame(received.json);
                }
                Ok(Activity::Control) => {}
                Err(lost) => {
                    if let Loss::Violation(violation) = &lost.loss {
                        let what = violation.to_string();
                        self.history.breach(FindingKind::Protocol, what);
                    }
                    self.detached();
                    return Heard::Closed(lost.loss.close_code());
                }
            }
        }
    }

    /// Hears, and checks, until a frame is as wanted or the connection is over.
    pub(crate) async fn hear_until(&mut self, is_so: impl Fn(&Value) -> bool) -> Heard {
        loop {
            match self.hear(SILENCE_MAX).await {
                Heard::Frame(frame) if is_so(&frame) => return Heard::Frame(frame),
                Heard::Frame(_) => {}
                Heard::Nothing => {
                    self.left_waiting("anything");
                    return Heard::Nothing;
                }
                closed @ Heard::Closed(_) => return closed,
            }
        }
    }

    /// Goes away without a word.
    pub(crate) fn vanish(&mut self) {
        self.detached();
    }

    /// Goes away with a code, and waits until the server has agreed.
    pub(crate) async fn close(&mut self, code: u16) -> Heard {
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        self.send(Message::Close(Some(frame))).await;
        self.hear_until(|_| false).await
    }

    /// A client must never wait forever; this one gives up.
    pub(crate) fn left_waiting(&mut self, what: &str) {
        let what = format!("waited for {what} in vain for {SILENCE_MAX:?}");
        self.history.breach(FindingKind::Protocol, what);
        self.detached();
    }

    fn detached(&mut self) {
        self.client.disconnect();
        if let Some(attachment) = self.history.attachments.last_mut() {
            attachment.until.get_or_insert_with(now);
        }
    }

    /// Checks a frame and records it.
    fn note(&mut self, text: &str, frame: &Value) {
        self.history.frames_seen += 1;
        if let Some(foreign) = foreign_canary(text, &self.history.canary) {
            let what = format!("{foreign} in {text}");
            self.history.breach(FindingKind::ForeignCanary, what);
        }
        match frame["type"].as_str().unwrap_or_default() {
            "replayed" => {
                let last_seq = self.history.last_seq();
                if frame["seq"] != last_seq {
                    let what = format!("{frame} after event {last_seq}");
                    self.history.breach(FindingKind::Gap, what);
                }
            }
            "session_started" if frame["seq"].is_null() => self.resumed(frame),
            "error" if frame["code"] == "unknown_position" => {
                let what = format!("{frame} after event {}", self.history.last_seq());
                self.history.breach(FindingKind::LogWentBack, what);
            }
            "start" | "draft" | "token" => self.delta(frame),
            _ => {
                if let Some(seq) = frame["seq"].as_u64() {
                    self.event(seq, frame);
                }
            }
        }
    }

    fn resumed(&mut self, frame: &Value) {
        let last_seq = self.history.last_seq();
        if frame["last_seq"]
            .as_u64()
            .is_none_or(|last| last < last_seq)
        {
            let what = format!("{frame} after event {last_seq}");
            self.history.breach(FindingKind::LogWentBack, what);
        }
        let is_ours = frame["session_id"] == self.history.session.as_str()
            && frame["user_id"] == self.history.user.as_str();
        if !is_ours {
            let what = format!("{frame} is another's");
            self.history.breach(FindingKind::Protocol, what);
        }
    }

    fn event(&mut self, seq: u64, frame: &Value) {
        let last_seq = self.history.last_seq();
        if seq > last_seq {
            if seq != last_seq + 1 {
                let what = format!("event {seq} came after {last_seq}");
                self.history.breach(FindingKind::Gap, what);
            }
            self.history.events.insert(seq, event_in_log(frame));
            if frame["type"] == "done" {
                self.summed_up(frame);
            }
            return;
        }
        // Only the receipt of a message that was sent again, and its answer, may come again.
        let is_receipt = ["user_message", "done", "message_queued"]
            .iter()
            .any(|r#type| frame["type"] == *r#type);
        let same = self.history.events.get(&seq) == Some(frame);
        match (is_receipt, same) {
            (true, true) => {}
            (true, false) => {
                let what = format!("told again, differently: {frame}");
                self.history.breach(FindingKind::DiffersFromLog, what);
            }
            (false, _) if frame["type"] == "session_started" => {
                let what = format!("the session is new again after event {last_seq}");
                self.history.breach(FindingKind::LogWentBack, what);
            }
            (false, _) => {
                let what = format!("event {seq} came after {last_seq}: {frame}");
                self.history.breach(FindingKind::Gap, what);
            }
        }
    }

    fn delta(&mut self, frame: &Value) {
        let text = |field: &str| frame[field].as_str().unwrap_or_default().to_owned();
        match frame["type"].as_str() {
            Some("token") => {
                let index = frame["index"].as_u64();
                match &mut self.forming {
                    Some(forming)
                        if forming.turn_id == frame["turn_id"]
                            && index == Some(forming.next_index) =>
                    {
                        forming.text.push_str(&text("token"));
                        forming.next_index += 1;
                    }
                    other => {
                        let expected = other.as_ref().map(|forming| forming.next_index);
                        let what = format!("{frame} where index {expected:?} was expected");
                        self.history.breach(FindingKind::Gap, what);
                    }
                }
            }
            _start_or_draft => {
                self.forming = Some(Forming {
                    turn_id: frame["turn_id"].clone(),
                    text: text("text"),
                    next_index: frame["next_index"].as_u64().unwrap_or(0),
                });
            }
        }
    }

    /// `done` must say what its pieces said. Where the server was lost in between, it has what there
    /// was last kept.
    fn summed_up(&mut self, done: &Value) {
        let Some(forming) = self.forming.take() else {
            return;
        };
        let text = done["text"].as_str().unwrap_or_default();
        let is_so = match done["finish_reason"].as_str() {
            Some("interrupted") => {
                text.starts_with(&forming.text) || forming.text.starts_with(text)
            }
            _ => text == forming.text,
        };
        if forming.turn_id != done["turn_id"] || !is_so {
            let what = format!("{done} contradicts {forming:?}");
            self.history.breach(FindingKind::DiffersFromLog, what);
        }
    }
}

/// The event as a replay spells it: the first frame of a new session says more than its event does.
fn event_in_log(frame: &Value) -> Value {
    match ServerFrame::read(&frame.to_string()) {
        Ok(Received::Frame(ServerFrame::Opened(opened))) => opened
            .event()
            .and_then(|event| serde_json::from_str(&ServerFrame::Event(event).to_json()).ok())
            .unwrap_or_else(|| frame.clone()),
        _ => frame.clone(),
    }
}

fn client(place: &Place, history: &History, transport: LinkTransport) -> Client<LinkTransport> {
    let address = address(place, &history.session, &history.user);
    let options = ClientOptions {
        session: SessionOptions {
            position: Some(Position::default()),
            sendings_max: u32::MAX,
            rng: Rng::with_seed(0),
            ..SessionOptions::default()
        },
        connect_timeout: CONNECT_TIMEOUT,
        // The tab has a patience of its own.
        keep_alive: SILENCE_MAX * 10,
    };
    Client::over(transport, address, options)
}

fn address(place: &Place, session: &str, user: &str) -> Address {
    let session = SessionId::new(session).expect("it is short");
    let user = UserId::new(user).expect("it is short");
    let server = place.server.to_string();
    Address::new(&server, Some(&session), Some(&user), "unused").expect("it is host and port")
}

/// The time of day, by the same clock that the server uses.
#[expect(
    clippy::disallowed_methods,
    reason = "it is compared with what another process wrote down"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
