//! Tables in Markdown: what each server has cost in each scenario, and whether the goals are reached.

use std::fmt::Write as _;

use crate::{
    run::{Idle, Measured, Outcome},
    scenario::{Goal, Scenario, StoreKind},
    session::Timings,
    statistics::{Spread, float, percentiles},
    subject::Subject,
};

/// The head of the table of CPU times.
pub(crate) const HEAD: &str = "\
| scenario | store | server | CPU µs | to the relay | database µs | per s | relay p50 / p99 ms | done p50 / p99 ms | receipt p50 / p99 ms | faults |
|---|---|---|---|---|---|---:|---|---|---|---|";

/// All repetitions of one server in one scenario on one store.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) subject: Subject,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Series {
    fn is_judged(&self) -> bool {
        matches!(self.subject, Subject::Duologue { .. })
    }
}

/// The rows of one scenario on one store.
pub(crate) fn rows(scenario: &Scenario, store: StoreKind, series: &mut [Series]) -> String {
    let relay = series
        .iter()
        .find(|series| series.subject == Subject::Relay);
    let relay: Option<Vec<f64>> =
        relay.map(|relay| relay.outcomes.iter().map(Outcome::server_micros).collect());
    let mut rows = String::new();
    for series in series {
        rows.push_str(&row(scenario, store, series, relay.as_deref()));
    }
    rows
}

fn row(
    scenario: &Scenario,
    store: StoreKind,
    series: &mut Series,
    relay: Option<&[f64]>,
) -> String {
    if series.outcomes.iter().any(|outcome| outcome.idle.is_some()) {
        return String::new();
    }
    let mut timings = Timings::default();
    for outcome in &mut series.outcomes {
        timings.append(&mut outcome.timings);
    }
    let outcomes = &series.outcomes;
    let goal = scenario.goal(store).filter(|_| series.is_judged());
    let server = Spread::of(outcomes.iter().map(Outcome::server_micros));
    let database = Spread::of(outcomes.iter().filter_map(Outcome::database_micros));
    let ratios = relay.map(|relay| {
        let pairs = outcomes.iter().zip(relay);
        pairs.map(|(outcome, relay)| outcome.server_micros() / relay)
    });
    let ratio = ratios.and_then(Spread::of);
    let rate = |outcome: &Outcome| float(outcome.units) / outcome.elapsed.as_secs_f64();
    let rate = Spread::of(outcomes.iter().map(rate));
    let rate = rate.map_or_else(|| "–".to_owned(), |rate| format!("{:.0}", rate.median));
    let done = percentiles(&mut timings.done);
    let mut row = String::new();
    writeln!(
        row,
        "| {} | {} | {} | {} | {}{} | {}{} | {rate} | {} | {}{} | {} | {} |",
        scenario.name,
        store.as_str(),
        series.subject,
        figure(server),
        figure(ratio),
        judged(
            ratio.map(|it| it.median),
            goal.and_then(|goal| goal.ratio_max)
        ),
        figure(database),
        judged(
            database.map(|it| it.median),
            goal.and_then(|goal| goal.database_max)
        ),
        times(percentiles(&mut timings.relay)),
        times(done),
        judged(
            done.map(|(_, p99)| p99),
            goal.and_then(|goal| goal.done_max)
        ),
        times(percentiles(&mut timings.receipt)),
        faults(outcomes, timings.degraded),
    )
    .expect("writing to a string cannot fail");
    row
}

fn figure(figures: Option<Spread>) -> String {
    figures.map_or_else(|| "–".to_owned(), |figures| figures.to_string())
}

/// Whether a goal is reached, if there is one.
fn judged(figure: Option<f64>, max: Option<f64>) -> String {
    let Some((figure, max)) = figure.zip(max) else {
        return String::new();
    };
    let word = if figure <= max { "reached" } else { "missed" };
    format!(" (≤ {max}: {word})")
}

fn times(percentiles: Option<(f64, f64)>) -> String {
    percentiles.map_or_else(
        || "–".to_owned(),
        |(p50, p99)| format!("{p50:.2} / {p99:.1}"),
    )
}

fn faults(outcomes: &[Outcome], degraded: u32) -> String {
    let faults = outcomes.iter().flat_map(|outcome| outcome.faults.values());
    match (faults.sum::<u32>(), degraded) {
        (0, 0) => "none".to_owned(),
        (faults, 0) => format!("{faults} failed"),
        (faults, degraded) => format!("{faults} failed, {degraded} degraded"),
    }
}

/// The head of the table of idle sessions.
pub(crate) const IDLE_HEAD: &str = "\
| scenario | store | server | sessions | RSS kB per session | PSS kB per session | CPU µs per s and session | database ms per s |
|---|---|---|---|---|---|---|---|";

/// The rows of what idle sessions cost, if the scenario is about that.
pub(crate) fn idle_rows(scenario: &Scenario, store: StoreKind, series: &[Series]) -> String {
    let mut rows = String::new();
    for series in series {
        let goal = scenario.goal(store).filter(|_| series.is_judged());
        let about = format!(
            "{} | {} | {}",
            scenario.name,
            store.as_str(),
            series.subject
        );
        rows += &idle_row(&about, series, "connected", |idle| idle.connected, goal);
        let cpu_only = goal.map(|goal| Goal {
            kilobytes_max: None,
            ..goal
        });
        rows += &idle_row(
            &about,
            series,
            "after a turn",
            |idle| idle.after_turn,
            cpu_only,
        );
    }
    rows
}

fn idle_row(
    about: &str,
    series: &Series,
    when: &str,
    measured: fn(&Idle) -> Measured,
    goal: Option<Goal>,
) -> String {
    let idle = series.outcomes.iter().filter_map(|outcome| outcome.idle);
    let idle: Vec<Idle> = idle.collect();
    let spread = |of: &dyn Fn(&Idle, Measured) -> f64| {
        Spread::of(idle.iter().map(|idle| of(idle, measured(idle))))
    };
    let kilobytes = |now: u64, before: u64, idle: &Idle| {
        float(now.saturating_sub(before)) / 1000.0 / float(idle.sessions)
    };
    let resident = spread(&|idle, it| kilobytes(it.memory.resident, idle.before.resident, idle));
    let proportional =
        spread(&|idle, it| kilobytes(it.memory.proportional, idle.before.proportional, idle));
    let cpu = spread(&|idle, it| it.cpu * 1e6 / float(idle.sessions));
    let Some((memory, micros)) = resident.zip(cpu) else {
        return String::new();
    };
    format!(
        "| {about} | {when} | {}{} | {} | {}{} | {} |\n",
        figure(resident),
        judged(
            Some(memory.median),
            goal.and_then(|goal| goal.kilobytes_max)
        ),
        figure(proportional),
        figure(cpu),
        judged(Some(micros.median), goal.and_then(|goal| goal.idle_max)),
        figure(spread(&|_, it| it.database_cpu * 1e3)),
    )
}
