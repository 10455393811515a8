//! The project's own commands: `cargo xtask ci` and its steps.
//!
//! One tool in place of scripts and makefiles, which works wherever cargo does. [`steps::ALL`] lists the
//! steps in their order.

#![expect(
    clippy::print_stderr,
    reason = "a command line tool writes to its terminal"
)]

mod autobahn;
mod bench;
mod browser;
mod external;
mod fuzz;
mod latency;
mod lines;
mod outcome;
mod schema;
mod settings;
mod setup;
mod simulate;
mod steps;
mod tidy;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{external::Failed, outcome::Outcome};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match run(&command, &rest) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::NotRun(reason)) => {
            eprintln!("not run: {reason}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            // The exit code of the command that failed may be meaningful to our caller.
            let code = error.downcast_ref().and_then(Failed::code);
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

fn run(command: &str, rest: &[String]) -> anyhow::Result<Outcome> {
    let root = root();
    // Steps that take arguments: `cargo xtask e2e resume.spec.ts --headed`, or
    // `cargo xtask simulate --seed 7`.
    match command {
        "e2e" => return browser::run(&root, rest),
        "simulate" => return simulate::simulate(&root, rest),
        "torture" => return steps::torture(&root, rest),
        "fuzz" => return fuzz::run(&root, rest),
        "bench" => return bench::bench(&root, rest),
        _ => {}
    }
    anyhow::ensure!(
        rest.is_empty(),
        "`{command}` takes no arguments\n\n{}",
        steps::help()
    );
    if command == "ci" {
        return steps::run_all(&root);
    }
    if command == "latency" {
        return latency::latency(&root);
    }
    if command == "settings" {
        return settings::write(&root);
    }
    if command == "lines" {
        return tidy::write_sizes(&root);
    }
    if command == "schema" {
        return schema::write(&root);
    }
    match steps::ALL.iter().find(|step| step.name == command) {
        Some(step) => (step.run)(&root),
        None if command.is_empty() => anyhow::bail!("a command is missing\n\n{}", steps::help()),
        None => anyhow::bail!("`{command}` is not a command\n\n{}", steps::help()),
    }
}

/// The repository's root, independent of the working directory.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask
        .parent()
        .expect("this crate is in a folder of the repository")
        .to_path_buf()
}
