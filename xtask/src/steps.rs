//! The steps of `cargo xtask ci`, cheap and telling ones first.

use std::{
    fmt::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    autobahn, browser,
    external::{cargo, complaint, run},
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
        about: "install what tests need, or say how to",
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
        about: "check the house rules that no other tool knows",
        run: tidy::run,
    },
    Step {
        name: "test",
        about: "run all tests, on all databases",
        run: |root| done(&mut cargo(root, "test --workspace")),
    },
    Step {
        name: "autobahn",
        about: "check the WebSocket against the Autobahn suite, where Python 2.7 can be had",
        run: autobahn::run,
    },
    Step {
        name: "torture",
        about: "kill the real binary under load; arguments: --kills N --seed S --store WHICH",
        run: |root| torture(root, &[]),
    },
    Step {
        name: "simulate",
        about: "run 300 seeds of the simulation; --seeds N --from S, or --seed S, to aim it",
        run: |root| simulate::simulate(root, &[]),
    },
    Step {
        name: "deny",
        about: "check the dependencies: bans, licences, sources",
        run: |root| done(&mut cargo(root, "deny check bans licenses sources")),
    },
    Step {
        name: "advisories",
        about: "check the dependencies for known holes, where the database can be fetched",
        run: advisories,
    },
    Step {
        name: "e2e",
        about: "run the browser tests; arguments go to Playwright",
        run: |root| browser::run(root, &[]),
    },
];

/// Runs every step until one fails, and tells how long each took.
pub(crate) fn run_all(root: &Path) -> anyhow::Result<Outcome> {
    let mut table = String::new();
    let mut result = Ok(Outcome::Done);
    let started = Instant::now();
    for (index, step) in ALL.iter().enumerate() {
        eprintln!(
            "\n== {}/{} {}: {}",
            index + 1,
            ALL.len(),
            step.name,
            step.about
        );
        let step_started = Instant::now();
        let outcome = (step.run)(root);
        let word = match &outcome {
            Ok(Outcome::Done) => "ok".to_owned(),
            Ok(Outcome::NotRun(reason)) => format!("not run: {reason}"),
            Err(_) => "FAILED".to_owned(),
        };
        row(&mut table, step.name, step_started.elapsed(), &word);
        if let Err(error) = outcome {
            result = Err(error.context(format!("step `{}`", step.name)));
            break;
        }
    }
    let word = if result.is_ok() { "ok" } else { "FAILED" };
    row(&mut table, "ci", started.elapsed(), word);
    eprintln!("\n{table}");
    result
}

fn row(table: &mut String, name: &str, took: Duration, word: &str) {
    let seconds = took.as_secs_f64();
    writeln!(table, "{name:<12} {seconds:>8.1} s  {word}").expect("a string takes all");
}

/// What `cargo xtask` says that it can do.
pub(crate) fn help() -> String {
    let mut help = "cargo xtask COMMAND\n\n  ci           all of these, in order\n".to_owned();
    for step in ALL {
        writeln!(help, "  {:<12} {}", step.name, step.about).expect("a string takes all");
    }
    help + "  fuzz         run libFuzzer: [TARGET] [--seconds N]\n"
        + "  settings     write the table of settings in docs/operations.md anew\n"
        + "  schema       write schema.sql anew"
}

fn done(command: &mut Command) -> anyhow::Result<Outcome> {
    run(command).map(|()| Outcome::Done)
}

/// Without arguments: 20 kills, half of them on each store, by a plan that is new each time.
pub(crate) fn torture(root: &Path, arguments: &[String]) -> anyhow::Result<Outcome> {
    let run = "run --quiet --package duologue-integration --example torture --";
    done(cargo(root, run).args(arguments))
}

/// The database of advisories lives on the network, which not every machine may reach. What is
/// found in it fails the step; that it cannot be had does not.
fn advisories(root: &Path) -> anyhow::Result<Outcome> {
    let mut fetch = cargo(root, "deny fetch db");
    // Git would ask for a password, or wait for ever on a silent connection.
    fetch
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_HTTP_LOW_SPEED_LIMIT", "1000")
        .env("GIT_HTTP_LOW_SPEED_TIME", "20");
    if let Some(complaint) = complaint(&mut fetch)? {
        return Ok(Outcome::NotRun(format!(
            "no RustSec database here; {complaint}"
        )));
    }
    done(&mut cargo(root, "deny check --disable-fetch advisories"))
}
