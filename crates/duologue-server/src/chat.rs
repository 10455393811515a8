//! `duologue chat`: a conversation with a server from a terminal or a pipe.
//!
//! ```text
//! input ──lines──▶ Conversation ◀──updates── duologue_client::Client ◀──▶ server
//! Ctrl-C ────────▶  Dialogue: what is out, what waits, when to leave
//!                   View: what a person sees ──▶ output
//! ```
//!
//! [`Dialogue`] and [`View`] do no input or output, so they are tested without a server.

mod conversation;
mod dialogue;
mod error;
mod frame;
mod input;
#[cfg(test)]
mod tests;
mod token;
mod view;

use std::{
    io::{Read, Write},
    time::Duration,
};

use duologue_client::{Address, BackoffOptions, Client, ClientOptions, SessionOptions};
use tokio::sync::mpsc;
use uuid::Uuid;

pub use crate::chat::{
    error::ChatError,
    token::Token,
    view::{Colour, Input},
};
use crate::{
    chat::{conversation::Conversation, dialogue::Dialogue, view::View},
    cli::ChatArgs,
};

/// What is on the other side of the input and the output.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Whether a person types.
    pub input: Input,
    /// Whether the output may be coloured.
    pub colour: Colour,
}

/// Talks to a server until the input ends, the person leaves, or the session ends.
///
/// Uses the process's Ctrl-C, and leaves a thread behind that waits for input.
pub async fn run(
    args: ChatArgs,
    token: Token,
    terminal: Terminal,
    input: impl Read + Send + 'static,
    output: impl Write,
) -> Result<(), ChatError> {
    let session = args.session.as_ref();
    let address = Address::new(&args.url, session, args.user.as_ref(), &new_id())?;
    let (interrupt, interrupts) = mpsc::channel(4);
    let conversation = Conversation {
        client: client(address, token),
        dialogue: Dialogue::new(terminal.input),
        view: View::new(terminal.colour, terminal.input),
        lines: input::lines(input).map_err(ChatError::Input)?,
        interrupts,
        output,
    };
    tokio::select! {
        outcome = conversation.run() => outcome,
        error = input::forward_interrupts(interrupt) => Err(ChatError::Input(error)),
    }
}

/// A person waits for it: it gives up after about a minute.
fn client(address: Address, token: Token) -> Client {
    let backoff = BackoffOptions {
        max: Duration::from_secs(10),
        attempts_max: Some(12),
        ..BackoffOptions::default()
    };
    let session = SessionOptions {
        backoff,
        id_prefix: new_id(),
        ..SessionOptions::default()
    };
    let options = ClientOptions {
        session,
        ..ClientOptions::default()
    };
    Client::new(address, options).with_tokens(token)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a client's own names; nothing of the server depends on them"
)]
fn new_id() -> String {
    Uuid::new_v4().to_string()
}
