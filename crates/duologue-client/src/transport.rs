//! How a client reaches a server: byte streams, and tokens.

use std::{future::Future, io, pin::Pin};

use secrecy::SecretString;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A stream that is being opened.
pub type Opening<S> = Pin<Box<dyn Future<Output = io::Result<S>> + Send>>;

/// Opens byte streams to servers. TLS is added by the client where the URL's scheme is `wss`.
pub trait Transport {
    /// What it opens.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens a stream to `server`, a host and a port as in `127.0.0.1:8000` or `[::1]:8000`.
    fn open(&mut self, server: String) -> Opening<Self::Stream>;
}

/// TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Transport for Tcp {
    type Stream = TcpStream;

    fn open(&mut self, server: String) -> Opening<TcpStream> {
        Box::pin(async move {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

/// Where a client's token comes from.
pub trait TokenSource: Send {
    /// The token as it is now; `None` where there is none. Called before each connection, and when the
    /// server announces that the connection's token expires.
    fn token(&mut self) -> io::Result<Option<SecretString>>;
}

impl TokenSource for SecretString {
    fn token(&mut self) -> io::Result<Option<SecretString>> {
        Ok(Some(self.clone()))
    }
}
