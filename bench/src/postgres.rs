//! A Postgres cluster for the benchmark alone, with durable commits, as its defaults are.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};

use crate::{
    child::{run, unprivileged},
    machine,
};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The running cluster. It ends when it is dropped, and its files are removed.
#[derive(Debug)]
pub(crate) struct Cluster {
    port: u16,
    folder: PathBuf,
    child: Child,
    databases: AtomicU32,
}

impl Cluster {
    pub(crate) async fn start() -> Result<Self> {
        let binaries = binaries()?;
        let folder =
            std::env::temp_dir().join(format!("duologue-bench-postgres-{}", std::process::id()));
        let mut initdb = unprivileged(&binaries.join("initdb"));
        initdb.args([
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--username=postgres",
            "-D",
        ]);
        run(initdb.arg(&folder))?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = postgres(&binaries, &folder, port)?;
        let cluster = Self {
            port,
            folder,
            child,
            databases: AtomicU32::new(0),
        };
        let started = Instant::now();
        while let Err(error) = cluster
            .execute("postgres", "create role duologue login")
            .await
        {
            anyhow::ensure!(
                started.elapsed() < START_TIMEOUT,
                "Postgres does not start: {error:#}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(cluster)
    }

    /// Where it listens on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database, and returns its name.
    pub(crate) async fn create_database(&self) -> Result<String> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench_{number}");
        let create = format!("create database {name} owner duologue");
        self.execute("postgres", &create).await?;
        Ok(name)
    }

    /// Drops a database, also while clients are connected to it. Afterwards the cluster's buffers are
    /// written out, so that the next run does not pay for it.
    pub(crate) async fn drop_database(&self, name: &str) -> Result<()> {
        let drop = format!("drop database if exists {name} with (force)");
        self.execute("postgres", &drop).await?;
        self.execute("postgres", "checkpoint").await
    }

    /// The URL of a database for its owner, by way of `port`.
    pub(crate) fn url(database: &str, port: u16) -> String {
        format!("postgres://duologue@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// The CPU time of all its processes.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        machine::cpu_of_family(self.child.id())
    }

    pub(crate) async fn connect(&self, database: &str) -> Result<PgConnection> {
        let url = format!(
            "postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        );
        let options: PgConnectOptions = url.parse()?;
        Ok(options.connect().await?)
    }

    async fn execute(&self, database: &str, sql: &str) -> Result<()> {
        let mut connection = self.connect(database).await?;
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // `setpriv` becomes Postgres, so this is its id. A cluster that is thrown away needs no shutdown.
        let mut quit = Command::new("kill");
        let _ = quit.args(["-QUIT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn postgres(binaries: &Path, folder: &Path, port: u16) -> Result<Child> {
    let mut postgres = unprivileged(&binaries.join("postgres"));
    postgres
        .arg("-D")
        .arg(folder)
        .args(["-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=200",
    ] {
        postgres.args(["-c", setting]);
    }
    let log = std::env::temp_dir().join(format!(
        "duologue-bench-postgres-{}.log",
        std::process::id()
    ));
    let log = fs::File::create(log)?;
    postgres.stdout(log.try_clone()?).stderr(log);
    postgres.spawn().context("Postgres cannot be started")
}

/// Where the binaries are. Debian keeps them out of the path, in a folder per version.
fn binaries() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let found = folders
        .into_iter()
        .find(|folder| folder.join("initdb").is_file());
    found.context("Postgres is not installed; run `cargo xtask setup`")
}
