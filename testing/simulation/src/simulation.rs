//! One run: put the world together, let time pass, look at what is left.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use duologue_engine::store::{SessionStatus, StoreError, operators::OperatorStore};
use turmoil::Sim;

use crate::{
    client::Clients,
    database::Database,
    model::Model,
    mutant::Mutant,
    nemesis::SimulatedNemesis,
    oracle,
    plan::{Plan, TURBULENCE, client_name, server_name},
    server::Host,
    time::DatabaseClock,
    tools::Look,
    trace::Trace,
    world::World,
};

/// How far time goes in one step. Messages arrive between two steps.
const TICK: Duration = Duration::from_millis(20);

/// How long the clients may take after the turbulence, and how long sessions may then take to end
/// and be summarised: a lease, a grace, the hold-off of a server that came up late, and the attempts
/// at a summary.
const AFTERMATH: Duration = Duration::from_mins(4);

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What ruled it.
    pub seed: u64,
    /// What happened.
    pub trace: Trace,
}

/// Runs a seed on a database that has the given fault planted, or none.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Outcome {
    // Waits between two attempts have jitter, which comes from this thread's generator.
    fastrand::seed(seed);
    let plan = Plan::of(seed);
    let clock = DatabaseClock::start();
    let time = clock.time();
    let trace = Trace::new(time.clone());
    let database = Database::new(
        mutant,
        clock.handle(),
        time.clone(),
        trace.clone(),
        (plan.link, plan.database_seed),
    );
    let model = Model::new(trace.clone(), plan.model_seed);
    let look = Look::new(plan.tools_seed);
    let clients = Clients::new(
        &plan,
        trace.clone(),
        time.clone(),
        mutant.and_then(Mutant::client_fault),
    );
    let mut sim = network(&plan);
    let hosts = (0..plan.servers).map(|server| {
        let (database, time) = (Arc::clone(&database), time.clone());
        Host::new(server_name(server), database, model.clone(), &look, time)
    });
    let hosts: Vec<_> = hosts.collect();
    for host in &hosts {
        let host = host.clone();
        sim.host(host.name.clone(), move || host.clone().serve());
    }
    let_in(&mut sim, &plan, &clients);
    let mut nemesis = SimulatedNemesis::new(&plan, hosts, Arc::clone(&database), trace.clone());
    let mut is_quiet = false;
    while !is_quiet {
        match sim.step() {
            Ok(are_done) => {
                let is_calm = sim.elapsed() > TURBULENCE;
                is_quiet = are_done && is_calm && all_completed(&database);
            }
            Err(error) => {
                trace.violation("simulation", &format!("did not come to rest: {error}"));
                break;
            }
        }
        let now = sim.elapsed();
        clock.advance_to(now);
        if now > TURBULENCE + AFTERMATH {
            trace.violation(
                "simulation",
                "sessions are left that have not come to their end",
            );
            break;
        }
        if now >= TURBULENCE {
            model.calm_down();
        }
        nemesis.act(&mut sim, now);
    }
    let world = World {
        trace: trace.clone(),
        clients,
        database,
        model,
        look,
        outages: nemesis.outages(),
        disturbances: nemesis.disturbances(),
    };
    oracle::judge(&world);
    Outcome { seed, trace }
}

/// An empty network with the plan's latency.
fn network(plan: &Plan) -> Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(plan.network_seed)
        .epoch(UNIX_EPOCH)
        .tick_duration(TICK)
        .simulation_duration(TURBULENCE + AFTERMATH)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(plan.latency_max)
        .tcp_capacity(256)
        .build()
}

/// Lets the clients begin.
fn let_in(sim: &mut Sim<'_>, plan: &Plan, clients: &Clients) {
    for (number, talks) in plan.clients.iter().enumerate() {
        let (clients, talks, name) = (clients.clone(), talks.clone(), client_name(number));
        sim.client(client_name(number), async move {
            clients.run(name, talks).await;
            Ok(())
        });
    }
}

/// Whether every session has ended and is summarised.
fn all_completed(database: &Database) -> bool {
    let statuses = database.inspect(async |store| {
        let mut statuses = Vec::new();
        for session_id in store.session_ids(None, u32::MAX).await? {
            let head = store.stored_session(&session_id).await?;
            statuses.extend(head.map(|head| head.record.status));
        }
        Ok::<_, StoreError>(statuses)
    });
    // What cannot be read is reported by the oracle.
    statuses.is_ok_and(|statuses| statuses.iter().all(|it| *it == SessionStatus::Completed))
}
