//! Where a client resumes.

use duologue_protocol::{LogId, Seq};

/// The point in a session's log up to which a client has received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last event that the client has received; zero requests the whole log.
    pub after: Seq,
    /// The history in which it received that event. Without it only the number is compared.
    pub log_id: Option<LogId>,
}

impl Position {
    /// Why the position is not in the log `log_id` that ends at `last_seq`; none if it is. The text is for
    /// the client.
    pub(super) fn mismatch(&self, log_id: &LogId, last_seq: Seq) -> Option<String> {
        let after = self.after;
        let is_another_log = self.log_id.as_ref().is_some_and(|known| known != log_id);
        let reason = if is_another_log {
            "`log_id` names another history of this session".to_owned()
        } else if after > last_seq {
            format!("`after` is {after}, but the log ends at {last_seq}")
        } else {
            return None;
        };
        Some(format!(
            "{reason}; discard what you have and connect again with `after=0`"
        ))
    }
}

impl From<Seq> for Position {
    /// A position without the id of its log.
    fn from(after: Seq) -> Self {
        Self {
            after,
            log_id: None,
        }
    }
}
