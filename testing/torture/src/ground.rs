//! What the server stands on: a SQLite file, or a Postgres cluster of the run's own.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use duologue_integration::{
    postgres::{Cluster, Database},
    server::install_crypto,
    store::config,
};
use duologue_protocol::{Seq, ServerFrame, SessionId, UserId};
use serde_json::Value;

use crate::{check::Logs, history::History, link::Link};

/// Events read at a time.
const PAGE_EVENTS: u32 = 500;

/// The kinds of stores that can be tortured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// A file beside the server.
    Sqlite,
    /// A cluster of the run's own, reached over a link that can be cut.
    Postgres,
}

impl StoreKind {
    /// Its name, as on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// A store for one run.
#[derive(Debug)]
pub(crate) enum Ground {
    Sqlite { url: String },
    Postgres { database: Database, link: Link },
}

impl Ground {
    pub(crate) async fn prepare(kind: StoreKind, folder: &Path) -> Result<Self> {
        match kind {
            StoreKind::Sqlite => {
                let url = format!("sqlite:{}", folder.join("duologue.db").display());
                Ok(Self::Sqlite { url })
            }
            StoreKind::Postgres => {
                let database = Cluster::of_its_own("torture").await.database().await;
                let port = database.cluster().server_port();
                let link = Link::start(Some(([127, 0, 0, 1], port).into())).await?;
                Ok(Self::Postgres { database, link })
            }
        }
    }

    /// The store's address for the server: over the link, where there is one.
    pub(crate) fn url_for_server(&self) -> String {
        match self {
            Self::Sqlite { url } => url.clone(),
            Self::Postgres { database, link } => database.url_at(link.address().port()),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Sqlite { url } => url.clone(),
            Self::Postgres { database, .. } => database.url(),
        }
    }

    /// The logs of all sessions that clients have been in. No server may be running.
    pub(crate) async fn logs(&self, histories: &[History]) -> Result<Logs> {
        install_crypto();
        let store = duologue_store::open(&config(&self.url())).await?;
        let mut logs = Logs::new();
        for history in histories {
            let session = SessionId::new(&history.session).context("session ids are valid")?;
            let user = UserId::new(&history.user).context("user ids are valid")?;
            let mut log: Vec<Value> = Vec::new();
            let mut after = Seq(0);
            loop {
                let page = store.read(&user, &session, after, PAGE_EVENTS).await?;
                let Some(last) = page.last() else { break };
                after = last.seq;
                for event in page {
                    let frame = ServerFrame::Event(event).to_json();
                    log.push(serde_json::from_str(&frame)?);
                }
            }
            logs.insert(history.session.clone(), log);
        }
        store.close().await;
        Ok(logs)
    }

    /// Leaves a copy of the database in the folder, if it is not there anyway.
    pub(crate) async fn keep(&self, folder: &Path) -> Result<()> {
        let Self::Postgres { database, .. } = self else {
            return Ok(());
        };
        let mut dump = tokio::process::Command::new("pg_dump");
        let output = dump.args(["--dbname", &database.url()]).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "pg_dump failed: {said}");
        fs::write(folder.join("database.sql"), output.stdout)?;
        Ok(())
    }
}
