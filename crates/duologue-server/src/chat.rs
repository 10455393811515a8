//! `duologue chat`: a conversation with a server from a terminal or a pipe.
//!
//! ```text
//! input ──lines──▶ Conversation ◀──frames──▶ socket
//! Ctrl-C ────────▶  Dialogue: what is out, what waits, when to leave
//!                   View: what a person sees ──▶ output
//! ```
//!
//! [`Dialogue`] and [`View`] decide everything and touch nothing, so they are tested without a
//! server.

mod address;
mod conversation;
mod dialogue;
mod frame;
mod input;
mod reconnect;
#[cfg(test)]
mod tests;
mod token;
mod view;

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use tokio::sync::mpsc;
use uuid::Uuid;

pub use crate::chat::{
    address::AddressError,
    token::Token,
    view::{Colour, Input},
};
use crate::{
    chat::{
        address::Address, conversation::Conversation, dialogue::Dialogue, reconnect::Waits,
        view::View,
    },
    cli::ChatArgs,
};

/// Why a conversation ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The address makes no sense.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There was never a connection.
    #[error(
        "{server} cannot be reached: {reason}\nIs it running? `duologue serve` starts one here."
    )]
    Unreachable {
        /// The server's URL.
        server: String,
        /// What happened.
        reason: String,
    },
    /// The server does not want us, and will not.
    #[error("the server refused the connection: {0}")]
    Refused(String),
    /// The connection was closed for good, or could not be had again.
    #[error("the conversation cannot go on: {0}")]
    Closed(String),
    /// The session ended while something was unanswered.
    #[error("the session ended before everything was answered")]
    Unanswered,
    /// The file with the token cannot be read.
    #[error("--token-file: {0} cannot be read")]
    Token(PathBuf, #[source] io::Error),
    /// The input cannot be read.
    #[error("the input cannot be read")]
    Input(#[source] io::Error),
    /// The output cannot be written to. A closed pipe is no fault of anybody's.
    #[error("the output cannot be written to")]
    Output(#[source] io::Error),
}

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
        address,
        token,
        dialogue: Dialogue::new(terminal.input, new_id()),
        view: View::new(terminal.colour, terminal.input),
        waits: Waits::new(reconnect::waits()),
        lines: input::lines(input).map_err(ChatError::Input)?,
        interrupts,
        output,
    };
    tokio::select! {
        outcome = conversation.run() => outcome,
        error = input::forward_interrupts(interrupt) => Err(ChatError::Input(error)),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a client's own names; nothing of the server depends on them"
)]
fn new_id() -> String {
    Uuid::new_v4().to_string()
}
