//! The browser tests: the shipped program with the mock model, driven by Playwright.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    external::{cargo, program, run as run_external},
    outcome::Outcome,
    setup,
};

/// A debug build that creates its database, on a machine that is busy compiling.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// More than the server gives its own turns to finish.
const STOP_TIMEOUT: Duration = Duration::from_secs(45);
/// For the server with authentication. The tests sign tokens with this secret, which is used nowhere
/// else.
const AUTHENTICATION: &[(&str, &str)] = &[
    ("DUOLOGUE_AUTH__MODE", "jwt"),
    ("DUOLOGUE_AUTH__ISSUER", "https://issuer.test"),
    ("DUOLOGUE_AUTH__AUDIENCE", "demo"),
    (
        "SUPABASE_JWT_SECRET",
        "the browser tests' own secret, known to all",
    ),
];
const LOG_LINES_SHOWN: usize = 40;
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Checks the page's types, builds the server, runs the tests against it, and stops it.
pub(crate) fn run(root: &Path, playwright_arguments: &[String]) -> anyhow::Result<Outcome> {
    let tests = root.join("web/e2e");
    setup::npm_packages(root)?;
    run_external(program("npm", &tests).args(["run", "--silent", "types"]))?;
    run_external(&mut cargo(root, "build --bin duologue"))?;

    let artifacts = tests.join("artifacts");
    fs::create_dir_all(&artifacts)
        .with_context(|| format!("cannot create {}", artifacts.display()))?;
    let server = Server::start(artifacts.join("server.log"), &[])?;
    let signed_in = Server::start(artifacts.join("signed-in.log"), AUTHENTICATION)?;
    let mut playwright = program("npx", &tests);
    playwright
        .args(["playwright", "test"])
        .args(playwright_arguments)
        .env("DUOLOGUE_URL", &server.url)
        .env("DUOLOGUE_SIGNED_IN_URL", &signed_in.url);
    let tested = run_external(&mut playwright);
    eprintln!("screenshots and the server's log are in web/e2e/artifacts");
    // A failed test says more than a failed stop, so it is reported first.
    let stopped = server.stop().and(signed_in.stop());
    tested.and(stopped).map(|()| Outcome::Done)
}

/// A running server. Dropping it kills it, so that no error leaves one behind.
struct Server {
    child: Child,
    url: String,
    log: PathBuf,
    directory: TemporaryFolder,
}

impl Server {
    fn start(log: PathBuf, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let name = log.file_stem().context("a log has a name")?;
        let directory = TemporaryFolder::create(&name.to_string_lossy())?;
        let address = free_address()?;
        let log_file =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        // Cargo puts programs of one profile side by side, so the server is beside this program.
        let duologue = std::env::current_exe()
            .context("cannot tell where this program is")?
            .with_file_name("duologue");
        let mut command = program(duologue, &directory.0);
        // The server has no other variables, so that no developer's keys or databases are used by accident.
        command
            .env_clear()
            .env("DUOLOGUE_SERVER__HOST", address.ip().to_string())
            .env("DUOLOGUE_SERVER__PORT", address.port().to_string())
            .env("DUOLOGUE_STORE__URL", "sqlite:e2e.db")
            .env("DUOLOGUE_MODEL__PROVIDER", "mock")
            .env("DUOLOGUE_MODEL__MOCK__DIRECTIVES", "true")
            .env("DUOLOGUE_MODEL__MOCK__DELAY", "20ms")
            // All pages have one address, and some of them one user.
            .env("DUOLOGUE_LIMITS__ADDRESS__HANDSHAKES_PER_SECOND", "1000")
            .env("DUOLOGUE_LIMITS__ADDRESS__HANDSHAKES_BURST", "1000")
            .env("DUOLOGUE_LIMITS__ADDRESS__UNATTACHED_MAX", "100")
            .env("DUOLOGUE_LIMITS__ADDRESS__AUTH_FAILURES_PER_MINUTE", "1000")
            .env("DUOLOGUE_LIMITS__CONNECTION__FRAMES_PER_MINUTE", "1000")
            .env("DUOLOGUE_LIMITS__CONNECTION__FRAMES_BURST", "1000")
            .env("DUOLOGUE_LIMITS__USER__SOCKETS_MAX", "100")
            .env("DUOLOGUE_LIMITS__USER__SESSIONS_MAX", "1000")
            .env("DUOLOGUE_LIMITS__USER__MESSAGES_PER_MINUTE", "1000")
            .env("DUOLOGUE_LIMITS__USER__TURNS_PER_MINUTE", "1000")
            .env("DUOLOGUE_LIMITS__USER__TURNS_RUNNING_MAX", "100")
            .env("DUOLOGUE_LIMITS__TOKENS__USER_PER_DAY_MAX", "10000000")
            .envs(settings.iter().copied())
            .stdout(log_file.try_clone()?)
            .stderr(log_file);
        let child = command.spawn().context("cannot start the server")?;
        let mut server = Self {
            child,
            url: format!("http://{address}"),
            log,
            directory,
        };
        server.wait_until_healthy(address)?;
        Ok(server)
    }

    fn wait_until_healthy(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_healthy(address) {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!(
                    "the server exited unexpectedly: {status}\n{}",
                    self.log_text()
                );
            }
            if Instant::now() > deadline {
                anyhow::bail!(
                    "{}/healthz is not 200 after {START_TIMEOUT:?}\n{}",
                    self.url,
                    self.log_text()
                );
            }
            pause();
        }
        Ok(())
    }

    /// Stops the server with SIGTERM; fails unless it exits successfully.
    fn stop(mut self) -> anyhow::Result<()> {
        // The shell's own `kill`: the standard library cannot send SIGTERM, and a minimal system
        // has no program of that name.
        let kill = format!("kill -TERM {}", self.child.id());
        run_external(program("sh", &self.directory.0).args(["-c", &kill]))?;
        let status = self.wait_for_exit()?;
        anyhow::ensure!(
            status.success(),
            "the server did not stop cleanly: {status}\n{}",
            self.log_text()
        );
        Ok(())
    }

    fn wait_for_exit(&mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "the server still runs {STOP_TIMEOUT:?} after SIGTERM\n{}",
                self.log_text()
            );
            pause();
        }
    }

    /// The end of the log, for the message of a failure.
    fn log_text(&self) -> String {
        match fs::read_to_string(&self.log) {
            Ok(log) => {
                let lines: Vec<_> = log.lines().collect();
                lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
            }
            Err(error) => format!("(its log cannot be read: {error})"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait())
        {
            eprintln!(
                "the server, process {}, may still run: {error}",
                self.child.id()
            );
        }
    }
}

struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn create(name: &str) -> anyhow::Result<Self> {
        let folder = format!("duologue-e2e-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// An address that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}

/// Whether `/healthz` returns 200. A refused or broken connection counts as no: the server may still be
/// starting.
fn is_healthy(address: SocketAddr) -> bool {
    const EXPECTED: &[u8] = b"HTTP/1.1 200 ";
    let request = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(
            stream,
            "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = [0; EXPECTED.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer == EXPECTED)
    };
    request().unwrap_or(false)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this program has no runtime that a sleeping thread could block"
)]
fn pause() {
    std::thread::sleep(POLL_INTERVAL);
}
