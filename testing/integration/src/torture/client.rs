//! One tab: a connection to a session that is made again and again, and strict about what comes.
//!
//! Whatever a reader may rely on is checked on receipt, across connections: that each event follows
//! the one before, pieces of text come in order and are summed up rightly, a replay ends where it
//! says, and nothing of other sessions shows.

use std::{net::SocketAddr, time::Duration};

use duologue_protocol::{Received, ServerFrame};
use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, http::StatusCode, protocol::CloseFrame},
};
use tokio_util::sync::CancellationToken;

use crate::torture::{
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
}

/// A client in one session.
#[derive(Debug)]
pub(crate) struct Tab {
    pub(crate) history: History,
    place: Place,
    socket: Option<WebSocketStream<TcpStream>>,
    forming: Option<Forming>,
    small_buffer: bool,
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
            history,
            place,
            socket: None,
            forming: None,
            small_buffer: false,
        }
    }

    /// Takes in only a little at a time, and is not expected to read at once.
    pub(crate) fn with_small_buffer(mut self) -> Self {
        self.small_buffer = true;
        self
    }

    pub(crate) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether clients shall come to an end.
    pub(crate) fn is_over(&self) -> bool {
        self.place.stop.is_cancelled()
    }

    /// Connects, once, and resumes after the last event seen.
    pub(crate) async fn connect(&mut self) -> Outcome {
        let connecting =
            tokio::time::timeout(CONNECT_TIMEOUT, self.handshake(&self.history.session));
        let outcome = match connecting.await {
            Ok(Ok(socket)) => {
                self.socket = Some(socket);
                self.forming = None;
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
            Ok(Err(Error::Http(response))) => {
                let status = response.status();
                if status != StatusCode::SERVICE_UNAVAILABLE {
                    let what = format!("was not let in: {status}");
                    self.history.breach(FindingKind::Protocol, what);
                }
                Outcome::Failed
            }
            // The way to the server is cut, or nobody is there. Either end may see that first.
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        };
        self.history.record(Request::Connect, outcome);
        outcome
    }

    /// Tries to get into the session of another user, which must look as if there were none.
    pub(crate) async fn intrude(&mut self, session: &str) -> Outcome {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.handshake(session));
        let status = match connecting.await {
            Ok(Ok(_)) => {
                let what = format!("was let into {session}");
                self.history.breach(FindingKind::ForeignCanary, what);
                return Outcome::Failed;
            }
            Ok(Err(Error::Http(response))) => response.status(),
            Ok(Err(_)) | Err(_) => return Outcome::Unknown,
        };
        match status {
            StatusCode::NOT_FOUND => Outcome::Ok,
            StatusCode::SERVICE_UNAVAILABLE => Outcome::Unknown,
            other => {
                let what = format!("a foreign session is refused by {other}");
                self.history.breach(FindingKind::Protocol, what);
                Outcome::Failed
            }
        }
    }

    async fn handshake(&self, session: &str) -> Result<WebSocketStream<TcpStream>, Error> {
        let history = &self.history;
        let url = format!(
            "ws://{}/ws/session/{session}?user_id={}&after={}",
            self.place.server,
            history.user,
            history.last_seq()
        );
        let socket = TcpSocket::new_v4()?;
        if self.small_buffer {
            socket.set_recv_buffer_size(SMALL_BUFFER_BYTES)?;
        }
        let stream = socket.connect(self.place.server).await?;
        Ok(client_async(url, stream).await?.0)
    }

    /// Sends something as it is. The connection may be over without our knowing.
    pub(crate) async fn send(&mut self, message: Message) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        let sending = tokio::time::timeout(SILENCE_MAX, socket.send(message));
        // If it did not arrive, that shows when listening.
        drop(sending.await);
    }

    /// Hears one frame, and checks it.
    pub(crate) async fn hear(&mut self, patience: Duration) -> Heard {
        let deadline = Instant::now() + patience;
        loop {
            let Some(socket) = &mut self.socket else {
                return Heard::Closed(None);
            };
            let Ok(message) = tokio::time::timeout_at(deadline, socket.next()).await else {
                return Heard::Nothing;
            };
            match message {
                Some(Ok(Message::Text(text))) => {
                    if let Some(frame) = self.note(&text) {
                        return Heard::Frame(frame);
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    self.detached();
                    return Heard::Closed(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_control)) => {}
                Some(Err(_)) | None => {
                    self.detached();
                    return Heard::Closed(None);
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

    /// A client must never wait for ever; this one gives up.
    pub(crate) fn left_waiting(&mut self, what: &str) {
        let what = format!("waited for {what} in vain for {SILENCE_MAX:?}");
        self.history.breach(FindingKind::Protocol, what);
        self.detached();
    }

    fn detached(&mut self) {
        self.socket = None;
        if let Some(attachment) = self.history.attachments.last_mut() {
            attachment.until.get_or_insert_with(now);
        }
    }

    /// Checks a frame and takes note of it. `None`: it is not to be understood.
    fn note(&mut self, text: &str) -> Option<Value> {
        self.history.frames_seen += 1;
        if let Some(foreign) = foreign_canary(text, &self.history.canary) {
            let what = format!("{foreign} in {text}");
            self.history.breach(FindingKind::ForeignCanary, what);
        }
        let frame: Value = match serde_json::from_str(text) {
            Ok(frame) => frame,
            Err(error) => {
                let what = format!("{error}: {text}");
                self.history.breach(FindingKind::Protocol, what);
                return None;
            }
        };
        match frame["type"].as_str().unwrap_or_default() {
            "replayed" => {
                let last_seq = self.history.last_seq();
                if frame["seq"] != last_seq {
                    let what = format!("{frame} after event {last_seq}");
                    self.history.breach(FindingKind::Gap, what);
                }
            }
            "session_started" if frame["seq"].is_null() => self.resumed(&frame),
            "error" if frame["code"] == "unknown_position" => {
                let what = format!("{frame} after event {}", self.history.last_seq());
                self.history.breach(FindingKind::LogWentBack, what);
            }
            "start" | "draft" | "token" => self.delta(&frame),
            _ => {
                if let Some(seq) = frame["seq"].as_u64() {
                    self.event(seq, &frame);
                }
            }
        }
        Some(frame)
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
            let what = format!("{done} sums up {forming:?}");
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

/// The time of day, by the same clock that the server uses.
#[expect(
    clippy::disallowed_methods,
    reason = "it is compared with what another process wrote down"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
