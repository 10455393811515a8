//! `duologue restored`: marks the stored sessions as restored from a backup.
//!
//! After a restore the log may be behind what clients have seen, and epochs repeat. The command gives every
//! log a new id and raises every epoch, in one transaction, so that no server which still runs can write
//! under an old lease. May run while a server is running; its sessions are then closed and reopened.

use std::io::{self, Write};

use duologue_engine::store::StoreError;
use duologue_store::{OpenError, StoreConfig};

/// Why the sessions could not be marked. Nothing has changed then, and the command can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum RestoredError {
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    /// The store is unavailable, or refused the operation.
    #[error("storage operation failed")]
    Store(#[from] StoreError),
    /// The output could not be written.
    #[error("the output could not be written")]
    Output(#[from] io::Error),
}

/// Marks all sessions, and writes how many there are to `out`.
pub async fn run(config: &StoreConfig, mut out: impl Write) -> Result<(), RestoredError> {
    let store = duologue_store::open_for_operators(config).await?;
    let sessions = store.restored().await?;
    let noun = if sessions == 1 { "session" } else { "sessions" };
    let place = config.describe();
    Ok(writeln!(
        out,
        "{place}: {sessions} {noun} marked as restored: new log ids, raised epochs, no leases"
    )?)
}
