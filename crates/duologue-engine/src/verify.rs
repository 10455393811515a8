//! The checker: what breaks the invariants in a session as it is stored.
//!
//! Pure: it receives what is stored, and returns what is wrong with it. `duologue verify` runs it
//! on live databases, and the tests on what they leave behind. A sound session is never reported,
//! be it in the middle of a turn; [`read`] makes sure that what is checked is one snapshot.

mod endings;
mod findings;
mod invariant;
mod log;
mod queue;
mod read;
mod snapshot;
#[cfg(test)]
mod tests;
mod turns;

use self::{findings::Findings, snapshot::Entry};
pub use self::{
    findings::Violation,
    invariant::Invariant,
    read::{check, check_paged, read},
    snapshot::SessionSnapshot,
};

/// All that breaks an invariant in this session; empty if it is sound.
///
/// Where a row cannot be read, only that and gaps are reported: nobody knows what the rest of the
/// log says.
pub fn violations(snapshot: &SessionSnapshot) -> Vec<Violation> {
    let mut findings = Findings {
        session_id: &snapshot.head.record.session_id,
        found: Vec::new(),
    };
    log::is_gap_free(snapshot, &mut findings);
    log::is_readable(snapshot, &mut findings);
    let log: Option<Vec<_>> = snapshot.log.iter().map(Entry::of).collect();
    if let Some(log) = log {
        log::has_messages_once(&log, &mut findings);
        log::has_a_single_writer(snapshot.head.epoch, &log, &mut findings);
        log::has_time_going_forward(&log, &mut findings);
        queue::is_taken_up(&snapshot.head.record, &log, &mut findings);
        turns::are_closed(&snapshot.head.record, &log, &mut findings);
        turns::have_their_calls_answered(&log, &mut findings);
        endings::are_single(&snapshot.head, &log, &mut findings);
        endings::have_their_jobs(&snapshot.head, &log, &mut findings);
        endings::make_the_row(&snapshot.head, &log, &mut findings);
    }
    findings.found
}
