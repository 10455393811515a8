//! A Postgres for tests: one cluster per process, one database per test.
//!
//! The cluster is real in what tests are about (`fsync` is on), listens on loopback only, and dies
//! with the process. Tests work as the owner of their database, who is no superuser.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

use crate::{
    child::{AtOurEnd, Child, find, free_port, our_user_id, run, run_folder, unprivileged},
    store::config,
};

/// Who owns the databases of tests.
pub const OWNER: &str = "duologue";

const TEMPLATE: &str = "duologue_template";
const SUPERUSER: &str = "postgres";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

/// The running cluster.
#[derive(Debug)]
pub struct Cluster {
    port: u16,
    databases_made: AtomicU32,
    /// Those whose tests are over. Dropping is left to whoever next makes one.
    databases_left: Mutex<Vec<String>>,
    child: Child,
}

/// A database of a test's own.
#[derive(Debug)]
pub struct Database {
    name: String,
    cluster: &'static Cluster,
}

impl Cluster {
    /// The cluster of this process, started by whoever asks first.
    pub async fn get() -> &'static Self {
        let cluster = CLUSTER.get_or_try_init(Self::start).await;
        cluster.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A new database, migrated.
    pub async fn database(&'static self) -> Database {
        self.make_database(TEMPLATE).await
    }

    /// A new database without tables.
    pub async fn empty_database(&'static self) -> Database {
        self.make_database("template0").await
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    async fn make_database(&'static self, template: &str) -> Database {
        let number = self.databases_made.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        let left = std::mem::take(&mut *self.databases_left.lock().expect("nobody panics here"));
        let mut connection = self.connect(SUPERUSER, "postgres").await.expect("connects");
        for name in left {
            // By force, since a pooler may still be connected.
            execute(
                &mut connection,
                &format!("drop database {name} with (force)"),
            )
            .await;
        }
        let create = format!("create database {name} template {template} owner {OWNER}");
        execute(&mut connection, &create).await;
        Database {
            name,
            cluster: self,
        }
    }

    async fn connect(&self, user: &str, database: &str) -> Result<PgConnection> {
        let options: PgConnectOptions = self.url(user, database).parse()?;
        let connection = options.connect().await;
        connection.with_context(|| format!("connecting to `{database}` as `{user}`"))
    }

    fn url(&self, user: &str, database: &str) -> String {
        format!(
            "postgres://{user}@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        )
    }

    async fn start() -> Result<Self> {
        let binaries = binaries()?;
        let folder = run_folder("postgres")?;
        let mut copy = unprivileged(Path::new("cp"), AtOurEnd::Leave);
        copy.arg("-a").arg(initialized(&binaries)?).arg(&folder);
        run(copy)?;

        let port = free_port()?;
        let mut postgres = unprivileged(&binaries.join("postgres"), AtOurEnd::Signal("QUIT"));
        postgres
            .arg("-D")
            .arg(&folder)
            .args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=on",
            "max_connections=200",
        ] {
            postgres.args(["-c", setting]);
        }
        let cluster = Self {
            port,
            databases_made: AtomicU32::new(0),
            databases_left: Mutex::default(),
            child: Child::start("postgres", postgres, folder.join("test.log"))?,
        };
        let superuser = async || cluster.connect(SUPERUSER, "postgres").await;
        let mut connection = cluster.child.ready(superuser).await?;
        execute(&mut connection, &format!("create role {OWNER} login")).await;
        execute(
            &mut connection,
            &format!("create database {TEMPLATE} owner {OWNER}"),
        )
        .await;
        connection.close().await?;
        duologue_store::migrate(&config(&cluster.url(OWNER, TEMPLATE))).await?;
        Ok(cluster)
    }
}

impl Database {
    /// The URL for its owner.
    pub fn url(&self) -> String {
        self.cluster.url(OWNER, &self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection of its owner.
    pub async fn connect(&self) -> PgConnection {
        self.cluster
            .connect(OWNER, &self.name)
            .await
            .expect("connects")
    }

    /// A connection of a superuser.
    pub async fn connect_as_superuser(&self) -> PgConnection {
        self.cluster
            .connect(SUPERUSER, &self.name)
            .await
            .expect("connects")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut left = self
            .cluster
            .databases_left
            .lock()
            .expect("nobody panics here");
        left.push(std::mem::take(&mut self.name));
    }
}

/// Runs SQL that the tests themselves have made.
async fn execute(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
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
    let initdb = find("initdb", &folders, "postgresql")?;
    Ok(initdb.parent().expect("a file is in a folder").to_owned())
}

/// A folder with a cluster that was never started. Making one takes a second, so it is kept for
/// the next run, per version and user.
fn initialized(binaries: &Path) -> Result<PathBuf> {
    let version = binaries
        .parent()
        .and_then(Path::file_name)
        .unwrap_or(OsStr::new("default"));
    let name = format!(
        "duologue-postgres-{}-initdb-{}",
        our_user_id(),
        version.display()
    );
    let folder = std::env::temp_dir().join(name);
    if folder.exists() {
        return Ok(folder);
    }
    let mut fresh = folder.clone().into_os_string();
    fresh.push(format!("-{}", std::process::id()));
    let mut initdb = unprivileged(&binaries.join("initdb"), AtOurEnd::Leave);
    initdb.args([
        "--auth=trust",
        "--encoding=UTF8",
        "--no-locale",
        "--username",
        SUPERUSER,
    ]);
    initdb.arg("-D").arg(&fresh);
    run(initdb)?;
    // Complete or not there at all; and another process may have been faster.
    if fs::rename(&fresh, &folder).is_err() {
        fs::remove_dir_all(&fresh)?;
    }
    Ok(folder)
}
