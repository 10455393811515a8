//! One tab: an observed client of a session, which reconnects again and again, in real time.
//!
//! The rules of the protocol are those of `duologue-client`. What it delivers is checked once more by its
//! view; what that finds, and what became of each request, is written into the client's history. The
//! simulation has a tab as well, but in simulated time, among several servers, and with a trace.

use std::{io, net::SocketAddr, time::Duration};

use duologue_client::{
    Address, ClientOptions, Connection, Loss, Opening, Refusal, SessionOptions, Transport,
};
use duologue_observer::{BreachKind, ClientFault, Identity, Observation, ObservedClient, View};
use duologue_protocol::{SessionId, UserId};
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

use crate::history::{Attachment, FindingKind, History, Outcome, Request};

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
    /// A planted fault, which the run must find.
    pub(crate) fault: Option<ClientFault>,
}

/// A client in one session.
#[derive(Debug)]
pub(crate) struct Tab {
    pub(crate) history: History,
    place: Place,
    client: ObservedClient<LinkTransport>,
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
        let outcome = match self.client.connect().await {
            Ok(()) => self.first_frame().await,
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
            let receiving = tokio::time::timeout_at(deadline, self.client.receive());
            let Ok(observation) = receiving.await else {
                return Heard::Nothing;
            };
            self.observe();
            match observation {
                Observation::Frame(frame) => {
                    self.history.frames_seen += 1;
                    return Heard::Frame(frame);
                }
                Observation::Control => {}
                Observation::Lost(lost) => {
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

    /// Records what the view found, and the event.
    fn observe(&mut self) {
        for breach in self.client.take_breaches() {
            let kind = match breach.kind {
                BreachKind::Gap => FindingKind::Gap,
                BreachKind::LogWentBack => FindingKind::LogWentBack,
                BreachKind::Contradiction => FindingKind::DiffersFromLog,
                BreachKind::ForeignCanary => FindingKind::ForeignCanary,
                BreachKind::Protocol => FindingKind::Protocol,
            };
            self.history.breach(kind, breach.what);
        }
        if let Some((seq, event)) = self.client.view().events().last_key_value()
            && self.history.last_seq() < *seq
        {
            let event = serde_json::from_str(event).expect("the client has parsed it");
            self.history.events.insert(*seq, event);
        }
    }
}

fn client(
    place: &Place,
    history: &History,
    transport: LinkTransport,
) -> ObservedClient<LinkTransport> {
    let address = address(place, &history.session, &history.user);
    let options = ClientOptions {
        session: SessionOptions {
            sendings_max: u32::MAX,
            rng: Rng::with_seed(0),
            ..SessionOptions::default()
        },
        connect_timeout: CONNECT_TIMEOUT,
        // The tab has a patience of its own.
        keep_alive: SILENCE_MAX * 10,
    };
    let view = View::new(Identity {
        session_id: history.session.clone(),
        user_id: history.user.clone(),
        canary: history.canary.clone(),
    });
    ObservedClient::new(transport, address, options, view, place.fault)
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
