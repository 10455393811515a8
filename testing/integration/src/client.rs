//! A client for tests: a connection that stores every frame, and fails the test at the first frame that
//! breaks the protocol.
//!
//! The rules are those of `duologue-client`. It does not reconnect: a test says when.

use std::time::Duration;

use duologue_client::{Connection, Incoming, Position, Session, SessionOptions};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::tungstenite::{
    self, Bytes, Message, client::IntoClientRequest, handshake::client::Request,
    protocol::CloseFrame,
};

use crate::DEADLINE;

/// A connected client of the JSON dialect.
#[derive(Debug)]
pub struct Client {
    connection: Box<Connection<TcpStream>>,
    session: Session,
    /// The subprotocol that the server selected.
    pub protocol: Option<String>,
    /// Every frame so far, in order.
    pub seen: Vec<Value>,
    /// The `seq` of the last event, 0 before the first.
    pub last_seq: u64,
}

/// An answer as a client saw it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The pieces put together.
    pub text: String,
    /// Its `done` frame.
    pub done: Value,
    /// The frames of the turn, `done` included.
    pub frames: Vec<Value>,
}

impl Answer {
    /// The frames of one type.
    pub fn of_type(&self, r#type: &str) -> Vec<&Value> {
        self.frames
            .iter()
            .filter(|frame| frame["type"] == r#type)
            .collect()
    }
}

impl Client {
    /// Connects, and expects to be let in.
    pub async fn open(url: &str) -> Self {
        match Self::try_open(url).await {
            Ok(client) => client,
            Err(error) => panic!("cannot connect to {url}: {error}"),
        }
    }

    /// Connects, or returns how that was refused.
    pub async fn try_open(url: &str) -> Result<Self, tungstenite::Error> {
        let request = url.into_client_request()?;
        Self::try_open_with(request).await
    }

    /// The same with headers of the caller's.
    pub async fn try_open_with(request: Request) -> Result<Self, tungstenite::Error> {
        let mut session = Session::new(SessionOptions {
            position: position(&request),
            ..SessionOptions::default()
        });
        session.connecting();
        let connecting = tokio::time::timeout(DEADLINE, Connection::connect(request));
        let connection = connecting.await.expect("the handshake takes no time")?;
        let protocol = connection.headers().get("sec-websocket-protocol");
        Ok(Self {
            protocol: protocol.map(|name| name.to_str().expect("it is a word").to_owned()),
            connection: Box::new(connection),
            session,
            seen: Vec::new(),
            last_seq: 0,
        })
    }

    /// Sends a text frame as it is.
    pub async fn send(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    /// Sends a frame of the JSON dialect.
    pub async fn send_json(&mut self, frame: Value) {
        self.send(&frame.to_string()).await;
    }

    /// Sends any WebSocket message.
    pub async fn send_message(&mut self, message: Message) {
        self.connection
            .send(message)
            .await
            .expect("the connection is open");
    }

    /// The next text frame as it is, or the close frame that ended the connection. The test checks it.
    pub async fn receive_text(&mut self) -> Result<String, Option<CloseFrame>> {
        let text = self.next_text().await?;
        if let Ok(received) = self.session.receive(&text, Instant::now()) {
            self.last_seq = self.session_seq().max(self.last_seq);
            self.seen.push(received.json);
        }
        Ok(text)
    }

    async fn next_text(&mut self) -> Result<String, Option<CloseFrame>> {
        let receiving = async {
            loop {
                match self.connection.next().await {
                    Incoming::Text(text) => return Ok(text),
                    Incoming::Closed(frame) => {
                        return Err(frame.map(|(code, reason)| CloseFrame {
                            code: code.into(),
                            reason: reason.into(),
                        }));
                    }
                    Incoming::Control(_) => {}
                    Incoming::Broken => return Err(None),
                }
            }
        };
        let Ok(received) = tokio::time::timeout(DEADLINE, receiving).await else {
            panic!("no frame in time; seen so far: {:#?}", self.seen)
        };
        received
    }

    /// The next frame. Checks that events come without gaps and pieces in order.
    pub async fn receive(&mut self) -> Value {
        match self.try_receive().await {
            Ok(frame) => frame,
            Err(close) => panic!("closed ({close:?}); seen so far: {:#?}", self.seen),
        }
    }

    /// The next frame, checked too, or the close frame that ended the connection.
    pub async fn try_receive(&mut self) -> Result<Value, Option<CloseFrame>> {
        let text = self.next_text().await?;
        Ok(self.check(&text))
    }

    /// Sends a WebSocket ping and returns how long its answer took. Frames that come before are checked.
    pub async fn ping(&mut self) -> Duration {
        let sent = Instant::now();
        self.send_message(Message::Ping(Bytes::new())).await;
        let answering = async {
            loop {
                match self.connection.next().await {
                    Incoming::Control(Message::Pong(_)) => return sent.elapsed(),
                    Incoming::Text(text) => drop(self.check(&text)),
                    Incoming::Control(_) => {}
                    other => panic!("no answer to a ping, but {other:?}"),
                }
            }
        };
        let answer = tokio::time::timeout(DEADLINE, answering).await;
        answer.expect("a ping is answered in time")
    }

    fn check(&mut self, text: &str) -> Value {
        let received = match self.session.receive(text, Instant::now()) {
            Ok(received) => received,
            Err(violation) => panic!("{violation}; seen so far: {:#?}", self.seen),
        };
        assert!(
            received.is_new,
            "a frame came twice: {text}; {:#?}",
            self.seen
        );
        if received.kind() != "session_started" || received.json["seq"].is_u64() {
            self.last_seq = self.session_seq();
        }
        self.seen.push(received.json.clone());
        received.json
    }

    fn session_seq(&self) -> u64 {
        self.session
            .position()
            .map_or(0, |position| position.last_seq)
    }

    /// Receives until a frame of this type, which is returned.
    pub async fn until(&mut self, r#type: &str) -> Value {
        loop {
            let frame = self.receive().await;
            if frame["type"] == r#type {
                return frame;
            }
        }
    }

    /// Receives a whole answer, up to and including its `done`.
    pub async fn answer(&mut self) -> Answer {
        let first = self.seen.len();
        let done = self.until("done").await;
        let frames = self.seen[first..].to_vec();
        let mut text = String::new();
        for frame in &frames {
            match frame["type"].as_str() {
                Some("token") => text.push_str(frame["token"].as_str().expect("tokens are text")),
                Some("draft") => frame["text"]
                    .as_str()
                    .expect("drafts have text")
                    .clone_into(&mut text),
                _ => {}
            }
        }
        assert_eq!(
            done["text"],
            text.as_str(),
            "`done` must have the text of the pieces"
        );
        Answer { text, done, frames }
    }

    /// Sends a message and receives the whole answer.
    pub async fn ask(&mut self, text: &str) -> Answer {
        self.send_json(json!({ "type": "message", "message": text }))
            .await;
        self.answer().await
    }

    /// Receives until the server closes, and returns the code and reason it gave.
    pub async fn until_closed(&mut self) -> (u16, String) {
        loop {
            match self.next_text().await {
                Ok(text) => drop(self.check(&text)),
                Err(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
                Err(None) => panic!("cut off without a close frame; seen: {:#?}", self.seen),
            }
        }
    }

    /// Closes with a code of the caller's, and waits until the server has agreed.
    pub async fn close(mut self, code: u16) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        self.send_message(Message::Close(Some(frame))).await;
        let closed = tokio::time::timeout(Duration::from_secs(10), self.connection.finish()).await;
        closed.expect("the server agrees to close");
    }

    /// Vanishes: the connection is cut without a close frame.
    pub fn vanish(self) {
        drop(self);
    }
}

/// The position that a request asks to resume at.
fn position(request: &Request) -> Option<Position> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    let value = |name| {
        let mut pairs = pairs.clone();
        pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    Some(Position {
        last_seq: value("after")?.parse().ok()?,
        log_id: value("log_id").map(str::to_owned),
    })
}
