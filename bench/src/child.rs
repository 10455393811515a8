//! Programs that the benchmark starts, and that end with it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// A running server. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// A command whose process the system kills when this thread ends, however it ends.
///
/// It must be started by the main thread, which ends last.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.stdin(Stdio::null());
    command
}

/// A command that is run by the user `postgres` if we are root, since Postgres refuses root.
pub(crate) fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if rustix::process::getuid().is_root() {
        command.args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--clear-groups",
        ]);
    }
    command.args(["--pdeathsig", "QUIT", "--"]).arg(program);
    // The working directory may be closed to that user.
    command
        .current_dir("/")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end, and fails with its errors if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output();
    let output = output.with_context(|| format!("{command:?} cannot be run"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}):\n{errors}", output.status);
    }
    Ok(())
}

impl ServerProcess {
    /// Starts a server that prints its address as a URL, and writes its log to `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(File::create(log)?);
        let child = command.spawn();
        let mut child = child.with_context(|| format!("{command:?} cannot be started"))?;
        let output = child.stdout.take().context("the output is piped")?;
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next().transpose()? {
            let address = line.split_once("http://");
            let address = address.and_then(|(_, rest)| rest.split(['/', ' ']).next());
            if let Some(address) = address.and_then(|address| address.parse().ok()) {
                // So that the server never waits for a full pipe.
                std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
                return Ok(Self { child, address });
            }
        }
        let log = std::fs::read_to_string(log).unwrap_or_default();
        bail!("{command:?} ended before it printed its address:\n{log}");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended, which no server should.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the server has ended: {status}"),
            None => Ok(()),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It fails if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
