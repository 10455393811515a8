//! Why a store could not be opened, in words for the person who starts the server.

use std::{io, path::PathBuf};

use duologue_engine::{BoxError, store::StoreError};

use crate::migrations::{NEEDED, NEWEST};

/// Why a store could not be opened or migrated. Each variant is for the operator to fix; none is
/// worth a retry but [`Unreachable`](OpenError::Unreachable) and
/// [`SupabaseUnreachable`](OpenError::SupabaseUnreachable).
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is for something else.
    #[error("`store.url` must be `auto`, or begin with `sqlite:` or `postgres://`")]
    UnknownScheme,
    /// The URL of a Postgres is malformed.
    #[error("`store.url` begins like the URL of a Postgres, but cannot be read")]
    Url(#[source] sqlx::Error),
    /// The URL of a Postgres has a sign in its user or password that ends it too early.
    #[error(
        "`store.url` has a `@`, `#`, `/` or `?` in its user or password; percent-encode it (%40, %23, %2F, \
         %3F)"
    )]
    UnescapedPassword,
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
        source: rusqlite::Error,
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
    /// There is no such SQLite file.
    #[error(
        "{} does not exist; the server creates it when it first starts, or `store.url` names the wrong file",
        .file.display()
    )]
    NoSuchFile {
        /// The database.
        file: PathBuf,
    },
    /// There are tables with our names that no known build has made.
    #[error(
        "{place} has tables that this Duologue does not know ({found}); nothing was changed. Bring them \
         up to date with the build that made them, or choose another database in `store.url`"
    )]
    UnknownTables {
        /// Which database.
        place: String,
        /// Its migrations, or its tables.
        found: String,
    },
    /// The tables are missing, or older than this build.
    #[error("the tables of {place} are missing or out of date; run `duologue migrate` first")]
    NotMigrated {
        /// `host:port/database`.
        place: String,
    },
    /// The tables were brought up to date by builds so much newer that what this one uses may be
    /// gone from them.
    #[error(
        "the tables of {place} are of version {version}, and this build can use {NEEDED} to \
         {NEWEST}; start the newer Duologue that they were made for"
    )]
    TooNew {
        /// The file, `host:port/database`, or host and port.
        place: String,
        /// The last migration that was applied to them.
        version: i64,
    },
    /// It is not known whether the database was restored from a backup.
    #[error("the database could not be checked for a restore from a backup")]
    Origin(#[source] StoreError),
    /// A migration could not be applied, or an applied one is not what it was.
    #[error("{place} could not be migrated")]
    Migration {
        /// Which database.
        place: String,
        /// What went wrong.
        source: BoxError,
    },
    /// The URL of the project is malformed.
    #[error(
        "`store.supabase_url` (SUPABASE_URL) must be the URL of a project, such as \
         https://abcdefgh.supabase.co"
    )]
    SupabaseUrl,
    /// The key cannot be one.
    #[error(
        "`store.supabase_key` (SUPABASE_SERVICE_ROLE_KEY) contains characters that no key has; copy it \
         again"
    )]
    SupabaseKey,
    /// The key is one that everybody may know.
    #[error(
        "`store.supabase_key` (SUPABASE_SERVICE_ROLE_KEY) is a publishable key, which may not write; \
         set it to a secret key of the project"
    )]
    SupabaseKeyIsPublic,
    /// The name cannot be one.
    #[error("`store.supabase_schema` (SUPABASE_SCHEMA) must be the name of a schema")]
    SupabaseSchema,
    /// No HTTP client can be made on this machine.
    #[error("no HTTP client can be made")]
    HttpClient(#[source] reqwest::Error),
    /// Nobody answers there, or not in time, or not for now.
    #[error("no Supabase project answers at {place} (SUPABASE_URL)")]
    SupabaseUnreachable {
        /// Host and port.
        place: String,
        /// What was tried last.
        source: BoxError,
    },
    /// Somebody answers, but not as a project would.
    #[error("what answers at {place} is no Supabase project; is SUPABASE_URL right?")]
    NotSupabase {
        /// Host and port.
        place: String,
        /// What it said.
        source: BoxError,
    },
    /// The key is wrong, or is not one that may write.
    #[error(
        "{place} refuses the key; set SUPABASE_SERVICE_ROLE_KEY (`store.supabase_key`) to a secret \
         key or the `service_role` key of this project"
    )]
    KeyRefused {
        /// Host and port.
        place: String,
        /// What it said.
        source: BoxError,
    },
    /// The REST interface does not show the schema.
    #[error(
        "the REST interface of {place} does not show the schema `{schema}`; add it to the exposed \
         schemas in the project's API settings, or set SUPABASE_SCHEMA to another"
    )]
    SchemaNotExposed {
        /// Host and port.
        place: String,
        /// The schema.
        schema: String,
    },
    /// The schema has none of our tables.
    #[error(
        "the schema `{schema}` of {place} has none of our functions; run schema.sql in the project's \
         SQL editor"
    )]
    FunctionsMissing {
        /// Host and port.
        place: String,
        /// The schema.
        schema: String,
    },
    /// The tables are older than this build.
    #[error(
        "the tables in the schema `{schema}` of {place} are out of date; run this version's \
         schema.sql in the project's SQL editor"
    )]
    SchemaOutOfDate {
        /// Host and port.
        place: String,
        /// The schema.
        schema: String,
    },
    /// Tables cannot be made over HTTP.
    #[error(
        "the REST interface cannot make tables; run schema.sql in the SQL editor of {place}, or set \
         SUPABASE_DB_URL for this command"
    )]
    NotOverRest {
        /// Host and port.
        place: String,
    },
}
