//! The positions of the latest messages that have an id, so that a message that is sent again is stored
//! once.

use std::collections::{HashMap, VecDeque};

use duologue_protocol::{MessageId, Seq};

/// Message ids that a session remembers. A client sends again what it has no receipt for, which is
/// rarely more than one message; but a session may go on for months.
pub(crate) const MESSAGE_IDS_MAX: usize = 1024;

/// The latest ids, and where their messages are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MessageIds {
    positions: HashMap<MessageId, MessagePosition>,
    oldest_first: VecDeque<MessageId>,
}

/// Where a message is in the log: one of the two at least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct MessagePosition {
    /// Its `message_queued`, where it had to wait.
    pub(crate) queued: Option<Seq>,
    /// Its `user_message`, unless it waits still.
    pub(crate) message: Option<Seq>,
}

impl MessageIds {
    pub(crate) fn get(&self, id: &MessageId) -> Option<MessagePosition> {
        self.positions.get(id).copied()
    }

    /// A message waits for its turn.
    pub(super) fn queued(&mut self, id: &MessageId, at: Seq) {
        let position = MessagePosition {
            queued: Some(at),
            message: None,
        };
        self.remember(id, position);
    }

    /// A message's turn has begun.
    pub(super) fn stored(&mut self, id: &MessageId, at: Seq, queued: Option<Seq>) {
        let position = MessagePosition {
            queued,
            message: Some(at),
        };
        self.remember(id, position);
    }

    fn remember(&mut self, id: &MessageId, position: MessagePosition) {
        if self.positions.insert(id.clone(), position).is_some() {
            return;
        }
        self.oldest_first.push_back(id.clone());
        if self.oldest_first.len() > MESSAGE_IDS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.positions.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> MessageId {
        MessageId::new(&number.to_string()).expect("an id")
    }

    #[test]
    fn the_latest_message_ids_are_remembered_and_no_more() {
        let mut ids = MessageIds::default();
        for number in 0..MESSAGE_IDS_MAX + 3 {
            ids.stored(&id(number), Seq(number as u64), None);
        }
        assert_eq!(ids.get(&id(2)), None);
        let position = ids.get(&id(3)).expect("it is remembered");
        assert_eq!(position.message, Some(Seq(3)));
        assert_eq!(ids.positions.len(), MESSAGE_IDS_MAX);
        assert_eq!(ids.oldest_first.len(), MESSAGE_IDS_MAX);
    }

    #[test]
    fn a_message_that_waited_has_two_positions_under_one_id() {
        let mut ids = MessageIds::default();
        ids.queued(&id(1), Seq(5));
        ids.stored(&id(1), Seq(8), Some(Seq(5)));
        let position = MessagePosition {
            queued: Some(Seq(5)),
            message: Some(Seq(8)),
        };
        assert_eq!(ids.get(&id(1)), Some(position));
        assert_eq!(ids.oldest_first.len(), 1);
    }
}
