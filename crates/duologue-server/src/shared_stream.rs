//! The byte stream of a connection, shared so that it can be drained after its WebSocket has failed.
//!
//! After an error in what the client sent, such as a message that is too big, tungstenite reads no more.
//! The system resets a connection that is dropped with unread input, and the reset discards the close
//! frame on its way: browsers would report 1006 in place of the code. So the input is read and discarded
//! first, for a limited time: a lingering close.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use duologue_engine::lock::lock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// How long input is discarded. A client needs it to receive a close frame and to stop sending.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How much input is discarded. A client that sends more is not interested in the reason.
const DRAIN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How much input is discarded at once.
const DRAIN_BUFFER_BYTES: usize = 16 * 1024;

trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A connection's byte stream. It is closed when the last clone is dropped.
///
/// One task reads and writes at a time: first the server of HTTP requests, then the WebSocket.
#[derive(Clone)]
pub(crate) struct SharedStream(Arc<Mutex<dyn ByteStream>>);

impl SharedStream {
    pub(crate) fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    /// Sends the end of the output, then discards input until the client closes the connection too.
    pub(crate) async fn drain(mut self) {
        match tokio::time::timeout(DRAIN_TIMEOUT, self.discard_input()).await {
            Ok(Ok(())) => {}
            // In both cases the connection is dropped now.
            Ok(Err(error)) => tracing::debug!(%error, "drain.failed"),
            Err(_elapsed) => tracing::debug!("drain.timed_out"),
        }
    }

    async fn discard_input(&mut self) -> io::Result<()> {
        self.shutdown().await?;
        let mut buffer = vec![0; DRAIN_BUFFER_BYTES];
        let mut discarded = 0;
        while discarded < DRAIN_BYTES_MAX {
            match self.read(&mut buffer).await? {
                0 => break,
                count => discarded += count,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SharedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStream").finish_non_exhaustive()
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_read(context, buffer)
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn draining_ends_when_the_client_closes() {
        let (server, mut client) = duplex(1024);
        let client = async move {
            client.write_all(&vec![0; 100_000]).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        };
        tokio::join!(SharedStream::new(server).drain(), client);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_is_limited_in_time_and_in_bytes() {
        let (server, client) = duplex(1024);
        let started = tokio::time::Instant::now();
        SharedStream::new(server).drain().await;
        assert_eq!(started.elapsed(), DRAIN_TIMEOUT);
        drop(client);

        let (server, mut client) = duplex(DRAIN_BUFFER_BYTES);
        let flood = async move {
            let piece = vec![0; DRAIN_BUFFER_BYTES];
            let mut sent = 0;
            while client.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
            sent
        };
        let started = tokio::time::Instant::now();
        let (sent, ()) = tokio::join!(flood, SharedStream::new(server).drain());
        assert!((DRAIN_BYTES_MAX..=DRAIN_BYTES_MAX + 2 * DRAIN_BUFFER_BYTES).contains(&sent));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
