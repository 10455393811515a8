//! Conversations with a scripted server over real sockets.

use std::{io, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};

use super::*;

/// The other side of a conversation.
struct Peer {
    socket: WebSocketStream<TcpStream>,
    uri: String,
}

impl Peer {
    #[expect(
        clippy::result_large_err,
        reason = "the type of the callback is the library's"
    )]
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut uri = String::new();
        let note_uri = |request: &Request, response: Response| {
            uri = request.uri().to_string();
            Ok(response)
        };
        let socket = accept_hdr_async(stream, note_uri).await.unwrap();
        Self { socket, uri }
    }

    async fn say(&mut self, frames: &[Value]) {
        for frame in frames {
            let message = Message::text(frame.to_string());
            self.socket.send(message).await.unwrap();
        }
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The close code; answered, as a server does.
    async fn hear_close(mut self) -> u16 {
        let message = self.socket.next().await.unwrap().unwrap();
        let Message::Close(Some(close)) = message else {
            panic!("unexpected {message:?}");
        };
        while self.socket.next().await.is_some() {}
        close.code.into()
    }
}

fn started(last_seq: u64) -> Value {
    json!({
        "type": "session_started", "seq": last_seq, "session_id": "s", "user_id": "ann",
        "agent": "concierge", "resumed": false, "last_seq": last_seq
    })
}

fn receipt(seq: u64, message: &Value) -> Value {
    json!({
        "type": "user_message", "seq": seq, "turn_id": "turn-1", "text": message["message"],
        "id": message["id"]
    })
}

fn start() -> Value {
    json!({"type": "start", "turn_id": "turn-1", "role": "assistant"})
}

fn token(index: u64, token: &str) -> Value {
    json!({"type": "token", "turn_id": "turn-1", "index": index, "token": token})
}

fn done(seq: u64, text: &str) -> Value {
    json!({
        "type": "done", "seq": seq, "turn_id": "turn-1", "text": text, "finish_reason": "stop"
    })
}

/// Talks to `listener` from piped input, and returns what was written and how it ended.
async fn talk(listener: &TcpListener, input: &'static str) -> (String, Result<(), ChatError>) {
    let server = listener.local_addr().unwrap().to_string();
    let (_interrupt, interrupts) = mpsc::channel(1);
    let mut output = Vec::new();
    let conversation = Conversation {
        client: client(Address::new(&server, None, None, "s").unwrap(), Token::None),
        dialogue: Dialogue::new(Input::Piped),
        view: View::new(Colour::Off, Input::Piped),
        lines: input::lines(input.as_bytes()).unwrap(),
        interrupts,
        output: &mut output,
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), conversation.run());
    let outcome = outcome.await.expect("the conversation ends");
    (String::from_utf8(output).unwrap(), outcome)
}

/// Ctrl-C stops the answer first; pressed again when nothing runs, it leaves.
#[tokio::test]
async fn ctrl_c_stops_a_running_answer_and_then_leaves() {
    let listener = listen().await;
    let address = listener.local_addr().unwrap().to_string();
    let (line, lines) = mpsc::channel(1);
    let (interrupt, interrupts) = mpsc::channel(1);
    let mut output = Vec::new();
    let conversation = Conversation {
        client: client(
            Address::new(&address, None, None, "s").unwrap(),
            Token::None,
        ),
        dialogue: Dialogue::new(Input::Typed),
        view: View::new(Colour::Off, Input::Typed),
        lines,
        interrupts,
        output: &mut output,
    };
    let server = async {
        let mut peer = Peer::accept(&listener).await;
        peer.say(&[started(1)]).await;
        line.send(Ok("tell me a long story".into())).await.unwrap();
        let message = peer.hear().await;
        peer.say(&[receipt(2, &message), start(), token(0, "Once ")])
            .await;
        interrupt.send(()).await.unwrap();
        assert_eq!(peer.hear().await, json!({"type": "cancel"}));
        let mut cancelled = done(3, "Once ");
        cancelled["finish_reason"] = "cancelled".into();
        peer.say(&[cancelled]).await;
        interrupt.send(()).await.unwrap();
        assert_eq!(peer.hear_close().await, 1000);
    };
    let (outcome, ()) = tokio::join!(conversation.run(), server);
    outcome.unwrap();
    let text = String::from_utf8(output).unwrap();
    assert!(text.contains("stopping"), "{text}");
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn a_piped_question_is_answered_before_the_session_is_closed() {
    let listener = listen().await;
    let server = async {
        let mut peer = Peer::accept(&listener).await;
        peer.say(&[started(1)]).await;
        let message = peer.hear().await;
        assert_eq!(message["message"], "hello");
        peer.say(&[
            receipt(2, &message),
            start(),
            token(0, "Hi "),
            token(1, "there."),
            done(3, "Hi there."),
        ])
        .await;
        assert_eq!(peer.hear_close().await, 1000);
    };
    let ((text, outcome), ()) = tokio::join!(talk(&listener, "hello\n"), server);
    outcome.unwrap();
    assert_eq!(text, "Session s, as ann, with concierge.\nHi there.\n");
}

/// The connection breaks in the middle of an answer; the rest is read from where it broke.
#[tokio::test]
async fn a_lost_connection_is_resumed_and_no_text_is_shown_twice() {
    let listener = listen().await;
    let server = async {
        let mut peer = Peer::accept(&listener).await;
        assert!(!peer.uri.contains("after="), "{}", peer.uri);
        peer.say(&[started(1)]).await;
        let message = peer.hear().await;
        peer.say(&[receipt(2, &message), start(), token(0, "one ")])
            .await;
        drop(peer);

        let mut peer = Peer::accept(&listener).await;
        assert!(peer.uri.ends_with("after=2"), "{}", peer.uri);
        peer.say(&[
            json!({"type": "session_started", "session_id": "s", "resumed": true, "last_seq": 2}),
            json!({"type": "replayed", "seq": 2}),
            json!({"type": "draft", "turn_id": "turn-1", "text": "one two ", "next_index": 2}),
            token(2, "three"),
            done(3, "one two three"),
        ])
        .await;
        assert_eq!(peer.hear_close().await, 1000);
    };
    let ((text, outcome), ()) = tokio::join!(talk(&listener, "count\n"), server);
    outcome.unwrap();
    assert!(
        text.contains("connection was lost; connecting again"),
        "{text}"
    );
    assert!(text.ends_with("two three\n"), "{text}");
    assert_eq!(text.matches("one").count(), 1, "{text}");
}

#[tokio::test]
async fn a_message_that_is_too_long_is_not_sent_again() {
    let listener = listen().await;
    let server = async {
        let mut peer = Peer::accept(&listener).await;
        peer.say(&[started(1)]).await;
        peer.hear().await;
        let close = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: 1009.into(),
            reason: "".into(),
        };
        peer.socket.close(Some(close)).await.unwrap();
        while peer.socket.next().await.is_some() {}
    };
    let ((_, outcome), ()) = tokio::join!(talk(&listener, "too long\n"), server);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("larger than the server allows"), "{error}");
}

/// The server replaces connections of a certain age, and is not restarting.
#[tokio::test]
async fn a_connection_of_maximum_age_is_not_called_a_restart() {
    let listener = listen().await;
    let server = async {
        let mut peer = Peer::accept(&listener).await;
        peer.say(&[
            started(1),
            json!({"type": "goaway", "reason": "age", "reconnect_after_ms": 0}),
        ])
        .await;
        let close = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: 4006.into(),
            reason: "".into(),
        };
        // The message may have been sent already.
        peer.socket.close(Some(close)).await.unwrap();
        while let Some(Ok(_)) = peer.socket.next().await {}

        let mut peer = Peer::accept(&listener).await;
        peer.say(&[
            json!({"type": "session_started", "session_id": "s", "resumed": true, "last_seq": 1}),
            json!({"type": "replayed", "seq": 1}),
        ])
        .await;
        let message = peer.hear().await;
        peer.say(&[receipt(2, &message), done(3, "Hi.")]).await;
        assert_eq!(peer.hear_close().await, 1000);
    };
    let ((text, outcome), ()) = tokio::join!(talk(&listener, "hello\n"), server);
    outcome.unwrap();
    assert!(text.contains("maximum age; connecting again"), "{text}");
    assert!(!text.contains("restart"), "{text}");
}

/// What a server refuses is explained, with what to do, and never printed as JSON.
#[tokio::test]
async fn a_refused_connection_is_reported_with_what_to_do() {
    let not_found = r#"{"error":{"code":"session_not_found","message":"there is no such session","retryable":false}}"#;
    for (status, body, expected) in [
        (
            "404 Not Found",
            not_found,
            "there is no such session (HTTP 404); choose another session with --session",
        ),
        ("404 Not Found", "<html>", "there is no Duologue server at"),
        (
            "401 Unauthorized",
            r#"{"error":{"code":"unauthorized","message":"the token is wrong","retryable":false}}"#,
            "the token is wrong (HTTP 401); set DUOLOGUE_TOKEN",
        ),
    ] {
        let listener = listen().await;
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert_ne!(stream.read(&mut head).await.unwrap(), 0);
            let length = body.len();
            let response = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(response.as_bytes()).await.unwrap();
        };
        let ((_, outcome), ()) = tokio::join!(talk(&listener, "hello\n"), server);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('{'), "{error}");
    }
}

#[tokio::test]
async fn an_unreachable_server_is_reported_with_what_to_do() {
    let listener = listen().await;
    let server = listener.local_addr().unwrap();
    drop(listener);
    let args = ChatArgs {
        url: server.to_string(),
        session: None,
        user: None,
        token_file: None,
    };
    let terminal = Terminal {
        input: Input::Piped,
        colour: Colour::Off,
    };
    let outcome = run(
        args,
        Token::None,
        terminal,
        "hello\n".as_bytes(),
        io::sink(),
    )
    .await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
    assert!(error.contains("duologue serve"), "{error}");
}
