//! One WebSocket connection over any byte stream. It knows frames, and nothing of sessions.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    task::{Context, Poll, ready},
};

use futures_util::{Sink, Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async_tls,
    tungstenite::{self, Message, error::UrlError, handshake::client::Request, http::HeaderMap},
};

/// Something that came over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text frame.
    Text(String),
    /// A ping, which is answered already, or a pong.
    Control(Message),
    /// A close frame, with its code and reason if it has them. What was not sent is lost.
    Closed(Option<(u16, String)>),
    /// The connection broke, or is over.
    Broken,
}

/// An open WebSocket.
///
/// Writing and reading progress together whenever the connection is polled, and both are cancel safe.
pub struct Connection<S> {
    socket: WebSocketStream<MaybeTlsStream<S>>,
    outgoing: VecDeque<Message>,
    headers: HeaderMap,
    is_over: bool,
}

impl Connection<TcpStream> {
    /// Connects to the server of a request's URL over TCP, and does the handshake.
    pub async fn connect(request: Request) -> Result<Self, tungstenite::Error> {
        let stream = TcpStream::connect(server_of(&request)?).await?;
        stream.set_nodelay(true)?;
        Self::open(request, stream).await
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection<S> {
    /// Does the handshake of `request` over `stream`, inside of TLS if the URL's scheme is `wss`.
    ///
    /// A server that refuses the handshake is [`tungstenite::Error::Http`]; [`crate::Refusal`] reads it.
    pub async fn open(request: Request, stream: S) -> Result<Self, tungstenite::Error> {
        let (socket, response) = client_async_tls(request, stream).await?;
        Ok(Self {
            socket,
            outgoing: VecDeque::new(),
            headers: response.into_parts().0.headers,
            is_over: false,
        })
    }

    /// The headers of the server's response to the handshake.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Gives a message to be sent while the connection is polled.
    pub fn queue(&mut self, message: Message) {
        self.outgoing.push_back(message);
    }

    /// Sends what is queued, and receives.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if self.is_over {
            return Poll::Ready(Incoming::Broken);
        }
        // A peer that has closed may be unable to receive, while its last frames can still be read.
        if let Poll::Ready(Err(_)) = self.poll_send(cx) {
            self.outgoing.clear();
        }
        let message = ready!(std::pin::Pin::new(&mut self.socket).poll_next(cx));
        Poll::Ready(match message {
            Some(Ok(Message::Text(text))) => Incoming::Text(text.to_string()),
            Some(Ok(Message::Close(frame))) => {
                self.is_over = true;
                // The answer to the close frame. Where it cannot be sent at once, the server sees the end.
                let _ = self.poll_send(cx);
                Incoming::Closed(frame.map(|frame| (frame.code.into(), frame.reason.to_string())))
            }
            Some(Ok(other)) => Incoming::Control(other),
            Some(Err(_)) | None => {
                self.is_over = true;
                Incoming::Broken
            }
        })
    }

    /// The next thing that comes. Cancel safe.
    pub async fn next(&mut self) -> Incoming {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Sends what is queued.
    pub async fn flush(&mut self) -> Result<(), tungstenite::Error> {
        poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Sends one message after what is queued.
    pub async fn send(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        self.queue(message);
        self.flush().await
    }

    /// After a close frame of either side: answers it, and waits until the server has closed.
    pub async fn finish(mut self) {
        poll_fn(|cx| {
            // Errors mean that the connection is over, which is what is waited for.
            let _ = self.poll_send(cx);
            loop {
                match ready!(std::pin::Pin::new(&mut self.socket).poll_next(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(()),
                }
            }
        })
        .await;
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        let mut socket = std::pin::Pin::new(&mut self.socket);
        while !self.outgoing.is_empty() {
            ready!(socket.as_mut().poll_ready(cx))?;
            if let Some(message) = self.outgoing.pop_front() {
                socket.as_mut().start_send(message)?;
            }
        }
        socket.poll_flush(cx)
    }
}

impl<S> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("outgoing", &self.outgoing.len())
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

/// Host and port of a request's URL.
pub(crate) fn server_of(request: &Request) -> Result<String, tungstenite::Error> {
    let uri = request.uri();
    let default = if uri.scheme_str() == Some("wss") {
        443
    } else {
        80
    };
    let host = uri.host().ok_or(UrlError::NoHostName)?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(default)))
}
