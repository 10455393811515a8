//! The integration tests with a database that is not next door.

use std::path::Path;

use crate::{
    external::{cargo, example, run},
    outcome::Outcome,
};

/// What `testing/integration/src/latency.rs` reads.
const VARIABLE: &str = "DUOLOGUE_TEST_DATABASE_DELAY_MS";

/// Round trips in milliseconds: on the same machine, in the same region, and far away.
const DELAYS: [&str; 3] = ["0", "20", "80"];

/// The delay of the short run.
const FAR_DELAY: &str = "20";

/// What the short run has: turns, store, endings, jobs, limits, shutdown.
const FAR_TESTS: [&str; 7] = [
    "busy::",
    "conversation::",
    "follow_ups::",
    "limits::",
    "postgres::",
    "session_end::",
    "shutdown::",
];

/// Tests that are about a database on the same machine: files, or times that a delay changes.
const LOCAL_TESTS: [&str; 2] = ["disk::", "restore::"];

/// Runs all integration tests and the torture once for each delay.
pub(crate) fn latency(root: &Path) -> anyhow::Result<Outcome> {
    for delay in DELAYS {
        let mut tests = cargo(root, "test --workspace --test it --");
        for local in LOCAL_TESTS {
            tests.args(["--skip", local]);
        }
        run(tests.env(VARIABLE, delay))?;
        let mut torture = example(root, "torture")?;
        run(torture.args(["--store", "postgres"]).env(VARIABLE, delay))?;
    }
    Ok(Outcome::Done)
}

/// Runs the tests of turns, endings, jobs, limits and shutdown.
pub(crate) fn far(root: &Path) -> anyhow::Result<Outcome> {
    let mut tests = cargo(root, "test --workspace --test it --");
    run(tests.args(FAR_TESTS).env(VARIABLE, FAR_DELAY)).map(|()| Outcome::Done)
}
