//! A Postgres for tests: one cluster per process, one database per test. A test that restarts its
//! cluster has one of its own.
//!
//! A cluster is real in what tests are about (`fsync` is on), listens on loopback only, and dies
//! with the process. Tests work as the owner of their database, who is no superuser.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tempfile::NamedTempFile;
use tokio::sync::OnceCell;

use crate::{
    DEADLINE, certificates,
    child::{AtOurEnd, Child, find, free_port, our_user_id, run, run_folder, unprivileged},
    latency::{database_delay, start_proxy},
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
    /// Where servers under test reach it.
    server_port: u16,
    databases_made: AtomicU32,
    /// Those whose tests are over. The next database that is made drops them.
    databases_left: Mutex<Vec<String>>,
    folder: PathBuf,
    settings: Vec<String>,
    child: Mutex<Arc<Child>>,
}

/// A database of a test's own.
#[derive(Debug)]
pub struct Database {
    name: String,
    cluster: &'static Cluster,
}

impl Cluster {
    /// The cluster of this process, started by the first test that needs it.
    pub async fn get() -> &'static Self {
        let cluster = CLUSTER
            .get_or_try_init(async || {
                let folder = run_folder("postgres")?;
                copy_initialized(&folder)?;
                Self::start(folder, Vec::new()).await
            })
            .await;
        cluster.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A cluster for one test alone, after which it is named.
    pub async fn of_its_own(name: &str) -> &'static Self {
        Self::leaked(name, |_| Ok(Vec::new())).await
    }

    /// A cluster that speaks TLS, for one test alone.
    pub async fn with_tls() -> &'static Self {
        Self::leaked("tls", certificates::make).await
    }

    async fn leaked(
        name: &str,
        prepare: impl FnOnce(&Path) -> Result<Vec<String>>,
    ) -> &'static Self {
        let starting = async {
            let folder = run_folder(&format!("postgres-{name}"))?;
            copy_initialized(&folder)?;
            let settings = prepare(&folder)?;
            Self::start(folder, settings).await
        };
        let cluster = starting.await;
        // It lives as long as the process anyway.
        Box::leak(Box::new(
            cluster.unwrap_or_else(|error| panic!("{error:#}")),
        ))
    }

    /// The certificate of the authority that has signed this server's, in a file that we may read.
    pub fn authority(&self) -> Result<NamedTempFile> {
        self.certificate(certificates::AUTHORITY)
    }

    /// The certificate of an authority that has not.
    pub fn strange_authority(&self) -> Result<NamedTempFile> {
        self.certificate(certificates::STRANGER)
    }

    fn certificate(&self, name: &str) -> Result<NamedTempFile> {
        let file = NamedTempFile::new()?;
        let mut cat = unprivileged(Path::new("cat"), AtOurEnd::Leave);
        cat.arg(self.folder.join(format!("{name}.crt")));
        cat.stdout(file.reopen()?);
        run(cat)?;
        Ok(file)
    }

    /// Kills the cluster as a crash would, and starts it again on the same port.
    pub async fn crash_and_restart(&self) {
        self.stop_by("QUIT").await;
        let child = run_postgres(&self.folder, self.port, &self.settings);
        let child = Arc::new(child.unwrap_or_else(|error| panic!("{error:#}")));
        *self.lock_child() = Arc::clone(&child);
        let ready = child
            .ready(async || self.connect(SUPERUSER, "postgres").await)
            .await;
        ready.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Ends the cluster: nobody listens there any more.
    pub async fn stop(&self) {
        self.stop_by("INT").await;
    }

    async fn stop_by(&self, signal: &str) {
        let child = Arc::clone(&self.lock_child());
        child.signal(signal).expect("it can be signalled");
        child.ended().await.expect("it ends");
    }

    fn lock_child(&self) -> std::sync::MutexGuard<'_, Arc<Child>> {
        self.child.lock().expect("nobody panics here")
    }

    /// A new database, migrated.
    pub async fn database(&'static self) -> Database {
        self.make_database(TEMPLATE).await
    }

    /// A new database like `template`, which nobody must be connected to.
    pub async fn database_like(&'static self, template: &Database) -> Database {
        self.make_database(template.name()).await
    }

    /// A new database without tables.
    pub async fn empty_database(&'static self) -> Database {
        self.make_database("template0").await
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where servers under test reach it: behind a proxy if the database is to be far away.
    pub fn server_port(&self) -> u16 {
        self.server_port
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

    async fn start(folder: PathBuf, settings: Vec<String>) -> Result<Self> {
        let port = free_port()?;
        let child = run_postgres(&folder, port, &settings)?;
        let delay = database_delay();
        let server_port = if delay.is_zero() {
            port
        } else {
            start_proxy(port, delay)?
        };
        let cluster = Self {
            port,
            server_port,
            databases_made: AtomicU32::new(0),
            databases_left: Mutex::default(),
            folder,
            settings,
            child: Mutex::new(Arc::new(child)),
        };
        let superuser = async || cluster.connect(SUPERUSER, "postgres").await;
        let child = Arc::clone(&cluster.lock_child());
        let mut connection = child.ready(superuser).await?;
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

fn run_postgres(folder: &Path, port: u16, settings: &[String]) -> Result<Child> {
    let binary = binaries()?.join("postgres");
    let mut postgres = unprivileged(&binary, AtOurEnd::Signal("QUIT"));
    postgres
        .arg("-D")
        .arg(folder)
        .args(["-p", &port.to_string()]);
    let always = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=on",
        "max_connections=200",
    ];
    for setting in always
        .into_iter()
        .chain(settings.iter().map(String::as_str))
    {
        postgres.args(["-c", setting]);
    }
    Child::start("postgres", postgres, folder.join("test.log"))
}

/// Makes a cluster's folder of one that is kept for that.
fn copy_initialized(folder: &Path) -> Result<()> {
    let mut copy = unprivileged(Path::new("cp"), AtOurEnd::Leave);
    copy.arg("-a").arg(initialized(&binaries()?)?).arg(folder);
    run(copy)
}

impl Database {
    /// The URL for its owner, as servers under test use it.
    pub fn url(&self) -> String {
        self.url_at(self.cluster.server_port())
    }

    /// The URL for its owner by way of a proxy at `port`.
    pub fn url_at(&self, port: u16) -> String {
        let own = format!(":{}/", self.cluster.port());
        let url = self.cluster.url(OWNER, &self.name);
        url.replace(&own, &format!(":{port}/"))
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
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

    /// Reads one column until `is_so` says that the rows are as expected.
    pub async fn until(&self, query: &'static str, is_so: impl Fn(&[String]) -> bool) {
        let mut connection = self.connect().await;
        let asking = async {
            loop {
                let rows = sqlx::query_scalar(query).fetch_all(&mut connection).await;
                if is_so(&rows.expect("the query is right")) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, asking).await;
        found.expect("the database comes to be as expected");
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
pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) {
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
