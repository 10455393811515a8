//! Conversations with a scripted server over real sockets.

use std::{io, time::Duration};

use backon::ExponentialBuilder;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
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
        "agent": "concierge", "last_seq": last_seq
    })
}

fn receipt(seq: u64, message: &Value) -> Value {
    json!({
        "type": "user_message", "seq": seq, "turn_id": "turn-1", "text": message["message"],
        "id": message["id"]
    })
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
        address: Address::new(&server, None, None, "s").unwrap(),
        token: Token::None,
        dialogue: Dialogue::new(Input::Piped, "run".into()),
        view: View::new(Colour::Off, Input::Piped),
        waits: Waits::new(
            ExponentialBuilder::new()
                .with_min_delay(Duration::from_millis(1))
                .with_max_times(3),
        ),
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
        address: Address::new(&address, None, None, "s").unwrap(),
        token: Token::None,
        dialogue: Dialogue::new(Input::Typed, "run".into()),
        view: View::new(Colour::Off, Input::Typed),
        waits: Waits::new(reconnect::waits()),
        lines,
        interrupts,
        output: &mut output,
    };
    let server = async {
        let mut peer = Peer::accept(&listener).await;
        peer.say(&[started(1)]).await;
        line.send(Ok("tell me a long story".into())).await.unwrap();
        let message = peer.hear().await;
        peer.say(&[receipt(2, &message), token(0, "Once ")]).await;
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
async fn a_lost_connection_is_resumed_and_nothing_is_said_twice() {
    let listener = listen().await;
    let server = async {
        let mut peer = Peer::accept(&listener).await;
        assert!(!peer.uri.contains("after="), "{}", peer.uri);
        peer.say(&[started(1)]).await;
        let message = peer.hear().await;
        peer.say(&[receipt(2, &message), token(0, "one ")]).await;
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
async fn a_message_that_the_server_will_never_take_is_not_sent_again() {
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

#[tokio::test]
async fn nobody_there_is_said_in_words_that_help() {
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
