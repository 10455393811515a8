//! What a session is called in the log.
//!
//! Without authentication, anyone who knows the ids of a session and its user can read it; and clients
//! choose the content of ids. Logs travel further than the store, so they bear a short
//! hash: the same everywhere, enough to find all entries of one session, and no way back to its id.
//! An operator who has the id computes it: `printf %s ID | sha256sum | cut -c1-12`.

use std::fmt;

use duologue_protocol::SessionId;
use sha2::{Digest, Sha256};

/// Twelve hexadecimal digits: among a million sessions, two hardly ever share a name.
const BYTES: usize = 6;

/// A session's name in the log; to be written as the field `session.id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionIdHash([u8; BYTES]);

impl From<&SessionId> for SessionIdHash {
    fn from(id: &SessionId) -> Self {
        let digest = Sha256::digest(id.as_str().as_bytes());
        let mut name = [0; BYTES];
        name.copy_from_slice(&digest[..BYTES]);
        Self(name)
    }
}

impl fmt::Display for SessionIdHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operators compute it with other programs, and compare it with old logs.
    #[test]
    fn a_sessions_name_in_the_log_is_the_beginning_of_its_sha256() {
        let id = SessionId::new("trip-to-oslo").unwrap();
        assert_eq!(SessionIdHash::from(&id).to_string(), "9102399dd140");
    }
}
