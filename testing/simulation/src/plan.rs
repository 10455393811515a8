//! What a seed decides before anything happens: how many take part, and of what character.

use std::time::Duration;

use duologue_observer::canary;
use duologue_protocol::{SessionId, UserId};
use fastrand::Rng;

use crate::database::{Faults, Link};

/// How long things go wrong.
pub(crate) const TURBULENCE: Duration = Duration::from_secs(40);

/// How long nothing goes wrong in a run that begins calmly.
const CALM: Duration = Duration::from_secs(20);

/// Round trips to the database: on the same machine, in the same region, and far away.
const ROUND_TRIPS_MS: [u64; 3] = [0, 20, 80];

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Character {
    /// Trusts every receipt, and never sends anything again.
    Trusting,
    /// Sends again, under the same id, until it has its answer.
    Insisting,
    /// Two tabs on one session.
    TwoTabs,
    /// Drops its connection in the middle of answers, and comes back sooner or later.
    Vanishing,
    /// Does not read for a while.
    Slow,
    /// Sends what nobody should, and knocks at the doors of others.
    Hostile,
    /// Ends its session when it is done.
    Ending,
}

const CHARACTERS: [Character; 7] = [
    Character::Trusting,
    Character::Insisting,
    Character::TwoTabs,
    Character::Vanishing,
    Character::Slow,
    Character::Hostile,
    Character::Ending,
];

/// One conversation that a client will have.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) session_id: SessionId,
    pub(crate) user_id: UserId,
    /// The word that its messages bear.
    pub(crate) canary: String,
    pub(crate) character: Character,
    /// How many messages each of its tabs sends.
    pub(crate) messages: u32,
    /// The server that it goes to first.
    pub(crate) home: usize,
    pub(crate) seed: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) servers: usize,
    /// The conversations of each client.
    pub(crate) clients: Vec<Vec<Talk>>,
    pub(crate) faults: Faults,
    pub(crate) link: Link,
    /// When things begin to go wrong.
    pub(crate) turbulent_from: Duration,
    pub(crate) latency_max: Duration,
    pub(crate) nemesis_seed: u64,
    pub(crate) database_seed: u64,
    pub(crate) model_seed: u64,
    pub(crate) tools_seed: u64,
    pub(crate) network_seed: u64,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Two, mostly: then a session can move.
        let servers = if rng.u32(0..3) == 0 { 1 } else { 2 };
        let mut canaries = 0..;
        let clients = (0..rng.usize(3..=6))
            .map(|client| {
                let user_id = UserId::new(&format!("user-{client}")).expect("it is short");
                let talks = (0..rng.u32(1..=2)).map(|_| {
                    let number = canaries.next().expect("there is no end of numbers");
                    let session_id = format!("session-{number}");
                    Talk {
                        session_id: SessionId::new(&session_id).expect("it is short"),
                        user_id: user_id.clone(),
                        canary: canary::of(number),
                        character: CHARACTERS[rng.usize(0..CHARACTERS.len())],
                        messages: rng.u32(2..=5),
                        home: rng.usize(0..servers),
                        seed: rng.u64(..),
                    }
                });
                talks.collect()
            })
            .collect();
        // Where no write fails by chance, servers are trusted for longer, and do more.
        let per_mille_max = if rng.bool() { 60 } else { 1 };
        let faults = Faults {
            refused_per_mille: rng.u32(0..per_mille_max),
            lost_per_mille: rng.u32(0..per_mille_max),
            delay_ms_max: rng.u64(0..20),
        };
        let mut plan = Self {
            servers,
            clients,
            faults,
            turbulent_from: Duration::from_secs(2),
            latency_max: Duration::from_millis(rng.u64(10..80)),
            nemesis_seed: rng.u64(..),
            database_seed: rng.u64(..),
            model_seed: rng.u64(..),
            tools_seed: rng.u64(..),
            network_seed: rng.u64(..),
            link: Link {
                round_trip: Duration::from_millis(
                    ROUND_TRIPS_MS[rng.usize(0..ROUND_TRIPS_MS.len())],
                ),
                connections: rng.usize(1..=3),
            },
        };
        // In some runs nothing goes wrong at first: there, nothing may be late.
        if rng.u32(0..3) == 0 {
            plan.turbulent_from = CALM;
            plan.faults = Faults::default();
        }
        plan
    }
}

/// What a server is called on the network.
pub(crate) fn server_name(server: usize) -> String {
    format!("server-{server}")
}

/// What a client is called on the network.
pub(crate) fn client_name(client: usize) -> String {
    format!("client-{client}")
}
