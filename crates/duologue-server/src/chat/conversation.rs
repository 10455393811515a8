//! A conversation over as many connections as it takes: the loop between a person and a socket.

use std::{
    future::Future,
    io::{self, Write},
    pin::pin,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, interval_at, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error as SocketError, Message,
        client::IntoClientRequest,
        http::{Response, StatusCode, header::AUTHORIZATION},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::chat::{
    ChatError,
    address::Address,
    dialogue::{Dialogue, Interruption},
    frame::{Body, Frame},
    input::Lines,
    reconnect::{Next, Waits, after_close},
    token::Token,
    view::View,
};

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the server is pinged. When a whole interval brings nothing, the connection is dead.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long the server may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One person's conversation.
pub(super) struct Conversation<W> {
    pub(super) address: Address,
    pub(super) token: Token,
    pub(super) dialogue: Dialogue,
    pub(super) view: View,
    pub(super) waits: Waits,
    pub(super) lines: Lines,
    pub(super) interrupts: mpsc::Receiver<()>,
    pub(super) output: W,
}

/// What came of an attempt to connect.
enum Attempt {
    Connected(Box<Socket>),
    /// It may be tried again; the text says what happened.
    Failed(String),
    /// The person leaves instead.
    Left,
}

/// How a connection ended.
enum Gone {
    /// The person leaves; the socket is still open.
    Leaving(Box<Socket>),
    /// By the server, with this close code, or by the network.
    Closed(Option<u16>),
}

impl<W: Write> Conversation<W> {
    /// Talks until the person leaves or the session ends.
    pub(super) async fn run(mut self) -> Result<(), ChatError> {
        let mut was_connected = false;
        let mut wait_at_least = Duration::ZERO;
        loop {
            let reason = match self.connect().await? {
                Attempt::Left => return Ok(()),
                Attempt::Connected(socket) => {
                    was_connected = true;
                    match self.converse(*socket, &mut wait_at_least).await? {
                        Gone::Leaving(socket) => return self.say_goodbye(*socket).await,
                        Gone::Closed(code) => match after_close(code) {
                            Next::Leave => return self.session_ended(),
                            Next::GiveUp(reason) => return Err(ChatError::Closed(reason.into())),
                            Next::Reconnect(reason) => reason.to_owned(),
                        },
                    }
                }
                Attempt::Failed(reason) if was_connected => reason,
                Attempt::Failed(reason) => {
                    let server = self.address.server().to_owned();
                    return Err(ChatError::Unreachable { server, reason });
                }
            };
            self.dialogue.lost();
            let at_least = std::mem::take(&mut wait_at_least);
            if !self.wait(&reason, at_least).await? {
                return Ok(());
            }
        }
    }

    async fn connect(&mut self) -> Result<Attempt, ChatError> {
        let url = self.address.url(self.dialogue.last_seq());
        let mut request = match url.into_client_request() {
            Ok(request) => request,
            Err(error) => return Ok(Attempt::Failed(error.to_string())),
        };
        if let Some(authorization) = self.token.authorization()? {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        // A TLS handshake is large, and this future is part of all that wait for it.
        let attempt = timeout(CONNECT_TIMEOUT, Box::pin(connect_async(request)));
        Ok(match self.meanwhile(attempt).await? {
            None => Attempt::Left,
            Some(Ok(Ok((socket, _)))) => Attempt::Connected(Box::new(socket)),
            Some(Ok(Err(SocketError::Http(response)))) => {
                let reason = refusal(&response);
                if !is_passing(response.status()) {
                    return Err(ChatError::Refused(reason));
                }
                Attempt::Failed(reason)
            }
            Some(Ok(Err(SocketError::Io(error)))) => Attempt::Failed(error.to_string()),
            Some(Ok(Err(other))) => Attempt::Failed(other.to_string()),
            Some(Err(_)) => Attempt::Failed("it does not answer".to_owned()),
        })
    }

    fn session_ended(&self) -> Result<(), ChatError> {
        if self.dialogue.is_unanswered() {
            return Err(ChatError::Unanswered);
        }
        Ok(())
    }

    /// Waits before the next attempt. `false` when the person leaves instead.
    async fn wait(&mut self, reason: &str, at_least: Duration) -> Result<bool, ChatError> {
        let Some(wait) = self.waits.next(at_least) else {
            return Err(ChatError::Closed(reason.to_owned()));
        };
        let seconds = wait.as_secs_f32();
        let note = self
            .view
            .note(&format!("· {reason}; connecting again in {seconds:.1} s"));
        self.write(&note)?;
        let waited = self.meanwhile(tokio::time::sleep(wait)).await?;
        Ok(waited.is_some())
    }

    /// Waits for something while lines and interruptions go on; `None` when the person leaves.
    async fn meanwhile<F: Future>(&mut self, awaited: F) -> Result<Option<F::Output>, ChatError> {
        let mut awaited = pin!(awaited);
        loop {
            if self.dialogue.is_over() {
                return Ok(None);
            }
            tokio::select! {
                output = &mut awaited => return Ok(Some(output)),
                line = self.lines.recv(), if self.dialogue.wants_lines() => self.take(line)?,
                Some(()) = self.interrupts.recv() => return Ok(None),
            }
        }
    }

    /// Talks over one connection.
    async fn converse(
        &mut self,
        mut socket: Socket,
        wait_at_least: &mut Duration,
    ) -> Result<Gone, ChatError> {
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        let mut was_heard = true;
        loop {
            while let Some(frame) = self.dialogue.next_frame() {
                if socket.send(Message::text(frame)).await.is_err() {
                    return Ok(Gone::Closed(None));
                }
            }
            if self.dialogue.is_over() {
                return Ok(Gone::Leaving(Box::new(socket)));
            }
            tokio::select! {
                message = socket.next() => {
                    was_heard = true;
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            let frame = Frame::read(&text);
                            match frame.body {
                                Body::Goaway { reconnect_after_ms } => {
                                    *wait_at_least = Duration::from_millis(reconnect_after_ms);
                                }
                                Body::AuthRequired => return Err(token_wanted()),
                                Body::AuthExpiring => {
                                    let fresh = self.token.fresh_frame()?;
                                    if let Some(fresh) = fresh
                                        && socket.send(Message::text(fresh)).await.is_err()
                                    {
                                        return Ok(Gone::Closed(None));
                                    }
                                }
                                _ => {}
                            }
                            self.hear(&frame)?;
                        }
                        Some(Ok(Message::Close(close))) => {
                            return Ok(Gone::Closed(close.map(|close| close.code.into())));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return Ok(Gone::Closed(None)),
                    }
                }
                line = self.lines.recv(), if self.dialogue.wants_lines() => self.take(line)?,
                Some(()) = self.interrupts.recv() => self.interrupt()?,
                _ = pings.tick() => {
                    let ping = Message::Ping(Vec::new().into());
                    if !std::mem::take(&mut was_heard) || socket.send(ping).await.is_err() {
                        return Ok(Gone::Closed(None));
                    }
                }
            }
        }
    }

    fn hear(&mut self, frame: &Frame) -> Result<(), ChatError> {
        if !self.dialogue.heard(frame) {
            return Ok(());
        }
        let text = match &frame.body {
            Body::UserMessage { text, id } if !self.dialogue.is_ours(id.as_deref()) => {
                self.view.other_said(text)
            }
            Body::MessageQueued { id } if self.dialogue.is_ours(id.as_deref()) => self.view.waits(),
            _ => self.view.show(frame),
        };
        if matches!(frame.body, Body::SessionStarted { .. }) {
            self.waits.begin_anew();
        }
        self.write(&text)
    }

    fn take(&mut self, line: Option<io::Result<String>>) -> Result<(), ChatError> {
        let Some(line) = line else {
            self.dialogue.input_ended();
            return Ok(());
        };
        self.view.line_was_typed();
        self.dialogue.line(&line.map_err(ChatError::Input)?);
        self.write("")
    }

    fn interrupt(&mut self) -> Result<(), ChatError> {
        match self.dialogue.interrupted(self.view.is_answering()) {
            Interruption::Cancel => {
                let note = self.view.note("· stopping; once more to leave");
                self.write(&note)
            }
            Interruption::Leave => Ok(()),
        }
    }

    /// Ends the session: closing with 1000 says that its user is done with it.
    async fn say_goodbye(&mut self, mut socket: Socket) -> Result<(), ChatError> {
        let close = CloseFrame {
            code: CloseCode::Normal,
            reason: "done".into(),
        };
        let mut frames = Vec::new();
        let goodbye = async {
            socket.close(Some(close)).await?;
            while let Some(message) = socket.next().await {
                if let Message::Text(text) = message? {
                    frames.push(Frame::read(&text));
                }
            }
            Ok::<(), SocketError>(())
        };
        // Whatever goes wrong now, the server sees that we are gone, and the person wants to be.
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
        for frame in frames {
            if matches!(frame.body, Body::SessionEnded { .. }) {
                self.hear(&frame)?;
            }
        }
        Ok(())
    }

    /// Writes, and then prompts where the person may type.
    fn write(&mut self, text: &str) -> Result<(), ChatError> {
        let prompt = if self.dialogue.is_unanswered() || self.dialogue.last_seq().is_none() {
            ""
        } else {
            self.view.prompt()
        };
        let write = |output: &mut W| {
            output.write_all(text.as_bytes())?;
            output.write_all(prompt.as_bytes())?;
            output.flush()
        };
        write(&mut self.output).map_err(ChatError::Output)
    }
}

fn token_wanted() -> ChatError {
    let words = "it wants a token; set DUOLOGUE_TOKEN, or name a file with --token-file";
    ChatError::Refused(words.to_owned())
}

/// Whether a refusal may be over in a while.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

fn refusal(response: &Response<Option<Vec<u8>>>) -> String {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let body: String = String::from_utf8_lossy(body)
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect();
    if body.is_empty() {
        format!("it answered {status}")
    } else {
        format!("it answered {status}: {body}")
    }
}
