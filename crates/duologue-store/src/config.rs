//! What the configuration says about the store.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;

use crate::{OpenError, supabase::Target};

/// The `store.url` that leaves the choice to the other settings.
const AUTO: &str = "auto";

/// Where sessions are when nothing is set.
const DEFAULT_FILE: &str = "duologue.db";

/// The section `[store]`. The defaults and their reasons are in `config/default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `sqlite:FILE`, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, to which `?sslmode=` and
    /// other parameters of Postgres may be added; or `auto`: the Supabase project below if both its
    /// URL and its key are set, else a SQLite file.
    pub url: SecretString,
    /// The URL of a Supabase project, for its REST interface; or empty.
    pub supabase_url: String,
    /// A secret key of the project; or empty.
    pub supabase_key: SecretString,
    /// The schema of the project that has our tables.
    pub supabase_schema: String,
    /// Connections to Postgres, two of them for the writer; simultaneous requests to the REST interface, beside
    /// the writer's; or readers of the SQLite file.
    pub connections_max: NonZero<u16>,
    /// How long an operation waits for a connection, or a write for its batch.
    #[serde(with = "duration")]
    pub acquire_timeout: Duration,
    /// How long Postgres may take for one call: an operation, or a batch of writes.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// How long a write to Postgres is repeated while another transaction has locked its row.
    #[serde(with = "duration")]
    pub lock_timeout: Duration,
    /// How long SQLite waits for another process that has locked its file.
    #[serde(with = "duration")]
    pub busy_timeout: Duration,
    /// Writes that are committed together.
    pub batch_max: NonZero<u16>,
    /// Writes that wait for the writer. Those beyond wait for `acquire_timeout` and then fail.
    pub queue_max: NonZero<u16>,
}

/// Where the sessions are.
pub(crate) enum Backend {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
    Supabase(Box<Target>),
}

impl StoreConfig {
    /// Whether it is left to the other settings where sessions are kept.
    pub fn is_auto(&self) -> bool {
        self.url.expose_secret() == AUTO
    }

    /// Where the store is, for people and without secrets: `SQLite, duologue.db`,
    /// `Postgres, host:5432/database` or `Supabase REST, host, schema public`.
    pub fn describe(&self) -> String {
        match self.backend() {
            Ok(Backend::Sqlite(file)) => format!("SQLite, {}", file.display()),
            Ok(Backend::Postgres(options)) => format!("Postgres, {}", place(&options)),
            Ok(Backend::Supabase(target)) => {
                format!(
                    "Supabase REST, {}, schema {}",
                    target.place(),
                    target.schema()
                )
            }
            Err(_) => "none, since `[store]` cannot be read".to_owned(),
        }
    }

    pub(crate) fn backend(&self) -> Result<Backend, OpenError> {
        let url = self.url.expose_secret();
        if self.is_auto() {
            return self.chosen();
        }
        if let Some(file) = url.strip_prefix("sqlite:") {
            return sqlite_file(file).map(Backend::Sqlite);
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            if has_unescaped_password(url) {
                return Err(OpenError::UnescapedPassword);
            }
            let options = PgConnectOptions::from_str(url).map_err(OpenError::Url)?;
            return Ok(Backend::Postgres(Box::new(options)));
        }
        Err(OpenError::UnknownScheme)
    }

    /// What `auto` comes to.
    fn chosen(&self) -> Result<Backend, OpenError> {
        if self.supabase_url.is_empty() || self.supabase_key.expose_secret().is_empty() {
            return Ok(Backend::Sqlite(DEFAULT_FILE.into()));
        }
        let target = Target::new(
            &self.supabase_url,
            &self.supabase_key,
            &self.supabase_schema,
        )?;
        Ok(Backend::Supabase(Box::new(target)))
    }
}

/// Whether an `@` comes after what the URL reads as host and port. Then a `/`, `?` or `#` in the password has
/// cut it short, and a part of it would be taken, and shown, for the host, port or database.
fn has_unescaped_password(url: &str) -> bool {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest[authority_end..].contains('@') || rest[..authority_end].matches('@').count() > 1
}

/// `host:port/database`.
pub(crate) fn place(options: &PgConnectOptions) -> String {
    // As libpq has it: without a database it is the one named like the user.
    let database = options.get_database().unwrap_or(options.get_username());
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

fn sqlite_file(file: &str) -> Result<PathBuf, OpenError> {
    let file = file.strip_prefix("//").unwrap_or(file);
    if file.is_empty() || file.contains(":memory:") {
        return Err(OpenError::NoFile);
    }
    if file.contains('?') {
        return Err(OpenError::SqliteParameters);
    }
    Ok(Path::new(file).to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Settings for the store at `url`.
    pub(crate) fn config(url: &str) -> StoreConfig {
        let rest = r#"
            supabase_url = ""
            supabase_key = ""
            supabase_schema = "public"
            connections_max = 4
            acquire_timeout = "2s"
            statement_timeout = "5s"
            lock_timeout = "2s"
            busy_timeout = "5s"
            batch_max = 64
            queue_max = 1024
        "#;
        toml::from_str(&format!("url = {url:?}{rest}")).unwrap()
    }

    #[test]
    fn a_store_is_described_without_its_password() {
        for (url, expected) in [
            ("sqlite:duologue.db", "SQLite, duologue.db"),
            ("sqlite://duologue.db", "SQLite, duologue.db"),
            ("sqlite:///var/lib/d.db", "SQLite, /var/lib/d.db"),
            (
                "postgres://me:secret@db.test:6543/chat?sslmode=require",
                "Postgres, db.test:6543/chat",
            ),
            (
                "postgresql://me:secret@db.test/chat",
                "Postgres, db.test:5432/chat",
            ),
            (
                "mysql://me:secret@db.test/chat",
                "none, since `[store]` cannot be read",
            ),
        ] {
            let config = config(url);
            assert_eq!(config.describe(), expected);
            assert!(!format!("{config:?}").contains("secret"));
        }
    }

    #[test]
    fn without_a_url_a_supabase_project_is_used_if_it_is_given_whole() {
        let with = |url: &str, supabase_url: &str, key: &str| {
            let config = StoreConfig {
                supabase_url: supabase_url.to_owned(),
                supabase_key: key.into(),
                supabase_schema: "chat".to_owned(),
                ..config(url)
            };
            assert!(!format!("{config:?}").contains("canary"));
            config.describe()
        };
        let (project, key) = ("https://abc.supabase.co", "sb_secret_canary");
        for (described, expected) in [
            (
                with("auto", project, key),
                "Supabase REST, abc.supabase.co, schema chat",
            ),
            (with("auto", "", key), "SQLite, duologue.db"),
            (with("auto", project, ""), "SQLite, duologue.db"),
            (with("sqlite:a.db", project, key), "SQLite, a.db"),
            (
                with("auto", "abc", key),
                "none, since `[store]` cannot be read",
            ),
        ] {
            assert_eq!(described, expected);
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_in_words() {
        for (url, words) in [
            ("duologue.db", "begin with `sqlite:` or `postgres://`"),
            ("sqlite:", "must name a file"),
            ("sqlite::memory:", "must name a file"),
            ("sqlite:a.db?mode=ro", "takes no parameters"),
            ("postgres://me@db.test:port/chat", "cannot be read"),
            ("postgres://me:12#canary@db.test/chat", "percent-encode"),
            ("postgres://me:12/canary@db.test/chat", "percent-encode"),
            ("postgres://me:12?canary@db.test/chat", "percent-encode"),
            ("postgres://me:canary@canary@db.test/chat", "percent-encode"),
        ] {
            let config = config(url);
            let Err(error) = config.backend() else {
                panic!("{url} was accepted");
            };
            assert!(error.to_string().contains(words), "{url}: {error}");
            for shown in [format!("{error:?}"), error.to_string(), config.describe()] {
                assert!(
                    !shown.contains("canary") && !shown.contains("12"),
                    "{shown}"
                );
            }
        }
    }

    #[test]
    fn zero_connections_and_unknown_keys_are_refused() {
        for wrong in ["connections_max = 0", "path = \"a.db\""] {
            assert!(toml::from_str::<StoreConfig>(wrong).is_err());
        }
    }
}
