//! No session is ended while somebody is there, or before somebody could have come back.

use std::time::Duration;

use duologue_protocol::{EndReason, SessionId};

use crate::{client::Knowledge, nemesis::HOLD_MAX, server, world::World};

/// What lies between a server's view and its client's: latency, messages that were held back, and
/// the time between two heartbeats, by which a server finds out that its database is away.
const SLACK: Duration = HOLD_MAX.saturating_add(Duration::from_millis(1500));

pub(super) fn problems(
    world: &World,
    session_id: &SessionId,
    known: Option<&Knowledge>,
) -> Vec<String> {
    let grace = server::settings().session.resume_grace;
    let endings = world.database.ledger(|ledger| ledger.endings.clone());
    let abandoned = endings
        .iter()
        .filter(|ending| ending.session_id == *session_id)
        .filter(|ending| ending.reason == EndReason::Abandoned);
    let mut problems = Vec::new();
    for ending in abandoned {
        let attached = known.and_then(|known| known.attached.range(..ending.at).next_back());
        let Some(attached) = attached else {
            // Nobody was ever let in, so there is nobody to wait for.
            continue;
        };
        // A client that is attached receives at least a ping much more often than a grace lasts.
        let waited = world.outages.available(*attached, ending.at);
        if waited + SLACK < grace {
            problems.push(format!(
                "abandoned at {:?}, though a client was there at {attached:?}, and could have come \
                 back for {waited:?} only",
                ending.at
            ));
        }
    }
    problems
}
