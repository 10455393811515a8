//! The simulation: the real server on a simulated network, one seed after another.

use std::path::Path;

use crate::{
    external::{example, run},
    outcome::Outcome,
};

/// Seeds that CI runs. They are always the same, so CI is deterministic; other seeds are for long runs.
const SEEDS: &str = "100";

/// Runs the simulation. Without arguments, as CI does; `--seeds N`, `--from SEED` and `--seed SEED`
/// choose other seeds.
pub(crate) fn simulate(root: &Path, arguments: &[String]) -> anyhow::Result<Outcome> {
    let mut command = example(root, "simulation")?;
    if arguments.is_empty() {
        command.args(["--seeds", SEEDS]);
    }
    run(command.args(arguments)).map(|()| Outcome::Done)
}
