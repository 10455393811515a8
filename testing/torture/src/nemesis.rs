//! What happens to the server, its clients' connections, and its database: a plan drawn from a seed.
//!
//! It works on processes and sockets, one fault after the other, and waits for each. The simulation's nemesis
//! works between two ticks, where faults overlap; they have no code in common.

use std::{collections::BTreeMap, fs, ops::Range, path::Path, time::Duration};

use anyhow::{Context, Result};
use fastrand::Rng;
use tokio::process::Command;

use crate::{
    ground::Ground,
    history::{Finding, of_server},
    link::{Cut, Link},
    options::Planted,
    server::Server,
};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL, and another start on the same store.
    Kill,
    /// SIGTERM, and another start. The exit code must be 0, in time.
    Terminate,
    /// SIGSTOP, for up to longer than a lease, then SIGCONT.
    Freeze,
    /// RST on all connections of clients.
    ResetClients,
    /// FIN on all connections of clients, without a close frame.
    FinishClients,
    /// Nothing passes between clients and server for a while.
    StallClients,
    /// The kernel destroys the server's sockets, where it can.
    DestroySockets,
    /// The database is killed without a chance to say goodbye, and recovers.
    CrashDatabase,
    /// All sessions of the database are ended by an administrator.
    TerminateBackends,
    /// RST on all connections to the database.
    ResetDatabase,
    /// Nothing passes between server and database, for up to longer than a statement may take.
    StallDatabase,
}

const FAULTS_OF_ALL: &[Fault] = &[
    Fault::Terminate,
    Fault::Freeze,
    Fault::ResetClients,
    Fault::FinishClients,
    Fault::StallClients,
    Fault::DestroySockets,
];

const FAULTS_OF_POSTGRES: &[Fault] = &[
    Fault::CrashDatabase,
    Fault::TerminateBackends,
    Fault::ResetDatabase,
    Fault::StallDatabase,
];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 and restart",
            Self::Terminate => "SIGTERM and restart",
            Self::Freeze => "SIGSTOP, SIGCONT",
            Self::ResetClients => "clients' connections reset",
            Self::FinishClients => "clients' connections closed",
            Self::StallClients => "clients' connections stalled",
            Self::DestroySockets => "sockets destroyed by ss -K",
            Self::CrashDatabase => "database crashed",
            Self::TerminateBackends => "database backends terminated",
            Self::ResetDatabase => "database connections reset",
            Self::StallDatabase => "database connections stalled",
        }
    }
}

/// Injects the faults into real processes.
pub(crate) struct ProcessNemesis<'a> {
    pub(crate) rng: Rng,
    pub(crate) server: &'a mut Server,
    pub(crate) clients: &'a Link,
    pub(crate) ground: &'a Ground,
    pub(crate) folder: &'a Path,
    pub(crate) planted: Option<Planted>,
    pub(crate) progress: fn(&str),
    /// How often what went wrong.
    pub(crate) faults: BTreeMap<&'static str, u32>,
    /// What the server did that it must not.
    pub(crate) findings: Vec<Finding>,
}

impl ProcessNemesis<'_> {
    /// Kills the server so many times, each at a moment of its own, and lets other things go wrong
    /// in between. In the end all is healed.
    pub(crate) async fn rage(
        &mut self,
        kills: u32,
        pauses_milliseconds: Range<u64>,
        only_kills: bool,
    ) -> Result<()> {
        for kill in 1..=kills {
            if !only_kills {
                self.pause(100..1000).await;
                let fault = self.another_fault();
                self.inflict(fault).await?;
            }
            self.pause(pauses_milliseconds.clone()).await;
            if let Some(status) = self.server.ended_by_itself() {
                let error = anyhow::anyhow!("it ended by itself: {status}");
                self.findings.push(of_server(&error));
            }
            self.server.kill().await?;
            self.plant(kill, kills)?;
            self.pause(0..300).await;
            self.restart().await?;
            self.note(Fault::Kill);
            (self.progress)(&format!("kill {kill} of {kills}"));
        }
        Ok(())
    }

    fn another_fault(&mut self) -> Fault {
        let of_postgres = match self.ground {
            Ground::Sqlite { .. } => &[],
            Ground::Postgres { .. } => FAULTS_OF_POSTGRES,
        };
        let all = FAULTS_OF_ALL.iter().chain(of_postgres).copied();
        self.rng
            .choice(all.collect::<Vec<_>>())
            .expect("there are some")
    }

    async fn inflict(&mut self, fault: Fault) -> Result<()> {
        (self.progress)(fault.name());
        let happened = match fault {
            Fault::Kill => true,
            Fault::Terminate => {
                let terminated = self.server.terminate().await;
                self.findings
                    .extend(terminated.as_ref().err().map(of_server));
                self.restart().await?;
                true
            }
            Fault::Freeze => {
                self.server.signal("STOP").await?;
                self.pause(100..2500).await;
                self.server.signal("CONT").await?;
                true
            }
            Fault::ResetClients => {
                self.clients.cut(Cut::Reset);
                true
            }
            Fault::FinishClients => {
                self.clients.cut(Cut::Finish);
                true
            }
            Fault::StallClients => {
                self.clients.stall();
                self.pause(100..1200).await;
                self.clients.flow();
                true
            }
            Fault::DestroySockets => self.destroy_sockets().await?,
            Fault::CrashDatabase
            | Fault::TerminateBackends
            | Fault::ResetDatabase
            | Fault::StallDatabase => self.upset_database(fault).await?,
        };
        if happened {
            self.note(fault);
        }
        Ok(())
    }

    async fn upset_database(&mut self, fault: Fault) -> Result<bool> {
        let Ground::Postgres { database, link } = self.ground else {
            return Ok(false);
        };
        match fault {
            Fault::CrashDatabase => database.cluster().crash_and_restart().await,
            Fault::TerminateBackends => {
                let mut connection = database.connect_as_superuser().await;
                let terminate = "select pg_terminate_backend(pid) from pg_stat_activity \
                                 where datname = current_database() and pid <> pg_backend_pid()";
                sqlx::query(terminate).execute(&mut connection).await?;
            }
            Fault::ResetDatabase => link.cut(Cut::Reset),
            _stall => {
                link.stall();
                self.pause(100..2500).await;
                link.flow();
            }
        }
        Ok(true)
    }

    /// Not every kernel can; then nothing happens.
    async fn destroy_sockets(&self) -> Result<bool> {
        let port = self.server.address().context("the server runs")?.port();
        let mut ss = Command::new("ss");
        ss.args(["-K", "-t", "-n", "-H", "state", "established"]);
        ss.arg(format!("( sport = :{port} )"));
        let output = ss
            .output()
            .await
            .context("`ss` is missing; install it: apt-get install iproute2")?;
        Ok(output.status.success() && !output.stdout.is_empty())
    }

    async fn restart(&mut self) -> Result<()> {
        let address = self.server.start().await?;
        self.clients.lead_to(address);
        Ok(())
    }

    /// Puts the fault in place that the run must find. The server is down.
    fn plant(&mut self, kill: u32, kills: u32) -> Result<()> {
        let backup = self.folder.join("backup");
        match self.planted {
            Some(Planted::RestoredBackup) if kill == 1 => {
                fs::create_dir(&backup)?;
                copy_database(self.folder, &backup)?;
            }
            Some(Planted::RestoredBackup) if kill == kills => copy_database(&backup, self.folder)?,
            Some(Planted::DoubledFrames) if kill == 1 => self.clients.double(DOUBLED_FRAMES),
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, fault: Fault) {
        *self.faults.entry(fault.name()).or_default() += 1;
    }

    async fn pause(&mut self, milliseconds: Range<u64>) {
        let pause = Duration::from_millis(self.rng.u64(milliseconds));
        tokio::time::sleep(pause).await;
    }
}

/// How many frames of clients pass twice where that is planted: enough that some have no id.
const DOUBLED_FRAMES: u32 = 30;

/// Replaces the files of one SQLite database by those of another.
fn copy_database(from: &Path, to: &Path) -> Result<()> {
    let is_database = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("duologue.db")
    };
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if is_database(&entry) {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if is_database(&entry) {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
