//! Programs that run beside the tests and end with them.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

/// How long a program may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How often is looked whether it is.
const READY_INTERVAL: Duration = Duration::from_millis(15);

/// A running program. It is killed by the system when this process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Child {
    name: &'static str,
    process: u32,
    log: PathBuf,
    /// How it ended, once it has.
    ended: Arc<OnceLock<String>>,
}

impl Child {
    /// Starts `command`, made by [`unprivileged`] with a death signal, and writes what it says to
    /// `log`.
    pub(crate) fn start(name: &'static str, mut command: Command, log: PathBuf) -> Result<Self> {
        let output =
            fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        command.stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let ended = Arc::new(OnceLock::new());
        let (started, result) = mpsc::sync_channel(1);
        let told = Arc::clone(&ended);
        // The death signal comes when the *thread* that started the program ends; so this one
        // stays, and also records the program's end.
        thread::spawn(move || match command.spawn() {
            Ok(mut child) => {
                let _ = started.send(Ok(child.id()));
                let how = match child.wait() {
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                };
                told.set(how).expect("only this thread tells");
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        });
        let process = result.recv()?.with_context(|| format!("starting {name}"))?;
        Ok(Self {
            name,
            process,
            log,
            ended,
        })
    }

    /// Sends it a signal, unless it has ended. It need not have by the time this returns.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        if self.ended.get().is_some() {
            return Ok(());
        }
        let mut kill = Command::new("kill");
        kill.args([&format!("-{signal}"), &self.process.to_string()]);
        run(kill)
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while self.ended.get().is_none() {
            if Instant::now() > deadline {
                bail!("{} does not end", self.name);
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
        Ok(())
    }

    /// Waits until `probe` succeeds. If the program ends before, or takes too long, the error has
    /// its last words.
    pub(crate) async fn ready<T>(&self, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let failure = match probe().await {
                Ok(ready) => return Ok(ready),
                Err(error) => error,
            };
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(how) = self.ended.get() {
                bail!(
                    "{} ended ({how}) before it was ready:\n{}",
                    self.name,
                    log()
                );
            }
            if Instant::now() > deadline {
                bail!("{} is not ready: {failure:#}\n{}", self.name, log());
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }
}

/// What becomes of a program when the thread that started it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AtOurEnd {
    /// It is a short one and goes on to its end.
    Leave,
    /// It gets this signal.
    Signal(&'static str),
}

/// A command that runs `program` as the user `postgres` if we are root, since servers refuse root.
pub(crate) fn unprivileged(program: &Path, at_our_end: AtOurEnd) -> Command {
    let mut command = Command::new("setpriv");
    if our_user_id() == 0 {
        command.args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--clear-groups",
        ]);
    }
    if let AtOurEnd::Signal(signal) = at_our_end {
        command.args(["--pdeathsig", signal]);
    }
    // Otherwise a locale that the machine lacks, or a folder closed to that user, gets in the way.
    command.env("LC_ALL", "C").current_dir("/");
    command.arg("--").arg(program);
    command
}

/// Runs a command to its end, and fails with what it said if it fails.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}):\n{said}", output.status);
    }
    Ok(())
}

/// Finds a program in the path or in one of `folders`, or says how to get it.
pub(crate) fn find(program: &str, folders: &[PathBuf], package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = folders.iter().cloned().chain(std::env::split_paths(&path));
    let mut candidates = places.map(|folder| folder.join(program));
    let found = candidates.find(|candidate| candidate.is_file());
    found.with_context(|| format!("there is no `{program}`; install it: apt-get install {package}"))
}

/// A folder of this process's own, which stays as long as the process, and the programs that use it,
/// live. Those of processes that are no more are removed.
pub(crate) fn run_folder(name: &str) -> Result<PathBuf> {
    let prefix = format!("duologue-{name}-{}-run-", our_user_id());
    for entry in fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else {
            continue;
        };
        if !Path::new("/proc").join(process).exists() {
            // Another test process may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(std::env::temp_dir().join(format!("{prefix}{}", std::process::id())))
}

pub(crate) fn our_user_id() -> u32 {
    fs::metadata("/proc/self").map_or(0, |process| process.uid())
}

/// A port of loopback that nobody listens on.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}
