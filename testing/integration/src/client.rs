//! A client for tests: keeps every frame it has seen, checks what every reader may rely on, and
//! waits for conditions with a deadline.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        self, Bytes, Message, client::IntoClientRequest, handshake::client::Request,
        protocol::CloseFrame,
    },
};

use crate::DEADLINE;

/// A connected client of the JSON dialect.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The subprotocol that the server selected.
    pub protocol: Option<String>,
    /// Every frame so far, in order.
    pub seen: Vec<Value>,
    /// The `seq` of the last event, 0 before the first.
    pub last_seq: u64,
    next_index: u64,
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

    /// Connects, or says how that was refused.
    pub async fn try_open(url: &str) -> Result<Self, tungstenite::Error> {
        let request = url.into_client_request()?;
        Self::try_open_with(request).await
    }

    /// The same with headers of one's own.
    pub async fn try_open_with(request: Request) -> Result<Self, tungstenite::Error> {
        let connecting = tokio::time::timeout(DEADLINE, connect_async(request));
        let (socket, response) = connecting.await.expect("the handshake takes no time")?;
        let protocol = response.headers().get("sec-websocket-protocol");
        Ok(Self {
            protocol: protocol.map(|name| name.to_str().expect("it is a word").to_owned()),
            socket,
            seen: Vec::new(),
            last_seq: 0,
            next_index: 0,
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
        self.socket
            .send(message)
            .await
            .expect("the connection is open");
    }

    /// The next text frame as it is, or the close frame that ended the connection.
    pub async fn receive_text(&mut self) -> Result<String, Option<CloseFrame>> {
        let receiving = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
                    Some(Ok(Message::Close(frame))) => return Err(frame),
                    Some(Ok(_control)) => {}
                    Some(Err(_)) | None => return Err(None),
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
        let text = self.receive_text().await?;
        Ok(self.note(&text))
    }

    /// Sends a WebSocket ping and says how long its answer took. Frames that come before are noted.
    pub async fn ping(&mut self) -> Duration {
        let sent = Instant::now();
        self.send_message(Message::Ping(Bytes::new())).await;
        let answering = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Pong(_))) => return sent.elapsed(),
                    Some(Ok(Message::Text(text))) => drop(self.note(&text)),
                    Some(Ok(_control)) => {}
                    other => panic!("no answer to a ping, but {other:?}"),
                }
            }
        };
        let answer = tokio::time::timeout(DEADLINE, answering).await;
        answer.expect("a ping is answered in time")
    }

    fn note(&mut self, text: &str) -> Value {
        let frame: Value = serde_json::from_str(text).expect("frames are JSON");
        match frame["type"].as_str().expect("frames have a type") {
            "token" => {
                assert_eq!(
                    frame["index"], self.next_index,
                    "a piece is missing or doubled"
                );
                self.next_index += 1;
            }
            "draft" => self.next_index = frame["next_index"].as_u64().expect("drafts have one"),
            "start" => self.next_index = 0,
            "replayed" => assert_eq!(frame["seq"], self.last_seq, "replayed too much or little"),
            _ => {
                if let Some(seq) = frame["seq"].as_u64() {
                    let expected = if self.last_seq == 0 {
                        seq
                    } else {
                        self.last_seq + 1
                    };
                    assert_eq!(
                        seq, expected,
                        "an event is missing or doubled: {:#?}",
                        self.seen
                    );
                    self.last_seq = seq;
                }
            }
        }
        self.seen.push(frame.clone());
        frame
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
        assert_eq!(done["text"], text.as_str(), "`done` must sum up the pieces");
        Answer { text, done, frames }
    }

    /// Says something and receives the whole answer.
    pub async fn ask(&mut self, text: &str) -> Answer {
        self.send_json(json!({ "type": "message", "message": text }))
            .await;
        self.answer().await
    }

    /// Receives until the server closes, and returns the code and reason it gave.
    pub async fn until_closed(&mut self) -> (u16, String) {
        loop {
            match self.receive_text().await {
                Ok(text) => drop(self.note(&text)),
                Err(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
                Err(None) => panic!("cut off without a close frame; seen: {:#?}", self.seen),
            }
        }
    }

    /// Closes with a code of one's own, and waits until the server has agreed.
    pub async fn close(mut self, code: u16) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        self.send_message(Message::Close(Some(frame))).await;
        let closing = async { while let Some(Ok(_)) = self.socket.next().await {} };
        let closed = tokio::time::timeout(Duration::from_secs(10), closing).await;
        closed.expect("the server agrees to close");
    }

    /// Vanishes: the connection is cut without a close frame.
    pub fn vanish(self) {
        drop(self);
    }
}
