//! The servers that are measured, and how each is started.

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    child::{self, ServerProcess},
    delay::DelayProxy,
    scenario::StoreKind,
    stored::{Schema, Stored},
    surroundings::Surroundings,
};

/// A server that can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The relay without rows: what the others are compared with.
    Relay,
    /// The relay with rows in Postgres.
    RelayWithRows,
    /// A server in Python as it is usually written, with rows in Postgres.
    FastApi { python: PathBuf },
    /// Duologue.
    Duologue { name: &'static str, binary: PathBuf },
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relay => "axum",
            Self::RelayWithRows => "axum with rows",
            Self::FastApi { .. } => "fastapi",
            Self::Duologue { name, .. } => name,
        })
    }
}

/// A server that has been started for one run.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: ServerProcess,
    pub(crate) stored: Option<Stored>,
    _proxy: Option<DelayProxy>,
}

impl Running {
    pub(crate) fn address(&self) -> SocketAddr {
        self.process.address
    }

    pub(crate) fn uses_postgres(&self) -> bool {
        matches!(self.stored, Some(Stored::Postgres { .. }))
    }

    /// Kills the server, and returns what it has stored.
    pub(crate) fn stop(self) -> Option<Stored> {
        self.stored
    }
}

impl Subject {
    /// Whether it can run with the sessions in such a store.
    pub(crate) fn supports(&self, store: StoreKind) -> bool {
        match self {
            Self::Relay | Self::Duologue { .. } => true,
            Self::RelayWithRows | Self::FastApi { .. } => store == StoreKind::Postgres,
        }
    }

    /// Whether it is measured in any case.
    pub(crate) fn is_required(&self) -> bool {
        matches!(self, Self::Relay | Self::Duologue { .. })
    }

    /// Whether it is so slow that one repetition must be enough.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self, Self::FastApi { .. })
    }

    /// Starts it on an empty store.
    pub(crate) async fn start(
        &self,
        around: &Surroundings,
        store: StoreKind,
        delay: Duration,
    ) -> Result<Running> {
        fs::remove_dir_all(&around.folder).unwrap_or_default();
        fs::create_dir_all(&around.folder)?;
        let (stored, proxy) = self.create_store(around, store, delay).await?;
        let url = stored
            .as_ref()
            .map(|stored| stored.url(around, proxy.as_ref()));
        let url = url.transpose()?;
        let process = match self {
            Self::Relay | Self::RelayWithRows => {
                let mut command = child::command(std::env::current_exe()?);
                command.arg("relay").arg(around.upstream.url()).args(url);
                ServerProcess::start(command, &around.folder.join("relay.log"))?
            }
            Self::FastApi { python } => {
                let server = concat!(env!("CARGO_MANIFEST_DIR"), "/python/server.py");
                let mut command = child::command(python);
                command.args([server, &around.upstream.url()]).args(url);
                ServerProcess::start(command, &around.folder.join("fastapi.log"))?
            }
            Self::Duologue { binary, .. } => {
                let url = url.context("Duologue has a store")?;
                start_duologue(binary, around, &url)?
            }
        };
        Ok(Running {
            process,
            stored,
            _proxy: proxy,
        })
    }

    async fn create_store(
        &self,
        around: &Surroundings,
        store: StoreKind,
        delay: Duration,
    ) -> Result<(Option<Stored>, Option<DelayProxy>)> {
        let schema = match self {
            Self::Relay => return Ok((None, None)),
            Self::RelayWithRows | Self::FastApi { .. } => Schema::Messages,
            Self::Duologue { .. } => Schema::Events,
        };
        if store == StoreKind::Sqlite {
            let file = around.folder.join("duologue.db");
            return Ok((Some(Stored::Sqlite { file, schema }), None));
        }
        let cluster = around.cluster()?;
        let database = cluster.create_database().await?;
        let proxy = if delay.is_zero() {
            None
        } else {
            Some(DelayProxy::start(cluster.port(), delay).await?)
        };
        Ok((Some(Stored::Postgres { database, schema }), proxy))
    }
}

fn start_duologue(binary: &Path, around: &Surroundings, url: &str) -> Result<ServerProcess> {
    let command = |arguments: &[&str]| {
        let mut command = child::command(binary);
        command
            .args(arguments)
            .current_dir(&around.folder)
            .env_clear()
            .envs(LIMITS.iter().copied())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DUOLOGUE_STORE__URL", url)
            .env("DUOLOGUE_MODEL__PROVIDER", "openai")
            .env("DUOLOGUE_MODEL__OPENAI__BASE_URL", around.upstream.url())
            .env("DUOLOGUE_MODEL__OPENAI__API_KEY", "bench")
            // Otherwise neither profilers nor this program may look at it.
            .env("DUOLOGUE_SERVER__CORE_DUMPS", "true");
        command
    };
    child::run(&mut command(&["migrate"]))?;
    ServerProcess::start(
        command(&["serve", "--port", "0"]),
        &around.folder.join("duologue.log"),
    )
}

/// All clients come from one address. Everything else is as it is by default.
const LIMITS: &[(&str, &str)] = &[
    ("DUOLOGUE_SERVER__CONNECTIONS_MAX", "100000"),
    ("DUOLOGUE_LIMITS__ADDRESS__HANDSHAKES_PER_SECOND", "100000"),
    ("DUOLOGUE_LIMITS__ADDRESS__HANDSHAKES_BURST", "100000"),
    ("DUOLOGUE_LIMITS__ADDRESS__CONNECTIONS_MAX", "100000"),
    ("DUOLOGUE_LIMITS__ADDRESS__UNATTACHED_MAX", "100000"),
    ("DUOLOGUE_LIMITS__CONNECTION__FRAMES_PER_MINUTE", "1000000"),
    ("DUOLOGUE_LIMITS__CONNECTION__FRAMES_BURST", "1000000"),
    ("DUOLOGUE_LIMITS__USER__MESSAGES_PER_MINUTE", "1000000"),
    ("DUOLOGUE_LIMITS__USER__MESSAGES_BURST", "1000000"),
    ("DUOLOGUE_LIMITS__USER__TURNS_PER_MINUTE", "1000000"),
    ("DUOLOGUE_LIMITS__TOKENS__SESSION_MAX", "1000000000"),
    ("DUOLOGUE_LIMITS__TOKENS__USER_PER_DAY_MAX", "1000000000"),
    ("DUOLOGUE_LIMITS__TOKENS__PROCESS_PER_DAY_MAX", "1000000000"),
];
