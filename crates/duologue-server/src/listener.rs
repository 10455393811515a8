//! The accept loop: own, because a server must close connections that send no request.
//!
//! `axum::serve` has no limit on the time a request's head may take, so that a few silent sockets
//! would stay for ever; hyper's own builder has one.
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
    gates::{AddressPlace, Gates},
};

/// How long to wait after the system refused a connection, so that a lack of file descriptors does
/// not become a busy loop.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// How long a connection that is over the limit may take to read its refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// What is sent to connections over the limit, before any request of theirs is read.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n\
content-length: 0\r\nconnection: close\r\n\r\n";

/// What is sent to connections from an address that has enough of them.
const ADDRESS_REFUSAL: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\n\
content-type: application/json\r\ncontent-length: 145\r\nconnection: close\r\n\r\n\
{\"error\":{\"code\":\"too_many_requests\",\"message\":\"too many connections from this address; try again \
later\",\"retryable\":true,\"retry_after_ms\":5000}}";

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection, and says where it comes from. Safe to cancel.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Tokens are small, and waiting to fill a packet would hold them back.
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

/// The places of connections, of which there are `connections_max`.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    all: usize,
    gates: Arc<Gates>,
}

impl Places {
    pub(crate) fn new(all: usize, gates: Arc<Gates>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(all)),
            all,
            gates,
        }
    }

    /// Finds a place for a connection, or else what it is told.
    fn place(&self, peer: IpAddr) -> Result<Place, &'static [u8]> {
        let permit = Arc::clone(&self.free).try_acquire_owned();
        let permit = permit.map_err(|_full| {
            tracing::warn!("connection.refused");
            REFUSAL
        })?;
        let address = if self.gates.is_proxy(peer) {
            None
        } else {
            let address = self.gates.admit(peer).ok_or_else(|| {
                tracing::debug!(%peer, "connection.refused_by_address");
                ADDRESS_REFUSAL
            })?;
            Some(Arc::new(address))
        };
        Ok(Place {
            _permit: Arc::new(permit),
            address,
        })
    }

    /// How many connections are open.
    pub(crate) fn taken(&self) -> usize {
        self.all - self.free.available_permits()
    }
}

/// A connection's place among `connections_max`, kept until the last holder drops it. A request
/// carries it as an extension, so that an upgraded socket keeps its place.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
    /// Its place among those of its address; none yet if it came through a proxy.
    address: Option<Arc<AddressPlace>>,
}

impl Place {
    /// Counts a connection that came through a proxy as one of its client's. False: that has enough.
    pub(crate) fn take_for(&mut self, gates: &Gates, client: IpAddr) -> bool {
        if self.address.is_none() {
            self.address = gates.admit(client).map(Arc::new);
        }
        self.address.is_some()
    }

    /// The connection is attached to a session.
    pub(crate) fn attached(&self) {
        if let Some(address) = &self.address {
            address.attached();
        }
    }
}

/// Who is at the other end of a request's connection: a client, or a proxy that it came through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Accepts connections until `drain` is cancelled. Those that are open then go on, and are told to
/// close when `closing` is cancelled.
pub(crate) async fn serve(
    mut listener: impl Listener,
    router: Router,
    limits: ListenerLimits,
    places: Places,
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
            Ok((stream, peer)) => match places.place(peer.ip()) {
                Ok(place) => {
                    let router = router.clone();
                    let connection = connect(stream, peer, router, limits.clone(), place);
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
            Err(error) if is_of_the_connection(&error) => {}
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
    place: Place,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(place.clone());
        request.extensions_mut().insert(Peer(peer));
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
        // Clients that vanish or time out are everyday business.
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection.failed");
    }
}

async fn refuse(mut stream: impl AsyncWrite + Unpin, why: &[u8]) {
    let refusal = async {
        stream.write_all(why).await?;
        stream.shutdown().await
    };
    // It is refused either way; whether it hears of it is its own affair.
    drop(tokio::time::timeout(REFUSAL_TIMEOUT, refusal).await);
}

/// Errors that concern one connection that was gone before it was accepted.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
