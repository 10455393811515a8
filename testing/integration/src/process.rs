//! The real binary in a process of its own, for tests that kill it or measure it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Result, bail};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    DEADLINE,
    child::free_port,
    latency::database_delay,
    postgres::{Cluster, Database},
    server::{http, session_until},
};

/// The file of its folder that holds what it logs, after each restart too.
const LOG: &str = "server.log";

/// A running `duologue serve`.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    settings: Vec<(String, String)>,
    /// If its sessions are not in a file.
    postgres: Option<Database>,
}

/// Where a server writes its banner and its log.
#[derive(Debug)]
pub enum Outputs {
    /// Nowhere: both are closed when it starts.
    Closed,
    /// What the test has opened.
    To {
        /// For the banner.
        stdout: Stdio,
        /// For the log.
        stderr: Stdio,
    },
}

/// Builds the binary once per test run, and returns its path.
pub fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        let target = test
            .ancestors()
            .nth(2)
            .expect("tests are in <profile>/deps, and examples in <profile>/examples")
            .to_owned();
        let mut build = std::process::Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--package",
            "duologue-server",
            "--bin",
            "duologue",
        ]);
        let folder = target
            .parent()
            .expect("a profile's folder is in the target folder");
        let status = build
            .env("CARGO_TARGET_DIR", folder)
            .status()
            .expect("cargo is there");
        assert!(status.success(), "the binary must build");
        target.join("duologue")
    })
}

/// Runs another command of the binary to its end, with nothing in its environment but `settings`.
pub async fn run_to_end(folder: &Path, command: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut process = Command::new(binary());
    process
        .args(command)
        .current_dir(folder)
        .env_clear()
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, process.output()).await;
    output
        .expect("the command ends in time")
        .expect("the binary runs")
}

impl ServerProcess {
    /// Starts it in a folder of its own, with its defaults but for the port and the mock's pace.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts it with more settings, as variables of its environment.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        Self::start_in(folder, settings).await
    }

    /// Starts it on a file, or on Postgres if the environment says that the database is far away.
    pub async fn start_on_any_store(settings: &[(&str, &str)]) -> Self {
        if database_delay().is_zero() {
            return Self::start_with(settings).await;
        }
        let database = Cluster::get().await.database().await;
        let url = database.url();
        let settings = [settings, &[("DATABASE_URL", url.as_str())]].concat();
        let mut server = Self::start_with(&settings).await;
        server.postgres = Some(database);
        server
    }

    /// Starts it in a folder that holds another's files.
    pub async fn start_in(folder: TempDir, settings: &[(&str, &str)]) -> Self {
        Self::spawn(folder, owned(settings)).await
    }

    async fn spawn(folder: TempDir, settings: Vec<(String, String)>) -> Self {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.path().join(LOG))
            .expect("the folder can be written to");
        let mut command = Command::new(binary());
        command.stdout(Stdio::piped()).stderr(log);
        prepare(&mut command, &folder, &settings, 0);
        let mut child = command.spawn().expect("the binary runs");
        let stdout = child.stdout.take().expect("the output is piped");
        let address = tokio::time::timeout(DEADLINE, read_address(stdout)).await;
        let address = address.expect("the server starts in time");
        let address = address.unwrap_or_else(|error| panic!("{error:#}"));
        Self {
            child,
            address,
            folder,
            settings,
            postgres: None,
        }
    }

    /// Starts it with other outputs than a pipe that is read and a file.
    pub async fn start_writing_to(outputs: Outputs, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let settings = owned(settings);
        let mut command = match outputs {
            Outputs::Closed => {
                let mut shell = Command::new("/bin/sh");
                let script = r#"exec "$0" "$@" >&- 2>&-"#;
                shell.args(["-c", script]).arg(binary());
                shell
            }
            Outputs::To { stdout, stderr } => {
                let mut command = Command::new(binary());
                command.stdout(stdout).stderr(stderr);
                command
            }
        };
        let port = free_port().expect("there is a free port");
        prepare(&mut command, &folder, &settings, port);
        let child = command.spawn().expect("the binary runs");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let is_ready = async {
            let url = format!("http://{address}/readyz");
            while !http()
                .get(&url)
                .send()
                .await
                .is_ok_and(|ready| ready.status() == 200)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ready = tokio::time::timeout(DEADLINE, is_ready).await;
        ready.expect("the server starts in time");
        Self {
            child,
            address,
            folder,
            settings,
            postgres: None,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its files are, and where other commands find its database.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its id in the system.
    pub fn id(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    /// The path of its database.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("duologue.db")
    }

    /// The address of a session's socket.
    pub fn socket_url(&self, session: &str, query: &str) -> String {
        format!("ws://{}/ws/session/{session}{query}", self.address)
    }

    /// Memory in use, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let pid = self.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is ours");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("Linux says so");
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("it is a number")
    }

    /// What the system says of it, by the name of a file in `/proc/PID`.
    pub fn proc_file(&self, name: &str) -> String {
        let pid = self.child.id().expect("the process runs");
        let content = std::fs::read(format!("/proc/{pid}/{name}")).expect("it may be read");
        String::from_utf8_lossy(&content).into_owned()
    }

    /// Files and sockets that it has open. The system tells others than root only if it was started
    /// with `DUOLOGUE_SERVER__CORE_DUMPS=true`.
    pub fn file_descriptors(&self) -> usize {
        let pid = self.child.id().expect("the process runs");
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it may be read");
        open.count()
    }

    /// What it has logged so far, also before it was restarted. The lines of the last moment may be
    /// missing, since a thread of their own writes them.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join(LOG)).expect("there is a log");
        String::from_utf8(log).expect("a log is text")
    }

    /// Waits until the log is as expected, and returns it.
    pub async fn log_until(&self, is_so: impl Fn(&str) -> bool) -> String {
        let reading = async {
            loop {
                let log = self.log();
                if is_so(&log) {
                    return log;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, reading).await;
        found.unwrap_or_else(|_| panic!("the log is not as expected:\n{}", self.log()))
    }

    /// Makes a request, and returns the log with everything up to this request, which must be logged:
    /// that takes the filter `debug`.
    pub async fn log_up_to_now(&self) -> String {
        let url = format!("http://{}/healthz", self.address);
        let response = http().get(url).send().await.expect("the server answers");
        let id = response.headers()["x-request-id"].to_str();
        let id = id.expect("it is text").to_owned();
        self.log_until(|log| log.contains(&id)).await
    }

    /// Kills it as a crash would: SIGKILL, nothing flushed, nobody told.
    pub async fn kill(mut self) -> TempDir {
        self.child.kill().await.expect("the process can be killed");
        self.folder
    }

    /// Kills it and starts another on the same files.
    pub async fn kill_and_restart(self) -> Self {
        let settings = self.settings.clone();
        let folder = self.kill().await;
        Self::spawn(folder, settings).await
    }

    /// Asks it to stop by SIGTERM, and returns its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.stop().await
    }

    /// The same, and starts another on the same files.
    pub async fn terminate_and_restart(mut self) -> (Option<i32>, Self) {
        let code = self.stop().await;
        let mut next = Self::spawn(self.folder, self.settings).await;
        next.postgres = self.postgres;
        (code, next)
    }

    /// Sends it a signal, such as `STOP` or `CONT`.
    pub async fn signal(&self, signal: &str) {
        let pid = self.id().to_string();
        let mut kill = Command::new("kill");
        kill.args([&format!("-{signal}"), &pid]);
        let sent = kill.status().await;
        assert!(sent.expect("kill is there").success());
    }

    async fn stop(&mut self) -> Option<i32> {
        self.signal("TERM").await;
        let exited = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        exited
            .expect("it stops in time")
            .expect("it can be waited for")
            .code()
    }

    /// Reads one column of its database until `is_so` says that the rows are as expected.
    pub async fn database_until(&self, query: &'static str, is_so: impl Fn(&[String]) -> bool) {
        if let Some(database) = &self.postgres {
            return database.until(query, is_so).await;
        }
        let database =
            Connection::open_with_flags(self.database(), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let database = database.expect("the database can be read");
        let asking = async {
            loop {
                let mut statement = database.prepare(query).expect("the query is right");
                let rows = statement.query_map((), |row| row.get(0));
                let rows: Result<Vec<String>, _> = rows.expect("the query is right").collect();
                if is_so(&rows.expect("the query is right")) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, asking).await;
        found.expect("the database comes to be as expected");
    }

    /// Asks for a session's facts until `is_so` says that they are as expected.
    pub async fn session_until(
        &self,
        session: &str,
        user: &str,
        is_so: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        session_until(self.address, session, user, is_so).await
    }
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let settings = settings.iter();
    settings
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// What all servers have in common.
fn prepare(command: &mut Command, folder: &TempDir, settings: &[(String, String)], port: u16) {
    command
        .args(["serve", "--port", &port.to_string()])
        .current_dir(folder.path())
        .env_clear()
        .env("DUOLOGUE_MODEL__MOCK__DIRECTIVES", "true")
        .env("DUOLOGUE_MODEL__MOCK__DELAY", "0s")
        .envs(crate::GENEROUS_LIMITS.iter().copied())
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
}

/// Finds the address in what the server prints at its start.
#[expect(
    clippy::disallowed_methods,
    reason = "the task ends with the process whose output it reads"
)]
pub async fn read_address(stdout: tokio::process::ChildStdout) -> Result<SocketAddr> {
    let mut lines = BufReader::new(stdout).lines();
    let mut printed = String::new();
    while let Some(line) = lines.next_line().await? {
        let address = line
            .split_once("http://")
            .and_then(|(_, rest)| rest.split(['/', ' ']).next())
            .and_then(|address| address.parse().ok());
        if let Some(address) = address {
            // The rest is read as well, so that the server never waits for a full pipe.
            tokio::task::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(address);
        }
        printed.push_str(&line);
        printed.push('\n');
    }
    bail!("the server ended without saying where it listens:\n{printed}");
}
