//! A bare relay on axum, to compare with: a message in, the model's tokens out, and a summary at the end.
//!
//! It sends the frames that a client needs, and checks, limits and resumes nothing. With a database it also
//! stores what users and assistants said.

mod answer;
mod rows;

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::{
        Path, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::any,
};
use futures_util::SinkExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

use self::{
    answer::{ChatMessage, Model},
    rows::{Role, Rows},
};

#[derive(Clone, Debug)]
struct Relay {
    model: Arc<Model>,
    rows: Option<Rows>,
}

/// Serves until the process is killed, and prints its address first.
#[expect(clippy::print_stdout, reason = "the driver reads the address")]
pub(crate) async fn serve(upstream: &str, database: Option<&str>) -> Result<()> {
    let mut tasks = JoinSet::new();
    let rows = match database {
        Some(url) => Some(Rows::open(url, &mut tasks).await?),
        None => None,
    };
    let relay = Relay {
        model: Arc::new(Model::new(upstream)?),
        rows,
    };
    let routes = Router::new()
        .route("/ws/session/{session}", any(upgrade))
        .with_state(relay);
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(
        axum::serve::ListenerExt::tap_io(listener, |stream| {
            let _ = stream.set_nodelay(true);
        }),
        routes,
    )
    .await?;
    Ok(())
}

async fn upgrade(
    upgrade: WebSocketUpgrade,
    Path(session): Path<String>,
    State(relay): State<Relay>,
) -> Response {
    // As Duologue has it; by default it is 128 KiB per connection.
    let upgrade = upgrade.read_buffer_size(4096);
    upgrade.on_upgrade(async move |socket| {
        // The client sees how its connection ends.
        let _ = Conversation::new(relay, session, socket).run().await;
    })
}

#[derive(Deserialize)]
struct ClientFrame {
    message: String,
    id: Option<String>,
}

#[derive(Serialize)]
struct TokenFrame<'a> {
    r#type: &'static str,
    turn_id: &'a str,
    index: u32,
    token: &'a str,
}

#[derive(Serialize)]
struct DoneFrame<'a> {
    r#type: &'static str,
    turn_id: &'a str,
    text: &'a str,
    finish_reason: &'static str,
}

struct Conversation {
    relay: Relay,
    session: String,
    socket: WebSocket,
    messages: Vec<ChatMessage>,
    turns: u32,
}

impl Conversation {
    fn new(relay: Relay, session: String, socket: WebSocket) -> Self {
        let messages = vec![ChatMessage::new(
            "system",
            "You are an assistant. Answer briefly.".to_owned(),
        )];
        Self {
            relay,
            session,
            socket,
            messages,
            turns: 0,
        }
    }

    async fn run(mut self) -> Result<()> {
        let started = json!({ "type": "session_started", "session_id": self.session });
        self.send(started.to_string()).await?;
        while let Some(Ok(message)) = self.socket.recv().await {
            match message {
                Message::Text(text) => self.turn(&text).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        self.summarize().await
    }

    async fn turn(&mut self, frame: &str) -> Result<()> {
        let frame: ClientFrame = serde_json::from_str(frame)?;
        self.turns += 1;
        let turn_id = format!("turn-{}", self.turns);
        if self.relay.rows.is_some() {
            let (relay, session) = (&self.relay, &self.session);
            store(relay, session, self.turns, Role::User, &frame.message).await?;
            let receipt = json!({
                "type": "user_message", "turn_id": turn_id, "text": frame.message, "id": frame.id,
            });
            self.send(receipt.to_string()).await?;
        }
        self.messages.push(ChatMessage::new("user", frame.message));
        let text = self.stream(&turn_id).await?;
        let (relay, session) = (&self.relay, &self.session);
        store(relay, session, self.turns, Role::Assistant, &text).await?;
        let done = DoneFrame {
            r#type: "done",
            turn_id: &turn_id,
            text: &text,
            finish_reason: "stop",
        };
        let done = serde_json::to_string(&done)?;
        self.messages.push(ChatMessage::new("assistant", text));
        self.send(done).await
    }

    /// Sends the tokens of an answer, those of one read with one write, and returns its text.
    async fn stream(&mut self, turn_id: &str) -> Result<String> {
        let mut answer = self.relay.model.ask(&self.messages).await?;
        let (mut text, mut index) = (String::new(), 0);
        let mut frames = Vec::new();
        let take = |token: &str, frames: &mut Vec<String>, text: &mut String, index: &mut u32| {
            let frame = TokenFrame {
                r#type: "token",
                turn_id,
                index: *index,
                token,
            };
            frames.push(serde_json::to_string(&frame).expect("strings and numbers are JSON"));
            text.push_str(token);
            *index += 1;
        };
        while answer
            .next(|token| take(token, &mut frames, &mut text, &mut index))
            .await?
        {
            for frame in frames.drain(..) {
                self.socket.feed(Message::Text(frame.into())).await?;
            }
            self.socket.flush().await?;
        }
        Ok(text)
    }

    async fn summarize(mut self) -> Result<()> {
        if self.turns == 0 {
            return Ok(());
        }
        let said = self.messages.iter().skip(1).map(ChatMessage::line);
        let prompt = vec![
            ChatMessage::new("system", "Summarise the conversation.".to_owned()),
            ChatMessage::new("user", said.collect()),
        ];
        let mut answer = self.relay.model.ask(&prompt).await?;
        let mut summary = String::new();
        while answer.next(|token| summary.push_str(token)).await? {}
        self.turns += 1;
        store(
            &self.relay,
            &self.session,
            self.turns,
            Role::Summary,
            &summary,
        )
        .await
    }

    async fn send(&mut self, frame: String) -> Result<()> {
        let sent = self.socket.send(Message::Text(frame.into())).await;
        sent.context("the client has gone")
    }
}

/// Does not borrow the conversation, whose socket must not be shared between threads.
async fn store(relay: &Relay, session: &str, turn: u32, role: Role, text: &str) -> Result<()> {
    match &relay.rows {
        Some(rows) => rows.append(session, turn, role, text).await,
        None => Ok(()),
    }
}
