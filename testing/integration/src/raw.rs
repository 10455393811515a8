//! A WebSocket by hand, for what no client library would send.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::TestServer;

/// Sends bytes that need not be a request, and returns all that comes back before the server closes.
///
/// What is sent should ask for that (`connection: close`), or the server waits for another request.
pub async fn exchange(server: SocketAddr, request: &[u8]) -> String {
    let exchanging = async {
        let mut stream = TcpStream::connect(server)
            .await
            .expect("the server listens");
        let mut answer = Vec::new();
        // A server that has seen enough closes, and the system then takes back what was not read.
        if stream.write_all(request).await.is_ok() {
            let _until_closed = stream.read_to_end(&mut answer).await;
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(crate::DEADLINE, exchanging)
        .await
        .expect("the server answers in time")
}

/// An upgraded connection.
#[derive(Debug)]
pub struct Handshake {
    /// What follows the handshake, unread.
    pub stream: TcpStream,
}

impl Handshake {
    /// Upgrades a connection to a session of `anonymous`.
    pub async fn new(server: &TestServer, session: &str) -> Self {
        Self::new_for(server, session, "anonymous").await
    }

    /// Upgrades a connection to a user's session.
    pub async fn new_for(server: &TestServer, session: &str, user: &str) -> Self {
        Self::at(server.address(), session, user).await
    }

    /// Upgrades a connection to a user's session on any server.
    pub async fn at(server: SocketAddr, session: &str, user: &str) -> Self {
        let stream = TcpStream::connect(server)
            .await
            .expect("the server listens");
        Self::upgrade(stream, server, session, user).await
    }

    /// The same for a client that can take in very little at a time.
    pub async fn at_with_small_buffer(server: SocketAddr, session: &str, user: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket
            .set_recv_buffer_size(4096)
            .expect("the size is allowed");
        let stream = socket.connect(server).await.expect("the server listens");
        Self::upgrade(stream, server, session, user).await
    }

    async fn upgrade(mut stream: TcpStream, server: SocketAddr, session: &str, user: &str) -> Self {
        let request = format!(
            "GET /ws/session/{session}?user_id={user} HTTP/1.1\r\nhost: {server}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .await
            .expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the server answers"));
        }
        assert!(
            head.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&head)
        );
        Self { stream }
    }

    /// Reads frames until a close frame, and returns its code.
    pub async fn close_code(&mut self) -> u16 {
        let reading = async {
            loop {
                let first = self
                    .stream
                    .read_u8()
                    .await
                    .expect("a close frame comes first");
                let length = match self.stream.read_u8().await.expect("a frame has a length") {
                    126 => u64::from(self.stream.read_u16().await.expect("a frame has a length")),
                    127 => self.stream.read_u64().await.expect("a frame has a length"),
                    short => short.into(),
                };
                let mut payload = vec![0; usize::try_from(length).expect("frames are small")];
                self.stream
                    .read_exact(&mut payload)
                    .await
                    .expect("a frame is complete");
                if first & 0x0f == 8 {
                    return u16::from_be_bytes([payload[0], payload[1]]);
                }
            }
        };
        tokio::time::timeout(crate::DEADLINE, reading)
            .await
            .expect("the server closes in time")
    }
}
