//! Why a store could not be opened, in words for whoever starts the server.

use std::{io, path::PathBuf};

/// Why a store could not be opened or migrated. Each variant is for the operator to mend; none is
/// worth a retry but [`Unreachable`](OpenError::Unreachable).
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is for something else.
    #[error("`store.url` must begin with `sqlite:` or `postgres://`")]
    UnknownScheme,
    /// The URL of a Postgres is malformed.
    #[error("`store.url` begins like the URL of a Postgres, but cannot be read")]
    Url(#[source] sqlx::Error),
    /// A SQLite in memory would lose every session.
    #[error("`store.url` must name a file: a database in memory loses all sessions at a restart")]
    NoFile,
    /// The settings of the file are ours.
    #[error("`store.url` names a SQLite file and takes no parameters after it")]
    SqliteParameters,
    /// The folder is missing, or not ours to write.
    #[error("{} cannot be opened: does its folder exist, and may this user write there?", .file.display())]
    File {
        /// What was to be opened.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another server; stop that one, or give this one a file of its own", .file.display())]
    InUse {
        /// The database.
        file: PathBuf,
    },
    /// SQLite cannot use the file.
    #[error("{} is there, but SQLite cannot use it", .file.display())]
    Sqlite {
        /// The database.
        file: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The database would acknowledge what a crash can still take back.
    #[error("{place} does not keep what it acknowledges: `{setting}` is `{value}`")]
    NotDurable {
        /// Which database.
        place: String,
        /// The setting that is wrong.
        setting: &'static str,
        /// Its value.
        value: String,
    },
    /// Nobody answers there, or not in time.
    #[error("no Postgres answers at {place}")]
    Unreachable {
        /// `host:port/database`.
        place: String,
        /// What was tried last.
        source: sqlx::Error,
    },
    /// The server is there, but will not have us: wrong password, no such database, no right.
    #[error("the Postgres at {place} refuses us")]
    Refused {
        /// `host:port/database`.
        place: String,
        /// What it said.
        source: sqlx::Error,
    },
    /// The tables are missing, or older than this build.
    #[error("the tables of {place} are missing or out of date; run `duologue migrate` first")]
    NotMigrated {
        /// `host:port/database`.
        place: String,
    },
    /// A migration could not be applied, or an applied one is not what it was.
    #[error("{place} could not be migrated")]
    Migration {
        /// Which database.
        place: String,
        /// What went wrong.
        source: sqlx::migrate::MigrateError,
    },
}
