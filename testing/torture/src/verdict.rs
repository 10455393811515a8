//! What came of a run: a table for people, and the findings.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use crate::{
    check::Logs,
    ground::StoreKind,
    history::{Finding, FindingKind, History, Outcome, Request},
};

/// Findings that are printed; the folder of the run has all.
const FINDINGS_SHOWN_MAX: usize = 20;

/// What of a finding is printed, in characters.
const FINDING_CHARS_MAX: usize = 400;

/// What came of a run.
#[derive(Debug)]
pub struct Verdict {
    /// The plan's seed.
    pub seed: u64,
    /// What was tortured.
    pub store: StoreKind,
    /// Requests by kind, and how many of them were ok, failed, or have an unknown outcome.
    pub operations: BTreeMap<&'static str, [u32; 3]>,
    /// How often what went wrong.
    pub faults: BTreeMap<&'static str, u32>,
    /// Sessions that clients were in.
    pub sessions: usize,
    /// Events in their logs.
    pub events: usize,
    /// Frames that clients saw.
    pub frames: u64,
    /// What is broken. Empty is what we want.
    pub findings: Vec<Finding>,
    /// How long it took.
    pub took: Duration,
    /// Where logs, histories and database are, if anything was found.
    pub folder: Option<PathBuf>,
}

impl Verdict {
    /// Whether something of this kind was found.
    pub fn has(&self, kind: FindingKind) -> bool {
        self.findings.iter().any(|finding| finding.kind == kind)
    }
}

/// Counts what clients have asked for.
pub(crate) fn count_operations(histories: &[History]) -> BTreeMap<&'static str, [u32; 3]> {
    let mut counts: BTreeMap<_, [u32; 3]> = BTreeMap::new();
    for operation in histories.iter().flat_map(|history| &history.operations) {
        let name = match &operation.request {
            Request::Connect => "connect",
            Request::Message { id: None, .. } => "message",
            Request::Message { id: Some(_), .. } => "message with id",
            Request::End => "end",
            Request::Nonsense => "nonsense",
        };
        let place = match operation.outcome {
            Outcome::Ok => 0,
            Outcome::Failed => 1,
            Outcome::Unknown => 2,
        };
        counts.entry(name).or_default()[place] += 1;
    }
    counts
}

/// Counts the events of all logs.
pub(crate) fn count_events(logs: &Logs) -> usize {
    logs.values().map(Vec::len).sum()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.store.as_str();
        let seconds = self.took.as_secs_f64();
        writeln!(f, "{store}, seed {}, {seconds:.1} s", self.seed)?;
        writeln!(
            f,
            "  {:<30} {:>8} {:>8} {:>8}",
            "operations", "ok", "failed", "unknown"
        )?;
        for (name, [ok, failed, unknown]) in &self.operations {
            writeln!(f, "    {name:<28} {ok:>8} {failed:>8} {unknown:>8}")?;
        }
        writeln!(
            f,
            "  {:<30} {:>8}",
            "faults",
            self.faults.values().sum::<u32>()
        )?;
        for (name, count) in &self.faults {
            writeln!(f, "    {name:<28} {count:>8}")?;
        }
        writeln!(f, "  {:<30} {:>8}", "sessions", self.sessions)?;
        writeln!(f, "  {:<30} {:>8}", "events", self.events)?;
        writeln!(f, "  {:<30} {:>8}", "frames", self.frames)?;
        writeln!(f, "  {:<30} {:>8}", "findings", self.findings.len())?;
        for finding in self.findings.iter().take(FINDINGS_SHOWN_MAX) {
            let line: String = finding
                .to_string()
                .chars()
                .take(FINDING_CHARS_MAX)
                .collect();
            writeln!(f, "    {line}")?;
        }
        if let Some(folder) = &self.folder {
            writeln!(f, "  kept in {}", folder.display())?;
        }
        Ok(())
    }
}
