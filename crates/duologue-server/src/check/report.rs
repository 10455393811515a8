//! The report of `duologue check`: a row for each part.

use std::fmt;

use crate::config::{Settings, Source};

/// The state of every part. Its text is a table for people, and shows no secret.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) rows: Vec<Row>,
}

/// The state of one part.
#[derive(Clone, Debug)]
pub(super) struct Row {
    part: &'static str,
    state: PartState,
    found: String,
    /// What to do; none if there is nothing to do, or if `found` says it.
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartState {
    Works,
    /// It responds, but the response does not tell whether it will work.
    Unclear,
    Fails,
}

impl Report {
    /// The number of parts that do not work. Unclear ones are not counted.
    pub fn failures(&self) -> usize {
        let failed = |row: &&Row| row.state == PartState::Fails;
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

impl fmt::Display for PartState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Works => "works",
            Self::Unclear => "unclear",
            Self::Fails => "FAILS",
        })
    }
}

impl Row {
    fn new(part: &'static str, state: PartState, found: String) -> Self {
        Self {
            part,
            state,
            found,
            advice: None,
        }
    }

    pub(super) fn works(part: &'static str, found: String) -> Self {
        Self::new(part, PartState::Works, found)
    }

    pub(super) fn unclear(part: &'static str, found: String) -> Self {
        Self::new(part, PartState::Unclear, found)
    }

    pub(super) fn fails(part: &'static str, found: String) -> Self {
        Self::new(part, PartState::Fails, found)
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Where to correct the value of `key`: where it came from, or the usual variable.
pub(super) fn where_to_fix(key: &str, variable: &str, settings: &Settings) -> String {
    match settings.source(key) {
        None => variable.to_owned(),
        Some(Source::File(path)) => format!("`{key}` in {}", path.display()),
        Some(source) => source.to_string(),
    }
}
