//! The benchmark: builds the server and the driver, and runs the driver.

use std::path::Path;

use crate::{
    external::{cargo, program, run, target_folder},
    outcome::Outcome,
    setup::python,
};

/// Runs the benchmark. With `--smoke` it only checks that all is right, which needs no release build.
pub(crate) fn bench(root: &Path, arguments: &[String]) -> anyhow::Result<Outcome> {
    let is_smoke = arguments.iter().any(|argument| argument == "--smoke");
    let (profile, folder) = if is_smoke {
        ("dev", "debug")
    } else {
        ("release", "release")
    };
    // One after the other: built together, the server would get the features that the driver needs.
    for package in ["duologue-server", "duologue-bench"] {
        let build = format!("build --quiet --profile {profile} --package {package} --bins");
        run(&mut cargo(root, &build))?;
    }
    let built = target_folder()?.join(folder);
    let mut driver = program(built.join("duologue-bench"), root);
    driver.arg(built.join("duologue"));
    driver.arg("--python").arg(python::BENCH.make(root)?);
    run(driver.args(arguments)).map(|()| Outcome::Done)
}
