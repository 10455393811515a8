//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{
    scenario::{self, Scenario, StoreKind, scale::SCALE},
    subject::Subject,
};

/// What a benchmark measures.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) stores: Vec<StoreKind>,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) repetitions: u32,
    /// Whether only correctness counts.
    pub(crate) smoke: bool,
}

pub(crate) const USAGE: &str = "\
cargo xtask bench [SCENARIO…] [OPTION…]

SCENARIO is S1, S1b, S2-100, S2-500, S2-1000, S3, S4, S5, far or lone; without any, all run.

  --store sqlite|postgres|both   where sessions are stored (both)
  --repetitions N                how often each server is measured (3)
  --against BINARY               another build of Duologue, measured in the same run
  --without-peers                only Duologue, and the bare relay for the ratios
  --scale                        from 10 to 2,000 sessions with turns, and 10,000 that do nothing
  --smoke                        short runs that only check that all is right";

impl Options {
    /// Reads the arguments of the driver. The first is the path of Duologue's binary.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let binary = PathBuf::from(words.next().context(USAGE)?);
        let mut options = Self {
            scenarios: Vec::new(),
            stores: vec![StoreKind::Sqlite, StoreKind::Postgres],
            subjects: vec![
                Subject::Relay,
                Subject::Duologue {
                    name: "duologue",
                    binary,
                },
                Subject::RelayWithRows,
            ],
            repetitions: 3,
            smoke: false,
        };
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} needs a value\n\n{USAGE}"))
            };
            match word.as_str() {
                "--store" => options.stores = stores(&value()?)?,
                "--repetitions" => {
                    options.repetitions = value()?.parse().context("--repetitions")?;
                }
                "--against" => {
                    let binary = PathBuf::from(value()?);
                    anyhow::ensure!(binary.is_file(), "{} is not a file", binary.display());
                    // It may be relative, and servers have folders of their own.
                    let binary = binary.canonicalize()?;
                    let other = Subject::Duologue {
                        name: "duologue before",
                        binary,
                    };
                    options.subjects.insert(2, other);
                }
                "--python" => options.subjects.push(Subject::FastApi {
                    python: value()?.into(),
                }),
                "--without-peers" => options.subjects.retain(Subject::is_required),
                "--scale" => {
                    options.scenarios.extend(SCALE);
                    options.subjects.retain(Subject::is_required);
                }
                "--smoke" => options.smoke = true,
                name => options.scenarios.push(scenario(name)?),
            }
        }
        if options.scenarios.is_empty() {
            options.scenarios = scenario::ALL.to_vec();
        }
        if options.smoke {
            options.repetitions = 1;
            // Those that differ only in the number of sessions are the same when they are small.
            options
                .scenarios
                .retain(|it| !["S2-500", "S2-1000"].contains(&it.name));
            options.scenarios = options.scenarios.into_iter().map(Scenario::small).collect();
        }
        Ok(options)
    }
}

fn stores(name: &str) -> Result<Vec<StoreKind>> {
    match name {
        "sqlite" => Ok(vec![StoreKind::Sqlite]),
        "postgres" => Ok(vec![StoreKind::Postgres]),
        "both" => Ok(vec![StoreKind::Sqlite, StoreKind::Postgres]),
        _ => bail!("`{name}` is not a store\n\n{USAGE}"),
    }
}

fn scenario(name: &str) -> Result<Scenario> {
    let found = scenario::ALL
        .iter()
        .find(|it| it.name.eq_ignore_ascii_case(name));
    found
        .copied()
        .with_context(|| format!("`{name}` is neither a scenario nor an option\n\n{USAGE}"))
}
