//! What connections cost and how long they may be silent.

use std::time::Duration;

use duologue_integration::{DEADLINE, TestServer, process::ServerProcess, raw::Handshake};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Every shape of a request that never comes is closed by the server: silence, half a line, half a
/// head, and a kept-alive connection that asks for nothing more.
#[tokio::test]
async fn connections_that_send_no_whole_request_are_closed() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SERVER__HEADER_READ_TIMEOUT", "300ms")
        .start()
        .await;
    let shapes: [&[u8]; 4] = [
        b"",
        b"GET /heal",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ];
    for shape in shapes {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(shape).await.unwrap();
        let mut received = Vec::new();
        let closing = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut received));
        closing.await.expect("the server closes by itself").unwrap();
        let answered = shape.ends_with(b"\r\n\r\n");
        assert_eq!(received.starts_with(b"HTTP/1.1 200"), answered);
    }
    server.stop().await;
}

/// One byte at a time is as slow as silence: the limit is on the whole head.
#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SERVER__HEADER_READ_TIMEOUT", "300ms")
        .start()
        .await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let trickling = async {
        for byte in b"GET /healthz HTTP/1.1\r\nx: "
            .iter()
            .chain(std::iter::repeat(&b'x'))
        {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, trickling)
        .await
        .expect("the server cuts it off");
    server.stop().await;
}

/// A peer that answers no ping is dropped with its own code, and its session notes why.
#[tokio::test]
async fn a_dead_peer_is_noticed_within_the_ping_limits() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SOCKET__PING_INTERVAL", "200ms")
        .set("DUOLOGUE_SOCKET__PONG_TIMEOUT", "100ms")
        .start()
        .await;
    let mut alive = server.connect("dead", "anonymous").await;
    alive.until("client_connected").await;
    // Reads nothing and answers nothing until the close frame.
    let mut dead = Handshake::new(&server, "dead").await;
    let gone = alive.until("client_disconnected").await;
    assert_eq!(gone["reason"], "unresponsive");
    assert_eq!(dead.close_code().await, 4007);
    assert_eq!(
        alive.ask("and I am still here").await.done["finish_reason"],
        "stop"
    );
    server.stop().await;
}

/// Over the limit, connections are refused at once with a time to come back; a place that is given
/// up can be taken again.
#[tokio::test]
async fn connections_over_the_limit_are_refused_and_places_are_given_back() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SERVER__CONNECTIONS_MAX", "2")
        .start()
        .await;
    let one = server.connect("a", "alice").await;
    let _two = server.connect("b", "bob").await;
    let mut refused = TcpStream::connect(server.address()).await.unwrap();
    let mut answer = String::new();
    refused.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: "),
        "{answer}"
    );
    one.close(1000).await;
    let coming_back = async {
        let url = server.socket_url("c", "");
        while duologue_integration::Client::try_open(&url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, coming_back)
        .await
        .expect("the place is free again");
    server.stop().await;
}

/// An idle connection costs tens of KiB, session task included, not hundreds.
///
/// Counted as the growth of the server process's resident memory over 400 idle sockets, each with a
/// session of its own.
#[tokio::test]
async fn an_idle_connection_costs_tens_of_kib() {
    const CONNECTIONS: u64 = 400;
    let server = ServerProcess::start().await;
    let warm = Handshake::at(server.address(), "warm", "alice").await;
    let before = server.resident_kib();
    let mut sockets = vec![warm];
    for number in 0..CONNECTIONS {
        sockets.push(Handshake::at(server.address(), &format!("idle-{number}"), "alice").await);
    }
    let each = server.resident_kib().saturating_sub(before) / CONNECTIONS;
    assert!(each < 64, "an idle connection costs {each} KiB");
    server.kill().await;
}
