//! The accept loop. It closes connections that send no request.
//!
//! `axum::serve` does not limit the time that a client may take to send the head of its request, so
//! silent connections would stay open without end. hyper's own builder has such a limit.
//!
//! Where connections come from is a [`Listener`]: the system's TCP, or a simulated network.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    config::ServerConfig,
    connection_limits::{AddressSlot, ConnectionLimits},
    shared_stream::SharedStream,
};

/// How long to wait after the system refused a connection, so that a lack of file descriptors does
/// not become a busy loop.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// How long a connection over the limit may take to receive its refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The response to connections over the limit, sent before a request is read.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n\
content-length: 0\r\nconnection: close\r\n\r\n";

/// The response to connections from an address that has too many.
const ADDRESS_REFUSAL: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\n\
content-type: application/json\r\ncontent-length: 145\r\nconnection: close\r\n\r\n\
{\"error\":{\"code\":\"too_many_requests\",\"message\":\"too many connections from this address; try again \
later\",\"retryable\":true,\"retry_after_ms\":5000}}";

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection and its remote address. Safe to cancel.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Tokens are small, and waiting to fill a packet would delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, error = &error as &dyn std::error::Error, "nodelay.refused");
        }
        Ok((stream, peer))
    }
}

/// What connections may use before they are upgraded.
#[derive(Clone, Debug)]
pub(crate) struct ListenerLimits {
    header_read_timeout: Duration,
    header_bytes_max: usize,
    headers_max: usize,
}

impl From<&ServerConfig> for ListenerLimits {
    fn from(config: &ServerConfig) -> Self {
        Self {
            header_read_timeout: config.header_read_timeout,
            header_bytes_max: config.header_bytes_max as usize,
            headers_max: config.headers_max as usize,
        }
    }
}

/// The slots of connections, of which there are `connections_max`.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSlots {
    free: Arc<Semaphore>,
    all: usize,
    limits: Arc<ConnectionLimits>,
}

impl ConnectionSlots {
    pub(crate) fn new(all: usize, limits: Arc<ConnectionLimits>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(all)),
            all,
            limits,
        }
    }

    /// Takes a slot for a connection. The error is the response that refuses the connection.
    fn take(&self, peer: IpAddr) -> Result<ConnectionSlot, &'static [u8]> {
        let permit = Arc::clone(&self.free).try_acquire_owned();
        let permit = permit.map_err(|_full| {
            tracing::warn!("connection.refused");
            REFUSAL
        })?;
        let address = if self.limits.is_proxy(peer) {
            None
        } else {
            let address = self.limits.address_slot(peer).ok_or_else(|| {
                tracing::debug!(%peer, "connection.refused_by_address");
                ADDRESS_REFUSAL
            })?;
            Some(Arc::new(address))
        };
        Ok(ConnectionSlot {
            _permit: Arc::new(permit),
            address,
        })
    }

    /// The number of open connections.
    pub(crate) fn taken(&self) -> usize {
        self.all - self.free.available_permits()
    }
}

/// A connection's slot among `connections_max`, released when the last clone is dropped. Requests
/// carry it as an extension, so that an upgraded socket keeps its slot.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSlot {
    _permit: Arc<OwnedSemaphorePermit>,
    /// The slot among those of its address; none yet if the connection came through a proxy.
    address: Option<Arc<AddressSlot>>,
}

impl ConnectionSlot {
    /// Counts a connection that came through a proxy as one of its client's. False: the client has
    /// no slot left.
    pub(crate) fn count_for(&mut self, limits: &ConnectionLimits, client: IpAddr) -> bool {
        if self.address.is_none() {
            self.address = limits.address_slot(client).map(Arc::new);
        }
        self.address.is_some()
    }

    /// Notes that the connection is attached to a session.
    pub(crate) fn attached(&self) {
        if let Some(address) = &self.address {
            address.release_unattached();
        }
    }
}

/// The remote address of a request's connection: a client's, or that of a proxy in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// Accepts connections until `drain` is cancelled. Connections that are open then stay open until
/// `closing` is cancelled.
pub(crate) async fn serve(
    mut listener: impl Listener,
    router: Router,
    limits: ListenerLimits,
    slots: ConnectionSlots,
    tasks: TaskTracker,
    drain: CancellationToken,
    closing: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match slots.take(peer.ip()) {
                Ok(slot) => {
                    let router = router.clone();
                    let connection = connect(stream, peer, router, limits.clone(), slot);
                    let closing = closing.clone();
                    tasks.spawn(async move {
                        // Closing drops the connection; upgraded sockets live elsewhere.
                        closing.run_until_cancelled(connection).await;
                    });
                }
                Err(refusal) => {
                    tasks.spawn(refuse(stream, refusal));
                }
            },
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "accept.failed");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Serves one connection until it is closed or upgraded.
async fn connect(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: SocketAddr,
    router: Router,
    limits: ListenerLimits,
    slot: ConnectionSlot,
) {
    let stream = SharedStream::new(stream);
    let raw = stream.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(slot.clone());
        request.extensions_mut().insert(raw.clone());
        request.extensions_mut().insert(PeerAddress(peer));
        let router = router.clone();
        async move {
            let Ok(response) = router.oneshot(request).await;
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(limits.header_bytes_max)
        .max_headers(limits.headers_max)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        // Clients disappear and time out all the time.
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection.failed");
    }
}

async fn refuse(mut stream: impl AsyncWrite + Unpin, response: &[u8]) {
    let refusal = async {
        stream.write_all(response).await?;
        stream.shutdown().await
    };
    // The connection is closed in any case, so a failure to write the response changes nothing.
    drop(tokio::time::timeout(REFUSAL_TIMEOUT, refusal).await);
}

/// Whether the error concerns one connection that was closed before it was accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
