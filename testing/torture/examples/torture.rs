//! Tortures the real binary and prints what came of it: see `duologue_torture`.
//!
//! It is run by `cargo xtask torture`, which has the same arguments: `--kills N`, `--seed S`,
//! `--store sqlite|postgres|both`.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command line tool talks to its terminal"
)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use duologue_torture::{Options, StoreKind, Verdict};

/// What is asked for on the command line.
struct Arguments {
    kills: u32,
    seed: u64,
    stores: Vec<StoreKind>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let stores = arguments.stores.len();
    let kills = arguments.kills.div_ceil(u32::try_from(stores)?);
    let options = |store| Options {
        progress: match store {
            StoreKind::Sqlite => |what| eprintln!("sqlite: {what}"),
            StoreKind::Postgres => |what| eprintln!("postgres: {what}"),
        },
        ..Options::new(store, kills, arguments.seed)
    };
    eprintln!("seed {}, {kills} kills per store", arguments.seed);
    let runs: Vec<_> = arguments
        .stores
        .iter()
        .map(|store| options(*store))
        .collect();
    let running = runs.iter().map(duologue_torture::run);
    let verdicts: Vec<Verdict> = futures_util::future::try_join_all(running).await?;
    let mut exit = ExitCode::SUCCESS;
    for verdict in verdicts {
        println!("{verdict}");
        if !verdict.findings.is_empty() {
            let (store, seed) = (verdict.store.as_str(), verdict.seed);
            println!("again: cargo xtask torture --kills {kills} --seed {seed} --store {store}\n");
            exit = ExitCode::FAILURE;
        }
    }
    Ok(exit)
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut read = Self {
            kills: 20,
            seed: fastrand::u64(..1_000_000),
            stores: vec![StoreKind::Sqlite, StoreKind::Postgres],
        };
        while let Some(name) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{name} needs a value"))?;
            match (name.as_str(), value.as_str()) {
                ("--kills", number) => read.kills = number.parse().context("--kills")?,
                ("--seed", number) => read.seed = number.parse().context("--seed")?,
                ("--store", "sqlite") => read.stores = vec![StoreKind::Sqlite],
                ("--store", "postgres") => read.stores = vec![StoreKind::Postgres],
                ("--store", "both") => {}
                _ => bail!(
                    "`{name} {value}` is none of --kills N, --seed S, --store sqlite|postgres|both"
                ),
            }
        }
        Ok(read)
    }
}
