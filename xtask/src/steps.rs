//! The steps of `cargo xtask ci`, cheap ones first.

use std::{
    fmt::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    autobahn, bench, browser,
    external::{cargo, example, failure_message, run},
    latency,
    outcome::Outcome,
    setup, simulate, tidy,
};

/// One step, which is also a command of its own.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    about: &'static str,
    pub(crate) run: fn(&Path) -> anyhow::Result<Outcome>,
}

/// All steps, in the order in which `ci` runs them.
pub(crate) const ALL: &[Step] = &[
    Step {
        name: "setup",
        about: "install what the tests need, or print the command that does",
        run: setup::run,
    },
    Step {
        name: "fmt",
        about: "check the format",
        run: |root| done(&mut cargo(root, "fmt --all --check")),
    },
    Step {
        name: "clippy",
        about: "check the lints of every target",
        run: |root| {
            let arguments = "clippy --workspace --all-targets -- -D warnings";
            done(&mut cargo(root, arguments))
        },
    },
    Step {
        name: "doc",
        about: "build the documentation without warnings",
        run: |root| {
            let mut command = cargo(root, "doc --workspace --no-deps");
            done(command.env("RUSTDOCFLAGS", "-D warnings"))
        },
    },
    Step {
        name: "tidy",
        about: "check the project's rules that no other tool checks",
        run: tidy::run,
    },
    Step {
        name: "test",
        about: "run all tests, on all databases",
        // Most tests wait for servers and databases, so there are more of them at a time than cores. The server
        // is built before, since the first tests that use it would wait for that.
        run: |root| {
            run(&mut cargo(
                root,
                "build --package duologue-server --bin duologue",
            ))?;
            let mut command = cargo(root, "test --workspace --no-fail-fast");
            done(command.env("RUST_TEST_THREADS", "4"))
        },
    },
    Step {
        name: "far",
        about: "run the tests of turns, endings, jobs and limits with a database 20 ms away",
        run: latency::far,
    },
    Step {
        name: "autobahn",
        about: "run the Autobahn WebSocket suite, if Python 2.7 is installed",
        run: autobahn::run,
    },
    Step {
        name: "torture",
        about: "kill the real binary under load; arguments: --kills N --seed S --store STORE",
        run: |root| torture(root, &[]),
    },
    Step {
        name: "simulate",
        about: "run 100 seeds of the simulation; arguments: --seeds N --from S, or --seed S",
        run: |root| simulate::simulate(root, &[]),
    },
    Step {
        name: "bench",
        about: "run the benchmark; in ci only --smoke, which checks that all is right",
        run: |root| bench::bench(root, &["--smoke".to_owned()]),
    },
    Step {
        name: "deny",
        about: "check the dependencies: bans, licences, sources",
        run: |root| done(&mut cargo(root, "deny check bans licenses sources")),
    },
    Step {
        name: "advisories",
        about: "check the dependencies for known vulnerabilities, if the database can be fetched",
        run: advisories,
    },
    Step {
        name: "e2e",
        about: "run the browser tests; arguments are passed to Playwright",
        run: |root| browser::run(root, &[]),
    },
];

/// Runs every step, also after one failed, so that one run shows all that is wrong. Prints how each ended
/// and how long it took.
pub(crate) fn run_all(root: &Path) -> anyhow::Result<Outcome> {
    let mut table = String::new();
    let mut failures = String::new();
    let started = Instant::now();
    for (index, step) in ALL.iter().enumerate() {
        let (number, steps) = (index + 1, ALL.len());
        eprintln!("\n== {number}/{steps} {}: {}", step.name, step.about);
        let step_started = Instant::now();
        let word = match (step.run)(root) {
            Ok(Outcome::Done) => "ok".to_owned(),
            Ok(Outcome::NotRun(reason)) => format!("not run: {reason}"),
            Err(error) => {
                eprintln!("step `{}` failed: {error:#}", step.name);
                let command = format!("cargo xtask {}", step.name);
                write!(failures, "\n  {error:#}; repeat it with `{command}`")
                    .expect("writing to a string cannot fail");
                "FAILED".to_owned()
            }
        };
        row(&mut table, step.name, step_started.elapsed(), &word);
    }
    let word = if failures.is_empty() { "ok" } else { "FAILED" };
    row(&mut table, "ci", started.elapsed(), word);
    eprintln!("\n{table}");
    anyhow::ensure!(failures.is_empty(), "steps failed:{failures}");
    Ok(Outcome::Done)
}

fn row(table: &mut String, name: &str, took: Duration, word: &str) {
    let seconds = took.as_secs_f64();
    writeln!(table, "{name:<12} {seconds:>8.1} s  {word}")
        .expect("writing to a string cannot fail");
}

/// The help text of `cargo xtask`.
pub(crate) fn help() -> String {
    let mut help = "cargo xtask COMMAND\n\n  ci           all of these, in order\n".to_owned();
    for step in ALL {
        writeln!(help, "  {:<12} {}", step.name, step.about)
            .expect("writing to a string cannot fail");
    }
    help + "  latency      run all integration tests and torture with a database 0, 20 and 80 ms away\n"
        + "  fuzz         run libFuzzer: [TARGET] [--seconds N]\n"
        + "  settings     write the table of settings in docs/operations.md\n"
        + "  lines        write the table of sizes in ARCHITECTURE.md\n"
        + "  schema       write schema.sql"
}

fn done(command: &mut Command) -> anyhow::Result<Outcome> {
    run(command).map(|()| Outcome::Done)
}

/// Without arguments: 20 kills, half of them on each store, by a new plan each time.
pub(crate) fn torture(root: &Path, arguments: &[String]) -> anyhow::Result<Outcome> {
    done(example(root, "torture")?.args(arguments))
}

/// The database of advisories is on the network, which not every machine can reach. An advisory fails
/// the step; a database that cannot be fetched does not.
fn advisories(root: &Path) -> anyhow::Result<Outcome> {
    let mut fetch = cargo(root, "deny fetch db");
    // Without these, git asks for a password, or waits on a silent connection without limit.
    fetch
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_HTTP_LOW_SPEED_LIMIT", "1000")
        .env("GIT_HTTP_LOW_SPEED_TIME", "20");
    if let Some(message) = failure_message(&mut fetch)? {
        return Ok(Outcome::NotRun(format!(
            "the RustSec database cannot be fetched; {message}"
        )));
    }
    done(&mut cargo(root, "deny check --disable-fetch advisories"))
}
