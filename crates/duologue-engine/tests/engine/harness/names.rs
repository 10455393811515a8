//! The user of most tests, the ids of sessions, and what another server looks for.

use duologue_engine::store::{ServerId, Sweep};
use duologue_protocol::{SessionId, UserId};

use super::patience::seconds;

pub(crate) fn alice() -> UserId {
    UserId::new("alice").expect("a user id")
}

pub(crate) fn session_id(name: &str) -> SessionId {
    SessionId::new(name).expect("a session id")
}

/// A sweep for all that has lapsed.
pub(crate) fn sweep_by(server: &str) -> Sweep {
    Sweep {
        server: ServerId(server.to_owned()),
        lease_duration: seconds(3),
        grace: seconds(0),
        abandoned: Vec::new(),
        limit: 10,
    }
}
