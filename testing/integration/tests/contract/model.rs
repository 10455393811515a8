//! The contract as a property: whatever is asked of a store, in whatever order and however often, it
//! answers as a small pure model does, keeps what the model keeps, and breaks no invariant.
//!
//! One plan of operations runs on every backend. So that the property is not one that cannot fail,
//! stores with planted faults ([`mutants`]) stay here, and each must be found.

mod events;
mod mutants;
mod operation;
mod pure;
mod world;

use std::{cell::RefCell, sync::Arc};

use duologue_doubles::memory::MemoryStore;
use duologue_engine::store::{Store, operators::OperatorStore};
use duologue_integration::{
    postgres::{Cluster, Database},
    store::OpenStore,
    supabase::Project,
};
use proptest::{
    collection::vec,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use rusqlite::Connection;
use sqlx::Executor;
use tokio::runtime::Runtime;

use self::{
    mutants::{Fault, Mutant},
    operation::{Operation, operation},
    world::World,
};

/// Operations in a plan: enough for a session to end, come back and end again, beside another.
const OPERATIONS_MAX: usize = 60;

/// Runs plans until one shows a difference. `fresh` makes or empties the store.
fn run(
    mut runner: TestRunner,
    fresh: impl Fn() -> (Arc<dyn Store>, Arc<dyn OperatorStore>),
    runtime: &Runtime,
) -> Result<(), TestError<Vec<Operation>>> {
    let plans = vec(operation(), 1..OPERATIONS_MAX);
    runner.run(&plans, |plan| {
        let (store, inspect) = fresh();
        let outcome = runtime.block_on(World::new(&*store, &*inspect).follow(&plan));
        outcome.map_err(TestCaseError::fail)
    })
}

fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    }
}

/// New plans at every run.
#[track_caller]
fn assert_agrees(
    cases: u32,
    fresh: impl Fn() -> (Arc<dyn Store>, Arc<dyn OperatorStore>),
    runtime: &Runtime,
) {
    if let Err(error) = run(TestRunner::new(config(cases)), fresh, runtime) {
        panic!("{error}");
    }
}

#[test]
fn the_store_in_memory_agrees_with_the_model() {
    let fresh = || {
        let store = Arc::new(MemoryStore::new());
        (Arc::clone(&store) as _, store as _)
    };
    assert_agrees(256, fresh, &Runtime::new().unwrap());
}

/// Each planted fault is found, with plans that are the same at every run.
#[test]
fn every_mutant_is_found() {
    let runtime = Runtime::new().unwrap();
    for fault in Fault::ALL {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let runner = TestRunner::new_with_rng(config(512), rng);
        let fresh = || {
            let mutant = Arc::new(Mutant::new(fault));
            (Arc::clone(&mutant) as _, mutant as _)
        };
        let found = run(runner, fresh, &runtime);
        let error = found.expect_err("a store with a planted fault agrees with the model");
        println!("{fault:?}: {error}");
    }
}

#[test]
fn sqlite_agrees_with_the_model() {
    let runtime = Runtime::new().unwrap();
    let (store, inspect) = runtime.block_on(async { OpenStore::sqlite().await.inspected().await });
    let other = Connection::open(store.ground.path().join("duologue.db")).unwrap();
    other.pragma_update(None, "foreign_keys", true).unwrap();
    let fresh = || {
        other.execute("delete from sessions", ()).unwrap();
        (store.handle(), Arc::clone(&inspect))
    };
    assert_agrees(40, fresh, &runtime);
    runtime.block_on(store.close());
}

#[test]
fn postgres_agrees_with_the_model() {
    let runtime = Runtime::new().unwrap();
    let opened = runtime.block_on(async {
        let database = Cluster::get().await.database().await;
        let url = database.url();
        OpenStore::open(&url, database).await.inspected().await
    });
    agrees_in(
        &runtime,
        &opened.0,
        |database: &Database| database,
        &opened.1,
        24,
    );
}

#[test]
fn the_rest_interface_agrees_with_the_model() {
    let runtime = Runtime::new().unwrap();
    let opened = runtime.block_on(async {
        let project = Project::new().await;
        let config = project.config(&project.service_role_key());
        OpenStore::open_with(&config, project)
            .await
            .inspected()
            .await
    });
    agrees_in(&runtime, &opened.0, Project::database, &opened.1, 16);
}

/// Runs plans on a store in Postgres, however it is reached.
fn agrees_in<G>(
    runtime: &Runtime,
    store: &OpenStore<G>,
    database: impl Fn(&G) -> &Database,
    inspect: &Arc<dyn OperatorStore>,
    cases: u32,
) {
    let other = runtime.block_on(database(&store.ground).connect());
    let other = RefCell::new(other);
    let fresh = || {
        let truncate = "truncate sessions cascade";
        runtime
            .block_on(other.borrow_mut().execute(truncate))
            .unwrap();
        (store.handle(), Arc::clone(inspect))
    };
    assert_agrees(cases, fresh, runtime);
    runtime.block_on(store.close());
}
