//! `duologue check`: tries whatever is configured, once and without leaving traces, and says what
//! to do about what does not work.
//!
//! A part that fails never hides another one: all are tried, and each has its row.

mod auth;
mod model;
mod store;

use std::{error::Error, fmt};

use crate::{
    app::read_agent,
    config::{Loaded, Settings, Source},
};

/// What was found, part by part. Its text is a table for people, and shows no secret.
#[derive(Clone, Debug)]
pub struct Report {
    rows: Vec<Row>,
}

/// One part and how it was found.
#[derive(Clone, Debug)]
struct Row {
    part: &'static str,
    state: State,
    found: String,
    /// What to do; none where there is nothing to do, or where `found` says it.
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Works,
    /// It answers, and does not say enough to be sure.
    Unclear,
    Fails,
}

/// Tries the store, the model, the agent, and what users' tokens are checked by. The process must have chosen its TLS implementation.
pub async fn run(loaded: &Loaded) -> Report {
    let (config, settings) = (&loaded.config, &loaded.settings);
    let (store, model, auth) = tokio::join!(
        store::check(&config.store, settings),
        model::check(config.model.choice(), settings),
        auth::check(config, settings),
    );
    let agent = match read_agent(config) {
        Ok((agent, origin)) => Row::works("agent", format!("{} ({origin})", agent.name())),
        Err(error) => Row::fails("agent", chain(&error)),
    };
    Report {
        rows: vec![store, model, agent, auth],
    }
}

impl Report {
    /// How many parts do not work. Those that are unclear are not among them.
    pub fn failures(&self) -> usize {
        let failed = |row: &&Row| row.state == State::Fails;
        self.rows.iter().filter(failed).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row {
            part,
            state,
            found,
            advice,
        } in &self.rows
        {
            writeln!(f, "{part:<6} {state:<8} {found}")?;
            if let Some(advice) = advice {
                writeln!(f, "{:<6} {:<8} {advice}", "", "to do:")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Works => "works",
            Self::Unclear => "unclear",
            Self::Fails => "FAILS",
        })
    }
}

impl Row {
    fn new(part: &'static str, state: State, found: String) -> Self {
        Self {
            part,
            state,
            found,
            advice: None,
        }
    }

    fn works(part: &'static str, found: String) -> Self {
        Self::new(part, State::Works, found)
    }

    fn unclear(part: &'static str, found: String) -> Self {
        Self::new(part, State::Unclear, found)
    }

    fn fails(part: &'static str, found: String) -> Self {
        Self::new(part, State::Fails, found)
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Where to mend the value of `key`: where it came from, else the variable that people know.
fn place_of(key: &str, variable: &str, settings: &Settings) -> String {
    match settings.source(key) {
        None => variable.to_owned(),
        Some(Source::File(path)) => format!("`{key}` in {}", path.display()),
        Some(source) => source.to_string(),
    }
}

/// An error with its causes, on one line. Some libraries repeat a cause in what it caused.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let added = error.to_string();
        if !text.ends_with(&added) {
            text = format!("{text}: {added}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
