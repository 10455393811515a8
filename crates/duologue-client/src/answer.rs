//! The order of an answer's deltas.

use serde_json::Value;

use crate::violation::Violation;

/// The answer in progress, as far as its deltas were received over the current connection.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    turn_id: String,
    next_index: u64,
}

impl Answer {
    /// The connection is gone: deltas are missing until the next `start` or `draft`.
    pub(crate) fn connection_lost(&mut self) {
        self.current = None;
    }

    pub(crate) fn start(&mut self, turn_id: &str, next_index: u64) {
        self.current = Some(Current {
            turn_id: turn_id.to_owned(),
            next_index,
        });
    }

    /// Checks a `token`. `false` where its text was received already.
    pub(crate) fn token(&mut self, turn_id: &str, index: Option<u64>) -> Result<bool, Violation> {
        let current = self.current.as_mut();
        let current = current.filter(|current| current.turn_id == turn_id);
        let expected = current.as_ref().map(|current| current.next_index);
        match (current, index) {
            (Some(current), Some(index)) if index == current.next_index => {
                current.next_index += 1;
                Ok(true)
            }
            (Some(current), Some(index)) if index < current.next_index => Ok(false),
            _ => Err(Violation::TokenGap {
                turn_id: turn_id.to_owned(),
                expected,
                index,
            }),
        }
    }

    pub(crate) fn done(&mut self, turn_id: &str) {
        self.current.take_if(|current| current.turn_id == turn_id);
    }
}

/// A string field; empty where it is absent.
pub(crate) fn string<'a>(json: &'a Value, field: &str) -> &'a str {
    json[field].as_str().unwrap_or_default()
}
