//! Runs seeds, and shows what one that fails has done: `cargo xtask simulate`.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Context;
use duologue_simulation::{Outcome, run};

/// Seeds that run at the same time.
const THREADS: usize = 2;

/// Lines of a failed trace that are shown.
const TAIL_LINES: usize = 60;

/// Which seeds to run.
struct Seeds {
    from: u64,
    count: u64,
    /// Whether the whole trace is wanted.
    is_replay: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let seeds = Seeds::read(env::args().skip(1))?;
    let started = Instant::now();
    let failed = run_all(&seeds)?;
    let seconds = started.elapsed().as_secs_f64();
    let mut out = io::stdout();
    match failed {
        None => {
            let Seeds { from, count, .. } = seeds;
            let last = from + count - 1;
            writeln!(
                out,
                "{count} seeds ({from} to {last}) kept every promise, {seconds:.1} s"
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Some(outcome) => {
            report(&mut out, &outcome, &seeds)?;
            if outcome.trace.violations().is_empty() {
                Ok(ExitCode::SUCCESS)
            } else {
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// Runs the seeds until one fails. Of several that fail at the same time, the smallest is reported.
fn run_all(seeds: &Seeds) -> anyhow::Result<Option<Outcome>> {
    let next = AtomicU64::new(seeds.from);
    let end = seeds.from + seeds.count;
    let has_failed = AtomicBool::new(false);
    let failed: Mutex<Option<Outcome>> = Mutex::new(None);
    let is_replay = seeds.is_replay;
    let work = || {
        while !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let outcome = run(seed, None);
            if is_replay || !outcome.trace.violations().is_empty() {
                has_failed.store(true, Ordering::Relaxed);
                let mut failed = failed.lock().expect("no holder of this lock panics");
                let is_first = failed.as_ref().is_none_or(|before| seed < before.seed);
                if is_first {
                    *failed = Some(outcome);
                }
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let last = next.load(Ordering::Relaxed);
            let joined = worker.join().ok();
            joined
                .with_context(|| format!("a seed around {last} panicked; run them one by one"))?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(failed.into_inner().expect("no holder of this lock panics"))
}

fn report(out: &mut impl Write, outcome: &Outcome, seeds: &Seeds) -> io::Result<()> {
    let Outcome { seed, trace } = outcome;
    let lines = trace.lines();
    let skipped = if seeds.is_replay {
        0
    } else {
        lines.len().saturating_sub(TAIL_LINES)
    };
    for line in &lines[skipped..] {
        writeln!(out, "{line}")?;
    }
    let violations = trace.violations();
    writeln!(
        out,
        "\nseed {seed}: {} broken promises, trace {:016x}",
        violations.len(),
        trace.hash()
    )?;
    for violation in violations {
        writeln!(out, "  - {violation}")?;
    }
    writeln!(out, "\nto see it again: cargo xtask simulate --seed {seed}")
}

impl Seeds {
    fn read(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut seeds = Self {
            from: 0,
            count: 100,
            is_replay: false,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            let number = value.parse();
            let number = number.with_context(|| format!("{name} needs a number, not {value:?}"))?;
            match name.as_str() {
                "--seeds" => seeds.count = number,
                "--from" => seeds.from = number,
                "--seed" => {
                    seeds = Self {
                        from: number,
                        count: 1,
                        is_replay: true,
                    }
                }
                _ => anyhow::bail!("usage: simulate [--seeds N] [--from SEED] | --seed SEED"),
            }
        }
        anyhow::ensure!(seeds.count > 0, "--seeds must be at least 1");
        Ok(seeds)
    }
}
