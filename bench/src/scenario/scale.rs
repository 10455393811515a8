//! The scaling run: the same work from few sessions to many, which should cost the same each.

use std::time::Duration;

use super::{BASE, Load, PING_INTERVAL, Scenario, TurnLoad, Unit};
use crate::script::Script;

/// So many sessions with turns of one token.
const fn turns(name: &'static str, sessions: u32, turns: u32) -> Scenario {
    Scenario {
        name,
        about: "turns of one token, one after the other in each session",
        load: Load::Turns(TurnLoad {
            sessions,
            turns,
            script: Script::ONE_TOKEN,
            stagger: Duration::ZERO,
        }),
        unit: Unit::Turn,
        ..BASE
    }
}

/// So many sessions with answers of 200 tokens.
const fn tokens(name: &'static str, sessions: u32, turns: u32) -> Scenario {
    Scenario {
        name,
        about: "answers of 200 tokens without a pause",
        load: Load::Turns(TurnLoad {
            sessions,
            turns,
            script: Script {
                tokens: 200,
                tokens_per_write: 1,
                pace: Duration::ZERO,
            },
            stagger: Duration::ZERO,
        }),
        ..BASE
    }
}

/// So many sessions that do nothing.
const fn idle(name: &'static str, sessions: u32) -> Scenario {
    Scenario {
        name,
        about: "sessions that are connected and do nothing",
        load: Load::Idle {
            sessions,
            window: PING_INTERVAL,
        },
        unit: Unit::Session,
        ..BASE
    }
}

/// In the order in which they run.
pub(crate) const SCALE: &[Scenario] = &[
    turns("turns-10", 10, 50),
    turns("turns-50", 50, 40),
    turns("turns-200", 200, 20),
    turns("turns-500", 500, 10),
    turns("turns-1000", 1000, 5),
    turns("turns-2000", 2000, 3),
    tokens("tokens-10", 10, 20),
    tokens("tokens-50", 50, 8),
    tokens("tokens-200", 200, 3),
    tokens("tokens-500", 500, 1),
    tokens("tokens-1000", 1000, 1),
    tokens("tokens-2000", 2000, 1),
    idle("idle-1000", 1000),
    idle("idle-5000", 5000),
    idle("idle-10000", 10_000),
];
