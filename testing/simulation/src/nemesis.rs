//! What goes wrong, and when: crashes, restarts, partitions, outages, clocks that are off.
//!
//! All of it follows from a seed. Each fault is repaired after a while, and all of them when the
//! turbulence is over. It works between two ticks of the simulated network, and faults overlap; the torture's
//! nemesis works on processes, one fault after the other.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fastrand::Rng;
use turmoil::Sim;

use crate::{
    database::{Database, Faults},
    plan::{Plan, TURBULENCE, client_name, server_name},
    server::Host,
    trace::Trace,
};

/// The longest that messages are held back. What arrives after may be that old.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(1);

/// Times at which something was wrong: from and until.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    over: Vec<(Duration, Duration)>,
    since: Option<Duration>,
}

impl Spans {
    /// Whether it is wrong at `now`.
    fn record(&mut self, is_wrong: bool, now: Duration) {
        match (is_wrong, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(since)) => {
                self.over.push((since, now));
                self.since = None;
            }
            _ => {}
        }
    }

    /// How much of a span of time nothing was wrong.
    pub(crate) fn available(&self, from: Duration, until: Duration) -> Duration {
        let away: Duration = self
            .over
            .iter()
            .map(|(start, end)| (*end).min(until).saturating_sub((*start).max(from)))
            .sum();
        until.saturating_sub(from).saturating_sub(away)
    }
}

/// Something that is broken now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    /// The server does not run.
    ServerDown(usize),
    /// The server drains and stops, and is then started again.
    Restarting(usize),
    /// A client and a server lose all messages between them.
    Partition(usize, usize),
    /// Messages between a client and a server wait.
    HoldPackets(usize, usize),
    DatabaseDown,
    /// One server does not reach the database.
    CutOff(usize),
    DatabaseSlow,
}

/// See the module.
pub(crate) struct SimulatedNemesis {
    rng: Rng,
    clients: usize,
    hosts: Vec<Host>,
    database: Arc<Database>,
    faults: Faults,
    trace: Trace,
    next_at: Duration,
    /// What is broken, and when it is repaired.
    damages: BTreeMap<Damage, Duration>,
    outages: Spans,
    disturbances: Spans,
}

impl SimulatedNemesis {
    pub(crate) fn new(
        plan: &Plan,
        hosts: Vec<Host>,
        database: Arc<Database>,
        trace: Trace,
    ) -> Self {
        database.set_faults(plan.faults);
        Self {
            rng: Rng::with_seed(plan.nemesis_seed),
            clients: plan.clients.len(),
            hosts,
            database,
            faults: plan.faults,
            trace,
            next_at: plan.turbulent_from,
            damages: BTreeMap::new(),
            outages: Spans::default(),
            disturbances: Spans::default(),
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn act(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let is_over = now >= TURBULENCE;
        let due = self
            .damages
            .iter()
            .filter(|(_, until)| is_over || **until <= now);
        for damage in due.map(|(damage, _)| damage.clone()).collect::<Vec<_>>() {
            if self.repair(sim, &damage) {
                self.damages.remove(&damage);
            }
        }
        if is_over {
            self.database.set_faults(Faults::default());
        } else if now >= self.next_at {
            self.next_at = now + self.millis(300..7000);
            self.harm(sim, now);
        }
        self.watch(sim, now);
    }

    /// When nothing could have been done for a client. Ongoing outages count until `now`.
    pub(crate) fn outages(&self) -> Spans {
        self.outages.clone()
    }

    /// When anything was broken.
    pub(crate) fn disturbances(&self) -> Spans {
        self.disturbances.clone()
    }

    fn watch(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let mut servers = 0..self.hosts.len();
        let is_any_up = servers.any(|server| sim.is_host_running(server_name(server)));
        let is_away = self.database.is_down() || !is_any_up;
        self.outages.record(is_away, now);
        self.disturbances.record(!self.damages.is_empty(), now);
    }

    fn harm(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let server = self.rng.usize(0..self.hosts.len());
        let client = self.rng.usize(0..self.clients);
        let (damage, lasts) = match self.rng.u32(0..12) {
            0..=2 => (Damage::ServerDown(server), self.millis(100..12_000)),
            3 => (Damage::Restarting(server), Duration::ZERO),
            4..=5 => (Damage::Partition(client, server), self.millis(500..16_000)),
            6 => {
                let max = u64::try_from(HOLD_MAX.as_millis()).unwrap_or(u64::MAX);
                (Damage::HoldPackets(client, server), self.millis(100..max))
            }
            7 => (Damage::DatabaseDown, self.millis(200..4000)),
            8 => (Damage::DatabaseDown, self.millis(4000..22_000)),
            9 => (Damage::CutOff(server), self.millis(500..14_000)),
            10 => (Damage::DatabaseSlow, self.millis(500..5000)),
            _ => return self.skew(server),
        };
        if self.conflicts(&damage) {
            return;
        }
        self.trace.note(
            "nemesis",
            &format!("{damage:?} for {} ms", lasts.as_millis()),
        );
        match damage {
            Damage::ServerDown(server) => sim.crash(server_name(server)),
            Damage::Restarting(server) => self.hosts[server].drain(),
            Damage::Partition(client, server) => {
                sim.partition(client_name(client), server_name(server));
            }
            Damage::HoldPackets(client, server) => {
                sim.hold(client_name(client), server_name(server));
            }
            Damage::DatabaseDown => self.database.set_down(true),
            Damage::CutOff(server) => self.database.cut_off(&server_name(server)),
            Damage::DatabaseSlow => self.database.set_faults(Faults {
                delay_ms_max: 1200,
                ..self.faults
            }),
        }
        self.damages.insert(damage, now + lasts);
    }

    /// Whether it cannot be broken in this way now, since it is broken in another.
    fn conflicts(&self, damage: &Damage) -> bool {
        let has = |damage| self.damages.contains_key(&damage);
        match *damage {
            Damage::ServerDown(server) | Damage::Restarting(server) => {
                has(Damage::ServerDown(server)) || has(Damage::Restarting(server))
            }
            Damage::Partition(client, server) | Damage::HoldPackets(client, server) => {
                has(Damage::Partition(client, server)) || has(Damage::HoldPackets(client, server))
            }
            ref other => self.damages.contains_key(other),
        }
    }

    /// Repairs it, if it can be repaired now.
    fn repair(&self, sim: &mut Sim<'_>, damage: &Damage) -> bool {
        match *damage {
            Damage::ServerDown(server) => sim.bounce(server_name(server)),
            Damage::Restarting(server) => {
                if sim.is_host_running(server_name(server)) {
                    return false;
                }
                sim.bounce(server_name(server));
            }
            Damage::Partition(client, server) => {
                sim.repair(client_name(client), server_name(server));
            }
            Damage::HoldPackets(client, server) => {
                sim.release(client_name(client), server_name(server));
            }
            Damage::DatabaseDown => self.database.set_down(false),
            Damage::CutOff(server) => self.database.reconnect(&server_name(server)),
            Damage::DatabaseSlow => self.database.set_faults(self.faults),
        }
        self.trace.note("nemesis", &format!("{damage:?} is over"));
        true
    }

    /// Sets a server's clock off by up to an hour, either way.
    fn skew(&mut self, server: usize) {
        let offset_ms = self.rng.i64(-3_600_000..3_600_000);
        self.trace.note(
            "nemesis",
            &format!("clock of server {server} off by {offset_ms} ms"),
        );
        let offset = &self.hosts[server].clock_offset_ms;
        offset.store(offset_ms, Ordering::Relaxed);
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }
}
