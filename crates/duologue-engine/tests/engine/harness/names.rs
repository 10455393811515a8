//! The user of most tests, and the ids of sessions.

use duologue_protocol::{SessionId, UserId};

pub(crate) fn alice() -> UserId {
    UserId::new("alice").expect("a user id")
}

pub(crate) fn session_id(name: &str) -> SessionId {
    SessionId::new(name).expect("a session id")
}
