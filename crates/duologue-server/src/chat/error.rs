//! The error of a conversation.

use std::io;

use duologue_client::AddressError;

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The address cannot be used.
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
    /// The server refused the connection, and would refuse it again.
    #[error("the server refused the connection: {0}")]
    Refused(String),
    /// The connection was lost, and reconnecting failed or would not help.
    #[error("the conversation cannot go on: {0}")]
    Closed(String),
    /// The session ended while something was unanswered.
    #[error("the session ended before everything was answered")]
    Unanswered,
    /// The token cannot be read, or is not one.
    #[error("the token cannot be used; check the file of --token-file, or DUOLOGUE_TOKEN")]
    Token(#[source] io::Error),
    /// The input cannot be read.
    #[error("the input cannot be read")]
    Input(#[source] io::Error),
    /// The output cannot be written to. A closed pipe is not a fault.
    #[error("the output cannot be written to")]
    Output(#[source] io::Error),
}
