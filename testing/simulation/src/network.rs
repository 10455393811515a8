//! The simulated network, as the server's accept loop and the clients see it.

use std::{io, net::SocketAddr};

use duologue_client::{Opening, Transport};
use duologue_server::listener::Listener;
use turmoil::net::{TcpListener, TcpStream};

/// Where all servers listen.
pub(crate) const PORT: u16 = 8000;

/// A listener on a simulated host.
pub(crate) struct SimulatedListener(TcpListener);

impl SimulatedListener {
    /// Must be called on a simulated host.
    pub(crate) async fn bind() -> io::Result<Self> {
        TcpListener::bind(("0.0.0.0", PORT)).await.map(Self)
    }
}

impl Listener for SimulatedListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// Connects to simulated hosts. Must be used on one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimulatedTransport;

impl Transport for SimulatedTransport {
    type Stream = TcpStream;

    fn open(&mut self, server: String) -> Opening<TcpStream> {
        Box::pin(async move {
            let (host, _port) = server.split_once(':').unwrap_or((&server, ""));
            TcpStream::connect((host, PORT)).await
        })
    }
}
