//! The driver against a scripted server over streams in memory, in paused time.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        http::header::AUTHORIZATION,
        protocol::CloseFrame,
    },
};

use crate::{
    Address, Client, ClientError, ClientOptions, Loss, Opening, SessionOptions, TokenSource,
    Transport, Update,
};

/// Hands the other end of each stream to the test.
struct Memory(mpsc::Sender<DuplexStream>);

impl Transport for Memory {
    type Stream = DuplexStream;

    fn open(&mut self, _server: String) -> Opening<DuplexStream> {
        let peers = self.0.clone();
        Box::pin(async move {
            let (ours, theirs) = duplex(64 * 1024);
            let sent = peers.send(theirs).await;
            sent.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(ours)
        })
    }
}

/// The server's end of a connection.
struct Peer {
    socket: WebSocketStream<DuplexStream>,
    uri: String,
    authorization: Option<String>,
}

impl Peer {
    #[expect(
        clippy::result_large_err,
        reason = "the type of the callback is the library's"
    )]
    async fn accept(peers: &mut mpsc::Receiver<DuplexStream>) -> Self {
        let stream = peers.recv().await.unwrap();
        let (mut uri, mut authorization) = (String::new(), None);
        let note = |request: &Request, response: Response| {
            uri = request.uri().to_string();
            let header = request.headers().get(AUTHORIZATION);
            authorization = header.map(|value| value.to_str().unwrap().to_owned());
            Ok(response)
        };
        let socket = accept_hdr_async(stream, note).await.unwrap();
        Self {
            socket,
            uri,
            authorization,
        }
    }

    async fn send(&mut self, frame: Value) {
        let message = Message::text(frame.to_string());
        self.socket.send(message).await.unwrap();
    }

    async fn receive(&mut self) -> Value {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    async fn close(mut self, code: u16) {
        let close = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        self.socket.close(Some(close)).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

fn client() -> (Client<Memory>, mpsc::Receiver<DuplexStream>) {
    let (peer, peers) = mpsc::channel(1);
    let address = Address::new("server", None, None, "s").unwrap();
    let options = ClientOptions {
        session: SessionOptions {
            id_prefix: "run".into(),
            rng: Rng::with_seed(1),
            ..SessionOptions::default()
        },
        ..ClientOptions::default()
    };
    (Client::over(Memory(peer), address, options), peers)
}

fn started() -> Value {
    json!({"type": "session_started", "seq": 1, "resumed": false, "last_seq": 1, "log_id": "l"})
}

fn resumed(last_seq: u64) -> Value {
    json!({"type": "session_started", "resumed": true, "last_seq": last_seq, "log_id": "l"})
}

async fn frame<T: Transport>(client: &mut Client<T>, kind: &str) -> Value {
    loop {
        match client.next().await.unwrap().unwrap() {
            Update::Frame(frame) if frame.kind() == kind => return frame.json,
            Update::Frame(_) => {}
            other => panic!("{other:?} before {kind}"),
        }
    }
}

/// The connection breaks after the message was sent: the client resumes, and sends it again.
#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_resumed_and_the_message_sent_again() {
    let (mut client, mut peers) = client();
    let id = client.send("hello");
    let server = async {
        let mut peer = Peer::accept(&mut peers).await;
        assert!(!peer.uri.contains("after="), "{}", peer.uri);
        peer.send(started()).await;
        let sent = peer.receive().await;
        drop(peer);

        let mut peer = Peer::accept(&mut peers).await;
        assert!(peer.uri.ends_with("after=1&log_id=l"), "{}", peer.uri);
        peer.send(resumed(1)).await;
        peer.send(json!({"type": "replayed", "seq": 1})).await;
        assert_eq!(peer.receive().await, sent);
        peer.send(json!({"type": "user_message", "seq": 2, "id": sent["id"], "text": "hello"}))
            .await;
        peer.close(1000).await;
    };
    let conversation = async {
        frame(&mut client, "session_started").await;
        let update = client.next().await.unwrap();
        let Some(Update::Disconnected {
            loss: Loss::Broken, ..
        }) = update
        else {
            panic!("{update:?}")
        };
        assert_eq!(frame(&mut client, "user_message").await["id"], id.as_str());
        assert!(client.next().await.unwrap().is_none());
        assert!(client.session().is_all_acknowledged());
    };
    tokio::join!(server, conversation);
}

/// The server leaves out an event. The client does not go on after the gap; it asks for what is missing.
#[tokio::test(start_paused = true)]
async fn a_gap_is_filled_over_another_connection() {
    let (mut client, mut peers) = client();
    let server = async {
        let mut peer = Peer::accept(&mut peers).await;
        peer.send(started()).await;
        peer.send(json!({"type": "x", "seq": 3})).await;

        let mut again = Peer::accept(&mut peers).await;
        assert!(again.uri.contains("after=1&"), "{}", again.uri);
        again.send(resumed(3)).await;
        again.send(json!({"type": "x", "seq": 2})).await;
        again.send(json!({"type": "x", "seq": 3})).await;
        again.close(1000).await;
    };
    let conversation = async {
        frame(&mut client, "session_started").await;
        let update = client.next().await.unwrap();
        let Some(Update::Disconnected {
            loss: Loss::Violation(_),
            ..
        }) = update
        else {
            panic!("{update:?}")
        };
        assert_eq!(frame(&mut client, "x").await["seq"], 2);
        assert_eq!(frame(&mut client, "x").await["seq"], 3);
        assert!(client.next().await.unwrap().is_none());
    };
    tokio::join!(server, conversation);
}

/// After `unknown_position` the client forgets the session and replays it from the start.
#[tokio::test(start_paused = true)]
async fn a_restored_log_is_replayed_from_its_start() {
    let (mut client, mut peers) = client();
    let server = async {
        let mut peer = Peer::accept(&mut peers).await;
        peer.send(started()).await;
        peer.send(json!({"type": "x", "seq": 2})).await;
        drop(peer);
        let mut peer = Peer::accept(&mut peers).await;
        peer.send(resumed(1)).await;
        peer.send(json!({"type": "error", "code": "unknown_position", "message": ""}))
            .await;
        let mut peer = Peer::accept(&mut peers).await;
        assert!(peer.uri.ends_with("after=0"), "{}", peer.uri);
        peer.send(resumed(1)).await;
        peer.send(json!({"type": "y", "seq": 1})).await;
        peer.close(1000).await;
    };
    let conversation = async {
        frame(&mut client, "x").await;
        client.next().await.unwrap();
        frame(&mut client, "session_started").await;
        let update = client.next().await.unwrap();
        assert!(matches!(update, Some(Update::HistoryLost)), "{update:?}");
        assert_eq!(frame(&mut client, "y").await["seq"], 1);
        assert!(client.next().await.unwrap().is_none());
    };
    tokio::join!(server, conversation);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_pinged_and_then_given_up() {
    let (mut client, mut peers) = client();
    let server = async {
        let mut peer = Peer::accept(&mut peers).await;
        peer.send(started()).await;
        // It reads no more, so it answers no ping.
        peer
    };
    let conversation = async {
        frame(&mut client, "session_started").await;
        let begun = Instant::now();
        let update = client.next().await.unwrap();
        let Some(Update::Disconnected {
            loss: Loss::Silent, ..
        }) = update
        else {
            panic!("{update:?}")
        };
        assert_eq!(begun.elapsed(), Duration::from_secs(40));
    };
    let (_peer, ()) = tokio::join!(server, conversation);
}

/// A caller that does other things for longer than both waits must not lose a connection that works: the
/// server was not asked in that time.
#[tokio::test(start_paused = true)]
async fn a_client_that_was_not_polled_for_long_asks_the_server_first() {
    let (mut client, mut peers) = client();
    let server = async {
        let mut peer = Peer::accept(&mut peers).await;
        peer.send(started()).await;
        // Answers pings until the client has gone.
        while let Some(Ok(_)) = peer.socket.next().await {}
    };
    let conversation = async {
        frame(&mut client, "session_started").await;
        tokio::time::sleep(Duration::from_mins(5)).await;
        let waiting = tokio::time::timeout(Duration::from_mins(5), client.next());
        assert!(waiting.await.is_err(), "the connection stays");
        client.disconnect();
    };
    tokio::join!(server, conversation);
}

#[tokio::test(start_paused = true)]
async fn a_refused_handshake_says_why() {
    let (mut client, mut peers) = client();
    let server = async {
        let mut stream = peers.recv().await.unwrap();
        let mut head = [0; 1024];
        assert_ne!(stream.read(&mut head).await.unwrap(), 0);
        let body = r#"{"error":{"code":"session_not_found","message":"no such session","retryable":false}}"#;
        let length = body.len();
        let response = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(response.as_bytes()).await.unwrap();
        stream
    };
    let (_stream, refused) = tokio::join!(server, client.next());
    let Err(ClientError::GaveUp(Loss::Refused(refusal))) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        (refusal.status, refusal.code.as_deref()),
        (404, Some("session_not_found"))
    );
}

/// Tokens that somebody replaces.
#[derive(Clone)]
struct Tokens(Arc<Mutex<VecDeque<&'static str>>>);

impl TokenSource for Tokens {
    fn token(&mut self) -> io::Result<Option<SecretString>> {
        let mut tokens = self.0.lock().unwrap();
        let token = if tokens.len() > 1 {
            tokens.pop_front()
        } else {
            tokens.front().copied()
        };
        Ok(token.map(Into::into))
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_is_sent_when_the_old_one_expires_and_another_is_needed_after_4401() {
    let (client, mut peers) = client();
    let tokens = Tokens(Arc::new(Mutex::new(["a", "b", "c", "c"].into())));
    let mut client = client.with_tokens(tokens);
    let server = async {
        let mut peer = Peer::accept(&mut peers).await;
        assert_eq!(peer.authorization.as_deref(), Some("Bearer a"));
        peer.send(started()).await;
        peer.send(json!({"type": "auth_expiring"})).await;
        assert_eq!(peer.receive().await, json!({"type": "auth", "token": "b"}));
        peer.close(4401).await;
        let peer = Peer::accept(&mut peers).await;
        assert_eq!(peer.authorization.as_deref(), Some("Bearer c"));
        peer.close(4401).await;
    };
    let conversation = async {
        frame(&mut client, "auth_expiring").await;
        let update = client.next().await.unwrap();
        assert!(
            matches!(update, Some(Update::Disconnected { .. })),
            "{update:?}"
        );
        let over = client.next().await;
        let Err(ClientError::GaveUp(Loss::Closed { code: 4401, .. })) = over else {
            panic!("{over:?}")
        };
    };
    tokio::join!(server, conversation);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_requires_a_token_of_a_client_without_is_left() {
    let (mut client, mut peers) = client();
    let server = async {
        let mut peer = Peer::accept(&mut peers).await;
        peer.send(json!({"type": "auth_required", "timeout_ms": 1000}))
            .await;
        peer
    };
    let (_peer, over) = tokio::join!(server, client.next());
    assert!(
        matches!(over, Err(ClientError::GaveUp(Loss::TokenRequired))),
        "{over:?}"
    );
}

/// Other futures may win a race against `next` again and again.
#[tokio::test(start_paused = true)]
async fn next_can_be_dropped_at_any_time() {
    let (mut client, mut peers) = client();
    client.send("hello");
    let server = async {
        let mut peer = Peer::accept(&mut peers).await;
        peer.send(started()).await;
        let sent = peer.receive().await;
        for seq in 2..100 {
            peer.send(json!({"type": "x", "seq": seq})).await;
            tokio::task::yield_now().await;
        }
        peer.send(json!({"type": "user_message", "seq": 100, "id": sent["id"]}))
            .await;
        peer.close(1000).await;
    };
    let conversation = async {
        let mut events = 0;
        loop {
            let update = tokio::select! {
                biased;
                update = client.next() => update.unwrap(),
                () = tokio::task::yield_now() => continue,
            };
            match update {
                Some(Update::Frame(_)) => events += 1,
                Some(other) => panic!("{other:?}"),
                None => return events,
            }
        }
    };
    let ((), events) = tokio::join!(server, conversation);
    assert_eq!(events, 100);
    assert!(client.session().is_all_acknowledged());
}

#[tokio::test(start_paused = true)]
async fn leaving_closes_with_1000_and_delivers_what_still_comes() {
    let (mut client, mut peers) = client();
    let server = async {
        let mut peer = Peer::accept(&mut peers).await;
        peer.send(started()).await;
        let message = peer.socket.next().await.unwrap().unwrap();
        let Message::Close(Some(close)) = message else {
            panic!("{message:?}")
        };
        assert_eq!(u16::from(close.code), 1000);
        while peer.socket.next().await.is_some() {}
    };
    let conversation = async {
        frame(&mut client, "session_started").await;
        client.leave();
        assert!(client.next().await.unwrap().is_none());
    };
    tokio::join!(server, conversation);
}

/// The server says how much it accepts. A larger message is returned to the caller before it is sent, the
/// one that fits is sent, whether they were given before the limit was known or after.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_big_is_returned_and_not_sent() {
    let (mut client, mut peers) = client();
    // With its quotes escaped, the text alone would fit.
    let early = client.send("\"".repeat(60));
    let fits = client.send("hello");
    let server = async {
        let mut peer = Peer::accept(&mut peers).await;
        let mut first = started();
        first["message_bytes_max"] = 120.into();
        peer.send(first).await;
        let sent = peer.receive().await;
        assert_eq!(sent["id"], fits.as_str());
        peer.send(json!({"type": "user_message", "seq": 2, "id": sent["id"]}))
            .await;
        peer.close(1000).await;
    };
    let conversation = async {
        frame(&mut client, "session_started").await;
        let late = client.send("x".repeat(120));
        for id in [early, late] {
            let update = client.next().await.unwrap();
            let Some(Update::TooBig(error)) = update else {
                panic!("{update:?}")
            };
            assert_eq!((error.id, error.bytes_max), (id, 120));
            assert!(error.bytes > 120);
        }
        frame(&mut client, "user_message").await;
        assert!(client.next().await.unwrap().is_none());
    };
    tokio::join!(server, conversation);
}
