//! An answer ends soon after its last piece, as long as nothing is broken.

use std::time::Duration;

use crate::{client::Knowledge, world::World};

/// How late `done` may be: some round trips to the database, and the latency of the network.
const DONE_DELAY_MAX: Duration = Duration::from_secs(2);

/// How long servers, clients and leases may take to recover once something was repaired.
const RECOVERY: Duration = Duration::from_secs(8);

pub(super) fn problems(world: &World, known: Option<&Knowledge>) -> Vec<String> {
    let ends = known.into_iter().flat_map(|known| &known.ends);
    let late = ends.filter(|(last_piece, done)| {
        let from = last_piece.saturating_sub(RECOVERY);
        let is_calm = world.disturbances.available(from, *done) == done.saturating_sub(from)
            && !world.database.has_failed(from..*done);
        is_calm && done.saturating_sub(*last_piece) > DONE_DELAY_MAX
    });
    late.map(|(last_piece, done)| {
        let delay = done.saturating_sub(*last_piece);
        format!(
            "at {done:?} an answer ended {delay:?} after its last piece, though nothing was wrong"
        )
    })
    .collect()
}
