//! The checker: what breaks the invariants in a session as it is kept.
//!
//! Pure: it is given what a store keeps, and says what is wrong with it. `duologue verify` runs it
//! on live databases, and the tests on what they leave behind. A sound session is never reported,
//! be it in the middle of a turn; [`read`] sees to it that what is checked is of one moment.

mod endings;
mod findings;
mod invariant;
mod kept;
mod log;
mod queue;
mod snapshot;
#[cfg(test)]
mod tests;
mod turns;

use self::{findings::Findings, kept::Entry};
pub use self::{
    findings::Violation,
    invariant::Invariant,
    kept::Kept,
    snapshot::{check, read},
};

/// All that breaks an invariant in this session; empty if it is sound.
///
/// Where a row cannot be read, only that and gaps are reported: nobody knows what the rest of the
/// log says.
pub fn violations(kept: &Kept) -> Vec<Violation> {
    let mut findings = Findings {
        session_id: &kept.head.record.session_id,
        found: Vec::new(),
    };
    log::is_gap_free(kept, &mut findings);
    log::is_readable(kept, &mut findings);
    let log: Option<Vec<_>> = kept.log.iter().map(Entry::of).collect();
    if let Some(log) = log {
        log::has_messages_once(&log, &mut findings);
        log::has_a_single_writer(kept.head.epoch, &log, &mut findings);
        log::has_time_going_forward(&log, &mut findings);
        queue::is_taken_up(&kept.head.record, &log, &mut findings);
        turns::are_closed(&kept.head.record, &log, &mut findings);
        turns::have_their_calls_answered(&log, &mut findings);
        endings::are_single(&kept.head, &log, &mut findings);
        endings::have_their_jobs(&kept.head, &log, &mut findings);
        endings::make_the_row(&kept.head, &log, &mut findings);
    }
    findings.found
}
