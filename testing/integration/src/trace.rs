//! What a process asks of the system, seen or refused: `strace`, attached for as long as a test wants.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::{Child, Command};

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
        let said = folder.path().join("said");
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
            // A file, since it says more later, and must not find that nobody listens any more.
            .stderr(std::fs::File::create(&said).expect("the folder is ours"))
            .kill_on_drop(true);
        let strace = command.spawn().expect("strace runs");
        let attaching = until(|| read(&said).contains("attached"));
        assert!(attaching.await, "strace cannot attach: {}", read(&said));
        Self { strace, folder }
    }

    /// The calls so far, one per line, as `strace` writes them.
    pub fn calls(&self) -> Vec<String> {
        let calls = read(&log(&self.folder));
        calls.lines().map(str::to_owned).collect()
    }

    /// Waits until so many calls were refused.
    pub async fn until_refused(&self, count: usize) {
        let refused = || {
            let calls = self.calls().into_iter();
            calls.filter(|call| call.contains("(INJECTED)")).count()
        };
        let made = until(|| refused() >= count).await;
        assert!(made, "only {} calls were refused", refused());
    }

    /// Detaches from the process, which continues, and returns the calls.
    pub async fn detach(mut self) -> Vec<String> {
        let process = self.strace.id().expect("strace runs").to_string();
        let sent = Command::new("kill").args(["-INT", &process]).status().await;
        assert!(sent.expect("kill is there").success());
        let ended = tokio::time::timeout(DEADLINE, self.strace.wait()).await;
        ended
            .expect("strace detaches in time")
            .expect("it can be waited for");
        self.calls()
    }
}

fn log(folder: &TempDir) -> PathBuf {
    folder.path().join("calls")
}

fn read(file: &Path) -> String {
    let bytes = std::fs::read(file).expect("strace writes there");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether it comes to be so in time.
async fn until(is_so: impl Fn() -> bool) -> bool {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.is_ok()
}
