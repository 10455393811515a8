//! One client: a WebSocket to a session, which checks everything that it receives.

use std::{borrow::Cow, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::script::{Script, Stamp, Token};

/// How long a client waits for the next frame of an answer. A fault may stall a server for a minute.
const FRAME_TIMEOUT: Duration = Duration::from_secs(90);

/// A connected client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) record: Record,
    socket: WebSocketStream<TcpStream>,
}

/// What a client has sent and received, for the comparison with what is stored.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) turns: Vec<RecordedTurn>,
    pub(crate) timings: Timings,
}

#[derive(Debug)]
pub(crate) struct RecordedTurn {
    pub(crate) message: String,
    pub(crate) answer: String,
}

/// What a client has measured. Times are in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Timings {
    /// From a token's write by the upstream to its receipt here.
    pub(crate) relay: Vec<u32>,
    /// From sending a message to the receipt of its `user_message`.
    pub(crate) receipt: Vec<u32>,
    /// From the last token to `done`.
    pub(crate) done: Vec<u32>,
    /// How often the server said that its storage is unavailable.
    pub(crate) degraded: u32,
}

impl Timings {
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.relay.append(&mut other.relay);
        self.receipt.append(&mut other.receipt);
        self.done.append(&mut other.done);
        self.degraded += other.degraded;
    }
}

#[derive(Deserialize)]
struct Frame<'a> {
    r#type: &'a str,
    index: Option<u32>,
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    finish_reason: Option<&'a str>,
}

/// An answer as far as it has been received.
struct Answer {
    text: String,
    tokens: u32,
    last_token: Instant,
    sent: Instant,
}

impl Session {
    /// Connects, and waits for the first frame.
    pub(crate) async fn connect(server: SocketAddr, id: String) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let request = format!("ws://{server}/ws/session/{id}?user_id=user-{id}&frames=json");
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0);
        let connected = client_async_with_config(request, stream, Some(config)).await;
        let (socket, _) = connected.context("the handshake failed")?;
        let record = Record {
            id,
            ..Record::default()
        };
        let mut session = Self { record, socket };
        let first = session.receive().await?;
        let frame: Frame<'_> = serde_json::from_str(&first)?;
        ensure!(
            frame.r#type == "session_started",
            "the first frame is {first}"
        );
        Ok(session)
    }

    /// Sends a message, and receives and checks the answer.
    pub(crate) async fn turn(&mut self, script: Script) -> Result<()> {
        let message = script.to_string();
        let id = format!("m-{}", self.record.turns.len() + 1);
        let frame = serde_json::json!({ "type": "message", "message": message, "id": id });
        let mut answer = Answer {
            text: String::with_capacity(script.tokens as usize * 12),
            tokens: 0,
            last_token: Instant::now(),
            sent: Instant::now(),
        };
        self.socket.send(Message::text(frame.to_string())).await?;
        loop {
            let text = self.receive().await?;
            let frame: Frame<'_> = serde_json::from_str(&text)?;
            match frame.r#type {
                "token" => answer.token(&frame, &mut self.record.timings)?,
                "user_message" => {
                    ensure!(
                        frame.id.as_deref() == Some(&*id),
                        "a receipt of another message"
                    );
                    ensure!(
                        frame.text.as_deref() == Some(&*message),
                        "a receipt of another text"
                    );
                    self.record
                        .timings
                        .receipt
                        .push(micros(answer.sent.elapsed()));
                }
                "done" => {
                    answer.done(&frame, script, &mut self.record.timings)?;
                    break;
                }
                "degraded" => self.record.timings.degraded += 1,
                "error" => bail!("the server sent {text}"),
                _ => {}
            }
        }
        let answer = answer.text;
        self.record.turns.push(RecordedTurn { message, answer });
        Ok(())
    }

    /// Has so many turns, one after the other.
    pub(crate) async fn turns(&mut self, turns: u32, script: Script) -> Result<()> {
        for _ in 0..turns {
            self.turn(script).await?;
        }
        Ok(())
    }

    /// Reads, and so answers pings, until the future is dropped or the connection fails.
    pub(crate) async fn idle(&mut self) -> anyhow::Error {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Close(_))) | None => return anyhow::anyhow!("the server closed"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.into(),
            }
        }
    }

    /// Closes the connection as a client that is done with the session, and waits for the server's
    /// close frame.
    pub(crate) async fn close(mut self) -> Result<Record> {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        self.socket.close(Some(frame)).await?;
        // The server may close the connection without a close frame of its own.
        let reading = async { while let Some(Ok(_)) = self.socket.next().await {} };
        tokio::time::timeout(FRAME_TIMEOUT, reading)
            .await
            .context("the server does not close")?;
        Ok(self.record)
    }

    async fn receive(&mut self) -> Result<String> {
        loop {
            let next = tokio::time::timeout(FRAME_TIMEOUT, self.socket.next()).await;
            match next.context("no frame in time")? {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => bail!("the server closed: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the connection failed"),
                None => bail!("the connection ended"),
            }
        }
    }
}

impl Answer {
    fn token(&mut self, frame: &Frame<'_>, timings: &mut Timings) -> Result<()> {
        let text = frame.token.as_deref().unwrap_or_default();
        let index = frame.index;
        ensure!(
            index == Some(self.tokens),
            "index {index:?} came after {} tokens",
            self.tokens
        );
        let token = Token::parse(text).with_context(|| format!("`{text}` is not a token"))?;
        ensure!(
            token.index == self.tokens,
            "token {} came as {}",
            token.index,
            self.tokens
        );
        timings
            .relay
            .push(micros(token.written.until(Stamp::now())));
        self.text.push_str(text);
        self.tokens += 1;
        self.last_token = Instant::now();
        Ok(())
    }

    fn done(&self, frame: &Frame<'_>, script: Script, timings: &mut Timings) -> Result<()> {
        let reason = frame.finish_reason;
        ensure!(
            reason == Some("stop"),
            "the answer finished with {reason:?}"
        );
        let (received, asked) = (self.tokens, script.tokens);
        ensure!(
            received == asked,
            "{received} tokens came, and {asked} were asked for"
        );
        let text = frame.text.as_deref().unwrap_or_default();
        ensure!(text == self.text, "`done` has another text than the tokens");
        timings.done.push(micros(self.last_token.elapsed()));
        Ok(())
    }
}

fn micros(duration: Duration) -> u32 {
    duration.as_micros().try_into().unwrap_or(u32::MAX)
}
