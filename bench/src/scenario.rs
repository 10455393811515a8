//! The scenarios: what clients do, on which stores, and which figures must be reached.

pub(crate) mod scale;

use std::time::Duration;

use crate::script::Script;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) load: Load,
    /// By what the CPU time is divided.
    pub(crate) unit: Unit,
    pub(crate) stores: &'static [StoreKind],
    /// The time that each round trip to the database takes longer.
    pub(crate) delay: Duration,
    /// Whether other servers are measured too.
    pub(crate) has_peers: bool,
    pub(crate) goals: &'static [Goal],
}

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Each of the sessions has turns, one after the other.
    Turns(TurnLoad),
    /// Sessions come, have one short turn, and end; some of them at once.
    Churn { sessions: u32, at_once: u32 },
    /// Sessions are connected, and do nothing.
    Idle { sessions: u32, window: Duration },
}

/// Sessions that have turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnLoad {
    pub(crate) sessions: u32,
    /// Of each session.
    pub(crate) turns: u32,
    pub(crate) script: Script,
    /// The time within which the sessions begin, evenly.
    pub(crate) stagger: Duration,
}

/// By what CPU time is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Token,
    Turn,
    Session,
}

impl Unit {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Turn => "turn",
            Self::Session => "session",
        }
    }
}

/// Where sessions are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StoreKind {
    Sqlite,
    Postgres,
}

impl StoreKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// What must be reached on a store, as far as it is about a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) store: StoreKind,
    /// Of the server's CPU time per unit to the relay's in the same repetition.
    pub(crate) ratio_max: Option<f64>,
    /// The database's CPU time per unit, in microseconds.
    pub(crate) database_max: Option<f64>,
    /// The 99th percentile of the time from the last token to `done`, in milliseconds.
    pub(crate) done_max: Option<f64>,
    /// Memory per idle session, in kB.
    pub(crate) kilobytes_max: Option<f64>,
    /// CPU time per idle session and second, in microseconds.
    pub(crate) idle_max: Option<f64>,
}

const fn goal(store: StoreKind) -> Goal {
    Goal {
        store,
        ratio_max: None,
        database_max: None,
        done_max: None,
        kilobytes_max: None,
        idle_max: None,
    }
}

const fn ratio(store: StoreKind, max: f64) -> Goal {
    Goal {
        ratio_max: Some(max),
        ..goal(store)
    }
}

const fn with_database(store: StoreKind, ratio_max: f64, database_max: f64) -> Goal {
    Goal {
        database_max: Some(database_max),
        ..ratio(store, ratio_max)
    }
}

const fn idle(store: StoreKind) -> Goal {
    Goal {
        kilobytes_max: Some(12.0),
        idle_max: Some(2.0),
        ..goal(store)
    }
}

/// The default of `socket.ping_interval`: in this time each idle connection has one ping.
const PING_INTERVAL: Duration = Duration::from_secs(25);

const BOTH: &[StoreKind] = &[StoreKind::Sqlite, StoreKind::Postgres];
const POSTGRES: &[StoreKind] = &[StoreKind::Postgres];

const S1: Script = Script {
    tokens: 400,
    tokens_per_write: 1,
    pace: Duration::ZERO,
};

const fn paced(sessions: u32, tokens: u32, per_second: u32) -> Load {
    Load::Turns(TurnLoad {
        sessions,
        turns: 1,
        script: Script {
            tokens,
            tokens_per_write: 1,
            pace: Duration::from_micros(1_000_000 / per_second as u64),
        },
        stagger: Duration::from_secs(1),
    })
}

/// What most scenarios have in common.
const BASE: Scenario = Scenario {
    name: "",
    about: "",
    load: Load::Turns(TurnLoad {
        sessions: 200,
        turns: 3,
        script: S1,
        stagger: Duration::ZERO,
    }),
    unit: Unit::Token,
    stores: BOTH,
    delay: Duration::ZERO,
    has_peers: true,
    goals: &[],
};

/// All scenarios, in the order in which they run.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "S1",
        about: "200 sessions × 3 turns × 400 tokens without a pause, one token per upstream write",
        goals: &[
            ratio(StoreKind::Sqlite, 1.2),
            ratio(StoreKind::Postgres, 1.2),
        ],
        ..BASE
    },
    Scenario {
        name: "S1b",
        about: "as S1, with 16 tokens per upstream write",
        load: Load::Turns(TurnLoad {
            sessions: 200,
            turns: 3,
            script: Script {
                tokens_per_write: 16,
                ..S1
            },
            stagger: Duration::ZERO,
        }),
        goals: &[
            ratio(StoreKind::Sqlite, 1.3),
            ratio(StoreKind::Postgres, 1.3),
        ],
        ..BASE
    },
    Scenario {
        name: "S2-100",
        about: "100 sessions × 100 tokens at 50 tokens/s each",
        load: paced(100, 100, 50),
        goals: &[ratio(StoreKind::Postgres, 1.4)],
        ..BASE
    },
    Scenario {
        name: "S2-500",
        about: "500 sessions × 100 tokens at 50 tokens/s each",
        load: paced(500, 100, 50),
        goals: &[ratio(StoreKind::Postgres, 1.3)],
        ..BASE
    },
    Scenario {
        name: "S2-1000",
        about: "1,000 sessions × 100 tokens at 50 tokens/s each",
        load: paced(1000, 100, 50),
        ..BASE
    },
    Scenario {
        name: "S3",
        about: "5,000 sessions that are connected and do nothing, before and after a turn",
        load: Load::Idle {
            sessions: 5000,
            window: PING_INTERVAL,
        },
        unit: Unit::Session,
        goals: &[idle(StoreKind::Sqlite), idle(StoreKind::Postgres)],
        ..BASE
    },
    Scenario {
        name: "S4",
        about: "500 sessions × 10 turns of one token",
        load: Load::Turns(TurnLoad {
            sessions: 500,
            turns: 10,
            script: Script::ONE_TOKEN,
            stagger: Duration::ZERO,
        }),
        unit: Unit::Turn,
        goals: &[
            ratio(StoreKind::Sqlite, 1.5),
            with_database(StoreKind::Postgres, 2.0, 150.0),
        ],
        ..BASE
    },
    Scenario {
        name: "S5",
        about: "1,000 times, 50 at once: connect, one turn of one token, disconnect, summary, finished row",
        load: Load::Churn {
            sessions: 1000,
            at_once: 50,
        },
        unit: Unit::Session,
        goals: &[with_database(StoreKind::Postgres, 3.5, 500.0)],
        ..BASE
    },
    Scenario {
        name: "far",
        about: "2,000 simultaneous answers at 10 tokens/s each, 20 ms to the database",
        load: paced(2000, 100, 10),
        stores: POSTGRES,
        delay: Duration::from_millis(20),
        has_peers: false,
        goals: &[Goal {
            done_max: Some(1000.0),
            ..goal(StoreKind::Postgres)
        }],
        ..BASE
    },
    Scenario {
        name: "lone",
        about: "one session with 500 turns of one token, one after the other",
        load: Load::Turns(TurnLoad {
            sessions: 1,
            turns: 500,
            script: Script::ONE_TOKEN,
            stagger: Duration::ZERO,
        }),
        unit: Unit::Turn,
        has_peers: false,
        ..BASE
    },
];

impl Scenario {
    /// The same with few sessions, to see that it works. No figure is judged.
    pub(crate) fn small(mut self) -> Self {
        self.goals = &[];
        // Each start of another server takes a second.
        self.has_peers &= matches!(self.name, "S4" | "S5");
        self.load = match self.load {
            Load::Turns(mut load) => {
                load.script.tokens = load.script.tokens.min(40);
                load.sessions = load.sessions.min(20);
                load.turns = load.turns.min(2);
                load.stagger = Duration::ZERO;
                Load::Turns(load)
            }
            Load::Churn { .. } => Load::Churn {
                sessions: 20,
                at_once: 10,
            },
            Load::Idle { .. } => Load::Idle {
                sessions: 50,
                window: Duration::from_millis(200),
            },
        };
        self
    }

    /// How many sessions are connected at once.
    pub(crate) fn sessions(&self) -> u32 {
        match self.load {
            Load::Turns(load) => load.sessions,
            Load::Idle { sessions, .. } => sessions,
            Load::Churn { at_once, .. } => at_once,
        }
    }

    /// The figure to reach on a store.
    pub(crate) fn goal(&self, store: StoreKind) -> Option<Goal> {
        self.goals.iter().find(|goal| goal.store == store).copied()
    }
}
