//! What a process asks of the system, seen or refused: `strace`, attached for as long as a test wants.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{DEADLINE, child::find};

/// `strace` on all threads of a process.
#[derive(Debug)]
pub struct Trace {
    strace: Child,
    folder: TempDir,
}

impl Trace {
    /// Notes the calls of these names.
    pub async fn watch(process: u32, calls: &str) -> Self {
        Self::attach(process, &["-e", &format!("trace={calls}")]).await
    }

    /// Lets calls on one file fail. `calls` are their names, `error` is one such as `ENOSPC`.
    pub async fn refuse(process: u32, file: &Path, calls: &str, error: &str) -> Self {
        let file = file.to_str().expect("a test's paths are text");
        let inject = format!("inject={calls}:error={error}");
        Self::attach(process, &["-P", file, "-e", &inject]).await
    }

    async fn attach(process: u32, arguments: &[&str]) -> Self {
        let strace = find("strace", &[], "strace").unwrap_or_else(|error| panic!("{error:#}"));
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        // Each call with its thread and with the files it concerns, and with whole pages.
        let mut command = Command::new(strace);
        command
            .args(["-f", "-y", "-s", "20000"])
            .args(arguments)
            .arg("-o")
            .arg(log(&folder))
            .args(["-p", &process.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut strace = command.spawn().expect("strace runs");
        let stderr = strace.stderr.take().expect("its output is piped");
        let mut lines = BufReader::new(stderr).lines();
        let attaching = async {
            let line = lines.next_line().await.expect("it speaks text");
            line.unwrap_or_default()
        };
        let said = tokio::time::timeout(DEADLINE, attaching).await;
        let said = said.expect("strace attaches in time");
        assert!(said.contains("attached"), "strace cannot attach: {said}");
        Self { strace, folder }
    }

    /// The calls so far, one per line, as `strace` writes them.
    pub fn calls(&self) -> Vec<String> {
        let log = std::fs::read(log(&self.folder)).expect("strace writes its log at once");
        let log = String::from_utf8_lossy(&log);
        log.lines().map(str::to_owned).collect()
    }

    /// Waits until so many calls were refused.
    pub async fn until_refused(&self, count: usize) {
        let looking = async {
            loop {
                let calls = self.calls();
                let refused = calls.iter().filter(|call| call.contains("(INJECTED)"));
                if refused.count() >= count {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let refused = tokio::time::timeout(DEADLINE, looking).await;
        refused.expect("the process makes the calls that are refused");
    }

    /// Lets go of the process, which goes on, and returns the calls.
    pub async fn detach(mut self) -> Vec<String> {
        let process = self.strace.id().expect("strace runs").to_string();
        let sent = Command::new("kill").args(["-INT", &process]).status().await;
        assert!(sent.expect("kill is there").success());
        let ended = tokio::time::timeout(DEADLINE, self.strace.wait()).await;
        ended
            .expect("strace lets go in time")
            .expect("it can be waited for");
        self.calls()
    }
}

fn log(folder: &TempDir) -> PathBuf {
    folder.path().join("calls")
}
