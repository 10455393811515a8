//! The real binary, to be killed, stopped, and started again on the same store.

use std::{
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use duologue_integration::{
    DEADLINE, GENEROUS_LIMITS,
    process::{binary, read_address, run_to_end},
};
use tokio::process::{Child, Command};

use crate::history::{Finding, FindingKind};

/// How long the server's running answers may go on after SIGTERM.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What it may take longer than that, on a machine under load.
const EXIT_SLACK: Duration = Duration::from_secs(8);

/// How the server differs from one out of the box: what takes half a minute there takes a second
/// here, so that all is quiet soon after the last client has gone.
const SETTINGS: &[(&str, &str)] = &[
    ("DUOLOGUE_SERVER__DRAIN_TIMEOUT", "2s"),
    ("DUOLOGUE_MODEL__MOCK__DIRECTIVES", "true"),
    ("DUOLOGUE_MODEL__MOCK__DELAY", "4ms"),
    ("DUOLOGUE_SESSION__RESUME_GRACE", "1500ms"),
    ("DUOLOGUE_CLUSTER__LEASE", "1500ms"),
    ("DUOLOGUE_CLUSTER__HEARTBEAT_INTERVAL", "400ms"),
    ("DUOLOGUE_SESSION__SWEEP_INTERVAL", "300ms"),
    ("DUOLOGUE_SESSION__STORAGE_RETRY_TIMEOUT", "10s"),
    ("DUOLOGUE_SESSION__DRAFT_INTERVAL", "50ms"),
    ("DUOLOGUE_SESSION__READER_FRAMES_MAX", "512"),
    ("DUOLOGUE_JOBS__LEASE", "1500ms"),
    ("DUOLOGUE_JOBS__LEASE_RENEWAL_INTERVAL", "400ms"),
    ("DUOLOGUE_JOBS__POLL_INTERVAL", "300ms"),
    ("DUOLOGUE_STORE__STATEMENT_TIMEOUT", "1s"),
    ("DUOLOGUE_STORE__LOCK_TIMEOUT", "1s"),
    ("DUOLOGUE_STORE__ACQUIRE_TIMEOUT", "1s"),
];

/// For how long a session waits for a client, as set above.
pub(crate) const GRACE: Duration = Duration::from_millis(1500);

/// The binary, running or not.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its working directory. Its log is there, and a SQLite file if it has one.
    folder: PathBuf,
    store_url: String,
    child: Option<Child>,
    address: Option<SocketAddr>,
}

impl Server {
    /// Not started yet.
    pub(crate) fn new(folder: PathBuf, store_url: String) -> Self {
        Self {
            folder,
            store_url,
            child: None,
            address: None,
        }
    }

    /// Where its log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Its environment.
    pub(crate) fn settings(&self) -> Vec<(&str, &str)> {
        let url = ("DUOLOGUE_STORE__URL", self.store_url.as_str());
        let no_retry_is_the_last = ("DUOLOGUE_JOBS__RETRY_DELAYS", RETRY_DELAYS);
        SETTINGS
            .iter()
            .chain(GENEROUS_LIMITS)
            .copied()
            .chain([url, no_retry_is_the_last])
            .collect()
    }

    /// Starts it on what its predecessor left, and says where it listens.
    pub(crate) async fn start(&mut self) -> Result<SocketAddr> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(binary());
        command
            .args(["serve", "--port", "0"])
            .current_dir(&self.folder)
            .env_clear()
            .envs(self.settings())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().context("the binary does not run")?;
        let stdout = child.stdout.take().context("the output is piped")?;
        self.child = Some(child);
        let address = tokio::time::timeout(DEADLINE, read_address(stdout)).await;
        let address = address.context("the server does not start in time")??;
        self.address = Some(address);
        Ok(address)
    }

    /// Where it listens, while it runs.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// How it ended, if it did by itself.
    pub(crate) fn ended_by_itself(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        child.try_wait().ok().flatten()
    }

    /// Kills it as a crash would.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.address = None;
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Asks it to stop, and waits until it has, with exit code 0 and within its own limit.
    pub(crate) async fn terminate(&mut self) -> Result<()> {
        self.signal("TERM").await?;
        self.address = None;
        let mut child = self.child.take().context("the server runs")?;
        let limit = DRAIN_TIMEOUT + EXIT_SLACK;
        let Ok(status) = tokio::time::timeout(limit, child.wait()).await else {
            child.kill().await?;
            bail!("it was still there {limit:?} after SIGTERM");
        };
        let status = status?;
        anyhow::ensure!(status.success(), "it ended with {status} after SIGTERM");
        Ok(())
    }

    /// What `duologue verify` finds in what it has left.
    pub(crate) async fn verify(&self) -> Result<Vec<Finding>> {
        let output = run_to_end(&self.folder, &["verify"], &self.settings()).await;
        let found = String::from_utf8(output.stdout)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let finding = |line: &str| Finding::new(FindingKind::Verify, "the store", line);
        match output.status.code() {
            Some(0) => Ok(Vec::new()),
            Some(1) => Ok(found.lines().map(finding).collect()),
            _ => bail!(
                "`duologue verify` could not check: {}: {said}",
                output.status
            ),
        }
    }

    /// Sends it a signal.
    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.as_ref().and_then(Child::id);
        let pid = pid.context("the server runs")?.to_string();
        let mut kill = Command::new("kill");
        kill.args([&format!("-{signal}"), &pid]);
        anyhow::ensure!(kill.status().await?.success(), "kill -{signal} failed");
        Ok(())
    }
}

/// Waits between attempts at a job: more of them than a run has faults, so that no job is given up.
const RETRY_DELAYS: &str = r#"["100ms","200ms","300ms","500ms","500ms","500ms","500ms","500ms","500ms","500ms","500ms","500ms","500ms","500ms","500ms","500ms"]"#;
