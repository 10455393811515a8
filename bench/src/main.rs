//! The benchmark: Duologue under load, beside other servers on the same machine in the same run.
//!
//! ```text
//! clients ──▶ server under test ──▶ scripted upstream
//!                     │
//!                     └──▶ SQLite file, or Postgres (also at a distance)
//! ```
//!
//! Clients and upstream are in this process; each server is a process of its own, so that its CPU time is
//! its own. Servers take turns within each repetition, and only ratios within a repetition are judged,
//! since a machine's speed changes from minute to minute. Everything that clients receive is checked,
//! and afterwards every stored row.

mod child;
mod delay;
mod load;
mod machine;
mod options;
mod postgres;
mod relay;
mod report;
mod run;
mod scenario;
mod script;
mod session;
mod statistics;
mod stored;
mod subject;
mod surroundings;
mod upstream;

use std::fs;

use anyhow::{Context, Result};

use crate::{
    options::Options,
    report::Series,
    run::Outcome,
    scenario::{Scenario, StoreKind},
    subject::Subject,
    surroundings::Surroundings,
};

/// Files that both ends of a connection to each session need, and some more.
fn files_needed(sessions: u32) -> u64 {
    u64::from(sessions) * 2 + 500
}

#[tokio::main]
async fn main() -> Result<()> {
    // It fails if one is installed already, which works too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("relay").is_some() {
        let upstream = words.next().context("the upstream's URL is missing")?;
        return relay::serve(&upstream, words.next().as_deref()).await;
    }
    let options = Options::read(words)?;
    tokio::select! {
        result = measure_all(&options) => result,
        // Servers and the cluster end when the future is dropped.
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    }
}

#[expect(clippy::print_stdout, reason = "the tables are the output")]
async fn measure_all(options: &Options) -> Result<()> {
    let sessions = options.scenarios.iter().map(Scenario::sessions).max();
    machine::raise_file_limit(files_needed(sessions.unwrap_or_default()))?;
    let around = Surroundings::start(options.stores.contains(&StoreKind::Postgres)).await?;
    println!("{}\n\n{}", machine::describe(), report::HEAD);
    let mut failed = 0;
    let mut idle = String::new();
    for scenario in &options.scenarios {
        for store in options
            .stores
            .iter()
            .filter(|it| scenario.stores.contains(it))
        {
            let mut series = measure(scenario, *store, options, &around).await?;
            failed += print_faults(&series);
            print!("{}", report::rows(scenario, *store, &mut series));
            idle += &report::idle_rows(scenario, *store, &series);
        }
    }
    fs::remove_dir_all(&around.folder).unwrap_or_default();
    if !idle.is_empty() {
        print!("\n{}\n{idle}", report::IDLE_HEAD);
    }
    println!("\nThe scenarios:\n");
    for scenario in &options.scenarios {
        let (name, unit) = (scenario.name, scenario.unit.as_str());
        println!("- {name}: {}; CPU per {unit}.", scenario.about);
    }
    anyhow::ensure!(!options.smoke || failed == 0, "{failed} sessions failed");
    Ok(())
}

/// Measures all servers in one scenario on one store, each repetition one after the other.
#[expect(clippy::print_stderr, reason = "progress")]
async fn measure(
    scenario: &Scenario,
    store: StoreKind,
    options: &Options,
    around: &Surroundings,
) -> Result<Vec<Series>> {
    let subjects = options.subjects.iter().filter(|subject| {
        let is_peer = !matches!(subject, Subject::Duologue { .. });
        subject.supports(store) && (scenario.has_peers || !is_peer)
    });
    let mut series: Vec<_> = subjects
        .map(|subject| Series {
            subject: subject.clone(),
            outcomes: Vec::new(),
        })
        .collect();
    for repetition in 1..=options.repetitions {
        for series in &mut series {
            let subject = &series.subject;
            if subject.is_slow() && repetition > 1 {
                continue;
            }
            let outcome = run::run(scenario, subject, store, around).await;
            let what = || format!("{} on {}, {subject}", scenario.name, store.as_str());
            // The other servers are measured all the same.
            let outcome = outcome.unwrap_or_else(|error| Outcome::failed(&error));
            eprintln!("{} {repetition}/{}: {outcome}", what(), options.repetitions);
            series.outcomes.push(outcome);
        }
    }
    Ok(series)
}

/// Shows what went wrong, and returns how often.
#[expect(clippy::print_stderr, reason = "beside the tables")]
fn print_faults(series: &[Series]) -> u32 {
    let mut failed = 0;
    for series in series {
        for (fault, count) in series.outcomes.iter().flat_map(|outcome| &outcome.faults) {
            eprintln!("{}: {count} × {fault}", series.subject);
            failed += count;
        }
    }
    failed
}
