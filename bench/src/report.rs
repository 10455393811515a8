//! Tables in Markdown: what each server has cost in each scenario, and whether the goals are reached.

use std::fmt::Write as _;

use crate::{
    run::{Idle, Measured, Outcome},
    scenario::{Scenario, StoreKind},
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
    let outcomes = &series.outcomes;
    let is_idle = outcomes.iter().any(|outcome| outcome.idle.is_some());
    let figure =
        |figures: Option<Spread>| figures.map_or_else(|| "–".to_owned(), |it| it.to_string());
    let server = Spread::of(outcomes.iter().map(Outcome::server_micros)).filter(|_| !is_idle);
    let database =
        Spread::of(outcomes.iter().filter_map(Outcome::database_micros)).filter(|_| !is_idle);
    let ratios = relay.map(|relay| {
        outcomes
            .iter()
            .zip(relay)
            .map(|(it, relay)| it.server_micros() / relay)
    });
    let ratio = ratios.and_then(Spread::of).filter(|_| !is_idle);
    let rate = |outcome: &Outcome| float(outcome.units) / outcome.elapsed.as_secs_f64();
    let rate = Spread::of(outcomes.iter().map(rate)).filter(|_| !is_idle);
    let rate = rate.map_or_else(|| "–".to_owned(), |rate| format!("{:.0}", rate.median));
    let (ratio_goal, database_goal) = goals(scenario, store, &series.subject, ratio, database);
    let faults = faults(outcomes);
    let mut timings = Timings::default();
    for outcome in &mut series.outcomes {
        timings.append(&mut outcome.timings);
    }
    let mut row = String::new();
    writeln!(
        row,
        "| {} | {} | {} | {} | {}{ratio_goal} | {}{database_goal} | {rate} | {} | {} | {} | {faults} |",
        scenario.name,
        store.as_str(),
        series.subject,
        figure(server),
        figure(ratio),
        figure(database),
        times(&mut timings.relay),
        times(&mut timings.done),
        times(&mut timings.receipt),
    )
    .expect("writing to a string cannot fail");
    row
}

/// What is to be reached, beside the figures of the server that it is about.
fn goals(
    scenario: &Scenario,
    store: StoreKind,
    subject: &Subject,
    ratio: Option<Spread>,
    database: Option<Spread>,
) -> (String, String) {
    let is_judged = matches!(subject, Subject::Duologue { .. });
    let Some(goal) = scenario.goal(store).filter(|_| is_judged) else {
        return (String::new(), String::new());
    };
    let judged = |figure: Option<Spread>, max: f64| {
        figure.map_or_else(String::new, |figure| {
            let word = if figure.median <= max {
                "reached"
            } else {
                "missed"
            };
            format!(" (≤ {max}: {word})")
        })
    };
    let database = goal.database_max.map(|max| judged(database, max));
    (judged(ratio, goal.ratio_max), database.unwrap_or_default())
}

fn times(micros: &mut [u32]) -> String {
    percentiles(micros).map_or_else(
        || "–".to_owned(),
        |(p50, p99)| format!("{p50:.2} / {p99:.1}"),
    )
}

fn faults(outcomes: &[Outcome]) -> String {
    let faults = outcomes
        .iter()
        .flat_map(|outcome| outcome.faults.values())
        .sum::<u32>();
    let degraded = outcomes
        .iter()
        .map(|outcome| outcome.timings.degraded)
        .sum::<u32>();
    match (faults, degraded) {
        (0, 0) => "none".to_owned(),
        (faults, 0) => format!("{faults} failed"),
        (faults, degraded) => format!("{faults} failed, {degraded} degraded"),
    }
}

/// The table of what idle sessions cost, if the scenario is about that.
pub(crate) fn idle_table(store: StoreKind, series: &[Series]) -> Option<String> {
    let mut table = String::new();
    for series in series {
        let idle: Vec<Idle> = series
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.idle)
            .collect();
        let (name, store) = (&series.subject, store.as_str());
        for (when, measured) in [
            (
                "connected",
                (|idle| idle.connected) as fn(&Idle) -> Measured,
            ),
            ("after a turn", |idle| idle.after_turn),
        ] {
            let spread = |of: &dyn Fn(&Idle, Measured) -> f64| {
                let figures = idle.iter().map(|idle| of(idle, measured(idle)));
                Spread::of(figures).map(|figures| figures.to_string())
            };
            let kilobytes = |now: u64, before: u64, idle: &Idle| {
                float(now.saturating_sub(before)) / 1000.0 / float(idle.sessions)
            };
            let resident =
                spread(&|idle, it| kilobytes(it.memory.resident, idle.before.resident, idle))?;
            let proportional = spread(&|idle, it| {
                kilobytes(it.memory.proportional, idle.before.proportional, idle)
            })?;
            let cpu = spread(&|idle, it| it.cpu * 1e6 / float(idle.sessions))?;
            let database = spread(&|_, it| it.database_cpu * 1e3)?;
            writeln!(
                table,
                "| {store} | {name} | {when} | {resident} | {proportional} | {cpu} | {database} |"
            )
            .expect("writing to a string cannot fail");
        }
    }
    (!table.is_empty()).then(|| IDLE_HEAD.to_owned() + &table)
}

const IDLE_HEAD: &str = "\
| store | server | sessions | RSS kB per session | PSS kB per session | CPU µs per s and session | database ms per s |
|---|---|---|---|---|---|---|
";
