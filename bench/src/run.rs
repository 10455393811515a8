//! One run: a server on an empty store, the load of a scenario, and the clocks of all processes.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    load::{self, Crowd, Faults},
    machine::{self, Memory},
    scenario::{Load, Scenario, StoreKind, TurnLoad, Unit},
    script::Script,
    session::{Record, Session, Timings},
    statistics::float,
    subject::{Running, Subject},
    surroundings::Surroundings,
};

/// How long the summaries of ended sessions may take.
const SUMMARIES_TIMEOUT: Duration = Duration::from_mins(2);

/// What a run has measured.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many tokens, turns or sessions the CPU time is divided by.
    pub(crate) units: u64,
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    /// Of all processes of the database, if the server stores sessions in Postgres.
    pub(crate) database_cpu: Option<Duration>,
    pub(crate) timings: Timings,
    pub(crate) faults: Faults,
    pub(crate) rows_checked: u64,
    pub(crate) idle: Option<Idle>,
}

/// What sessions cost that do nothing: as connected, and after a turn each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Idle {
    pub(crate) sessions: u64,
    pub(crate) before: Memory,
    pub(crate) connected: Measured,
    pub(crate) after_turn: Measured,
}

/// Memory and CPU time while nothing happens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) memory: Memory,
    /// CPU time per second.
    pub(crate) cpu: f64,
    /// The database's.
    pub(crate) database_cpu: f64,
}

/// The times of all clocks at one moment.
struct Clocks {
    at: Instant,
    server: Duration,
    database: Option<Duration>,
}

/// What passed on all clocks between two moments.
struct Elapsed {
    time: Duration,
    server: Duration,
    database: Option<Duration>,
}

impl Clocks {
    fn since(&self, before: &Self) -> Elapsed {
        let database = self.database.zip(before.database);
        Elapsed {
            time: self.at - before.at,
            server: self.server.saturating_sub(before.server),
            database: database.map(|(after, before)| after.saturating_sub(before)),
        }
    }

    fn read(running: &Running, around: &Surroundings) -> Result<Self> {
        let database = if running.uses_postgres() {
            Some(around.cluster()?.cpu()?)
        } else {
            None
        };
        Ok(Self {
            at: Instant::now(),
            server: machine::cpu(running.process.id())?,
            database,
        })
    }
}

/// The clients of a run, whose connections stay open until the server has been killed: a server stores
/// that a client has gone.
enum Clients {
    Connected(Vec<Session>),
    Gone(Vec<Record>),
}

/// Measures a server under a scenario's load. Faults of the server are part of the outcome.
pub(crate) async fn run(
    scenario: &Scenario,
    subject: &Subject,
    store: StoreKind,
    around: &Surroundings,
) -> Result<Outcome> {
    let mut running = subject.start(around, store, scenario.delay).await?;
    let mut outcome = Outcome::default();
    let clients = match scenario.load {
        Load::Turns(load) => turns(load, scenario.unit, &running, around, &mut outcome).await?,
        Load::Churn { sessions, at_once } => {
            let before = Clocks::read(&running, around)?;
            let records = churn(sessions, at_once, &running, around, &mut outcome).await?;
            outcome.clock(&before, &running, around)?;
            Clients::Gone(records)
        }
        Load::Idle { sessions, window } => {
            idle(sessions, window, &running, around, &mut outcome).await?
        }
    };
    running.process.ensure_running()?;
    finish(outcome, running, clients, around).await
}

/// Ends the server, and compares what is stored with what clients have seen.
async fn finish(
    mut outcome: Outcome,
    running: Running,
    clients: Clients,
    around: &Surroundings,
) -> Result<Outcome> {
    let stored = running.stop();
    let (mut records, ended) = match clients {
        Clients::Connected(sessions) => {
            let records = sessions.into_iter().map(|session| session.record);
            (records.collect(), false)
        }
        Clients::Gone(records) => (records, true),
    };
    for record in &mut records {
        outcome.timings.append(&mut record.timings);
    }
    if let Some(stored) = stored {
        outcome.rows_checked = stored.check(around, &records, ended).await?;
        stored.remove(around).await?;
    }
    Ok(outcome)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, count) in &self.faults {
            write!(f, "{count} × {fault}; ")?;
        }
        if let Some(idle) = self.idle {
            let memory = idle
                .connected
                .memory
                .resident
                .saturating_sub(idle.before.resident);
            write!(f, "{} bytes per session; ", memory / idle.sessions.max(1))?;
        } else if self.units > 0 {
            write!(f, "{:.1} µs; ", self.server_micros())?;
        }
        if let Some(micros) = self.database_micros() {
            write!(f, "{micros:.1} µs of the database; ")?;
        }
        write!(f, "{} rows checked", self.rows_checked)
    }
}

impl Outcome {
    /// That of a run that could not be finished, or that found wrong rows.
    pub(crate) fn failed(error: &anyhow::Error) -> Self {
        Self {
            faults: Faults::from([(format!("{error:#}"), 1)]),
            ..Self::default()
        }
    }

    fn clock(&mut self, before: &Clocks, running: &Running, around: &Surroundings) -> Result<()> {
        let elapsed = Clocks::read(running, around)?.since(before);
        self.elapsed = elapsed.time;
        self.server_cpu = elapsed.server;
        self.database_cpu = elapsed.database;
        Ok(())
    }

    /// The server's CPU time per unit, in microseconds.
    pub(crate) fn server_micros(&self) -> f64 {
        per(self.server_cpu, self.units)
    }

    /// The database's CPU time per unit, in microseconds.
    pub(crate) fn database_micros(&self) -> Option<f64> {
        let cpu = self.database_cpu.filter(|_| self.units > 0)?;
        Some(per(cpu, self.units))
    }
}

fn per(duration: Duration, units: u64) -> f64 {
    duration.as_secs_f64() * 1e6 / float(units)
}

async fn turns(
    load: TurnLoad,
    unit: Unit,
    running: &Running,
    around: &Surroundings,
    outcome: &mut Outcome,
) -> Result<Clients> {
    let mut crowd = Crowd::connect(running.address(), load.sessions).await;
    // So that connections to the upstream are open, as they are in a server that has been running.
    crowd.turns(1, Script::ONE_TOKEN, load.stagger / 2).await;
    for session in &mut crowd.sessions {
        session.record.timings = Timings::default();
    }
    let before = Clocks::read(running, around)?;
    crowd.turns(load.turns, load.script, load.stagger).await;
    outcome.clock(&before, running, around)?;
    outcome.faults = crowd.faults;
    let per_session = match unit {
        Unit::Token => load.turns * load.script.tokens,
        Unit::Turn => load.turns,
        Unit::Session => 1,
    };
    outcome.units = crowd.sessions.len() as u64 * u64::from(per_session);
    Ok(Clients::Connected(crowd.sessions))
}

async fn churn(
    sessions: u32,
    at_once: u32,
    running: &Running,
    around: &Surroundings,
    outcome: &mut Outcome,
) -> Result<Vec<Record>> {
    let summaries_before = around.upstream.summaries();
    let (records, faults) = load::churn(running.address(), sessions, at_once).await;
    let count = records.len() as u64;
    let waiting = async {
        // Asking the database costs what is measured, so the upstream is asked first.
        while around.upstream.summaries() < summaries_before + count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let Some(stored) = &running.stored else {
            return Ok(());
        };
        while stored.summarized(around).await? < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    let waited = tokio::time::timeout(SUMMARIES_TIMEOUT, waiting).await;
    waited.context("not all sessions are summarised in time")??;
    outcome.faults = faults;
    outcome.units = count;
    Ok(records)
}

async fn idle(
    sessions: u32,
    window: Duration,
    running: &Running,
    around: &Surroundings,
    outcome: &mut Outcome,
) -> Result<Clients> {
    let before = machine::memory(running.process.id())?;
    let mut crowd = Crowd::connect(running.address(), sessions).await;
    let connected = measure_idle(&mut crowd, window, running, around).await?;
    crowd.turns(1, Script::ONE_TOKEN, window / 2).await;
    let after_turn = measure_idle(&mut crowd, window, running, around).await?;
    outcome.faults = crowd.faults;
    outcome.units = crowd.sessions.len() as u64;
    outcome.idle = Some(Idle {
        sessions: outcome.units,
        before,
        connected,
        after_turn,
    });
    Ok(Clients::Connected(crowd.sessions))
}

/// Waits until the server has settled, and then for the window.
async fn measure_idle(
    crowd: &mut Crowd,
    window: Duration,
    running: &Running,
    around: &Surroundings,
) -> Result<Measured> {
    let settling = window / 4;
    let measuring = async {
        tokio::time::sleep(settling).await;
        let memory = machine::memory(running.process.id())?;
        let before = Clocks::read(running, around)?;
        tokio::time::sleep(window).await;
        let elapsed = Clocks::read(running, around)?.since(&before);
        let seconds = elapsed.time.as_secs_f64();
        anyhow::Ok(Measured {
            memory,
            cpu: elapsed.server.as_secs_f64() / seconds,
            database_cpu: elapsed.database.unwrap_or_default().as_secs_f64() / seconds,
        })
    };
    // The clients stay a little longer than the clocks are read.
    let staying = crowd.idle(settling + window + window / 10);
    let (measured, ()) = tokio::join!(measuring, staying);
    measured
}
