//! What connections cost and how long they may be silent.

use std::time::Duration;

use duologue_integration::{
    Client, DEADLINE, TestServer, process::ServerProcess, raw::Handshake, wire::Wire,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
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

/// The network loses a client without a word to either side. The server notices by itself, and the client
/// gets on another way what it has missed.
#[tokio::test]
async fn a_client_behind_a_cut_wire_is_noticed_and_may_resume() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SOCKET__PING_INTERVAL", "200ms")
        .set("DUOLOGUE_SOCKET__PONG_TIMEOUT", "200ms")
        .start()
        .await;
    let wire = Wire::start(server.address(), DEADLINE).await;
    let url = format!("ws://{}/ws/session/cut?user_id=alice", wire.address());
    let mut far = Client::open(&url).await;
    let mut near = server.connect("cut", "alice").await;
    far.ask("can you hear me?").await;
    near.answer().await;
    let last_seq = far.last_seq;
    wire.cut();
    let gone = near.until("client_disconnected").await;
    assert_eq!(gone["reason"], "unresponsive");
    near.ask("the other one is gone").await;

    let mut back = server.resume("cut", "alice", last_seq).await;
    back.last_seq = last_seq;
    back.until("replayed").await;
    let said = back
        .seen
        .iter()
        .filter(|frame| frame["type"] == "user_message");
    let said: Vec<_> = said.map(|frame| &frame["text"]).collect();
    assert_eq!(said, ["the other one is gone"]);
    server.stop().await;
}

/// Load balancers drop connections on which nothing is said. Pings are enough to be said.
#[tokio::test]
async fn pings_keep_a_silent_connection_alive_behind_a_proxy_that_drops_those() {
    const PINGS: usize = 10;
    let server = TestServer::builder()
        .set("DUOLOGUE_SOCKET__PING_INTERVAL", "100ms")
        .start()
        .await;
    let wire = Wire::start(server.address(), Duration::from_millis(800)).await;
    let url = format!("ws://{}/ws/session/idle?user_id=alice", wire.address());
    let mut client = Client::open(&url).await;
    while client.receive().await["type"] != "client_connected" {}
    tokio::select! {
        () = wire.until_passed(PINGS) => {}
        frame = client.try_receive() => panic!("nothing was to be said, but {frame:?}"),
    }
    assert_eq!(
        client.ask("still there?").await.done["finish_reason"],
        "stop"
    );
    server.stop().await;
}

/// With no file descriptor left, newcomers wait outside, those inside are served, and nothing has to be
/// restarted when there are some again.
#[tokio::test]
async fn without_file_descriptors_those_inside_are_served_and_newcomers_later() {
    const SPARE: usize = 10;
    let settings = [("DUOLOGUE_SERVER__HEADER_READ_TIMEOUT", "10m")];
    let server = ServerProcess::start_with(&settings).await;
    let url = server.socket_url("inside", "?user_id=alice");
    let mut client = Client::open(&url).await;
    client.ask("hello").await;
    let open = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.id()));
        open.expect("the process is ours").count()
    };
    let limit = open() + SPARE;
    let process = server.id().to_string();
    let limited = Command::new("prlimit")
        .args(["--pid", &process, &format!("--nofile={limit}:")])
        .status()
        .await;
    assert!(limited.expect("prlimit is there").success());
    let mut silent = Vec::new();
    for _ in 0..3 * SPARE {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    let exhausted = async {
        while open() < limit {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, exhausted)
        .await
        .expect("the server takes what it can");
    for _ in 0..5 {
        assert_eq!(client.ask("and now?").await.done["finish_reason"], "stop");
    }
    drop(silent);
    let url = server.socket_url("outside", "?user_id=bob");
    let mut newcomer = Client::open(&url).await;
    assert_eq!(newcomer.ask("at last").await.done["finish_reason"], "stop");
    server.kill().await;
}

/// A close frame is answered, so that the client's library does not report a broken connection.
#[tokio::test]
async fn a_goodbye_is_answered_with_the_same_code() {
    let server = TestServer::start().await;
    for code in [1000_u16, 1001, 4321] {
        let mut leaving = Handshake::new(&server, &format!("bye-{code}")).await;
        // A masked close frame with a mask of zeros.
        let mut frame = vec![0x88, 0x82, 0, 0, 0, 0];
        frame.extend(code.to_be_bytes());
        leaving.stream.write_all(&frame).await.unwrap();
        assert_eq!(leaving.close_code().await, code);
    }
    server.stop().await;
}
