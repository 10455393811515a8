//! The queued messages, in the order of their turns.
//!
//! The queue is a fold of the log, so it is the same on every server. The session limits its length
//! before it appends to the log.

use std::{collections::VecDeque, sync::Arc};

use duologue_protocol::{MessageQueued, OnBusy, Seq, UserMessage};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Queue(VecDeque<QueuedMessage>);

/// One message that waits.
#[derive(Clone, Debug, PartialEq)]
struct QueuedMessage {
    seq: Seq,
    message: MessageQueued,
}

impl Queue {
    /// Adds a message. One that interrupts goes before those that do not, and after those that
    /// interrupted earlier.
    pub(super) fn add(&mut self, seq: Seq, message: &MessageQueued) {
        let place = match message.on_busy {
            OnBusy::Interrupt => self.0.partition_point(|queued| {
                // Those that interrupt stand first.
                queued.message.on_busy == OnBusy::Interrupt
            }),
            OnBusy::Queue | OnBusy::Reject => self.0.len(),
        };
        let message = message.clone();
        self.0.insert(place, QueuedMessage { seq, message });
    }

    /// The turn of a message has begun.
    pub(super) fn remove(&mut self, seq: Seq) {
        self.0.retain(|queued| queued.seq != seq);
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The next message, as its turn will start.
    pub(crate) fn first(&self) -> Option<UserMessage> {
        self.0.front().map(QueuedMessage::start)
    }

    /// All queued messages, each as its turn will start.
    pub(crate) fn all(&self) -> impl Iterator<Item = UserMessage> {
        self.0.iter().map(QueuedMessage::start)
    }
}

impl QueuedMessage {
    fn start(&self) -> UserMessage {
        UserMessage {
            text: Arc::clone(&self.message.text),
            id: self.message.id.clone(),
            queued_seq: Some(self.seq),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(queue: &Queue) -> Vec<String> {
        queue
            .all()
            .map(|message| message.text.to_string())
            .collect()
    }

    #[test]
    fn who_interrupts_goes_first_and_otherwise_the_order_is_that_of_coming() {
        let mut queue = Queue::default();
        for (seq, text, on_busy) in [
            (1, "a", OnBusy::Queue),
            (2, "b", OnBusy::Queue),
            (3, "now", OnBusy::Interrupt),
            (4, "c", OnBusy::Queue),
            (5, "now too", OnBusy::Interrupt),
        ] {
            let message = MessageQueued {
                text: text.into(),
                id: None,
                on_busy,
            };
            queue.add(Seq(seq), &message);
        }
        assert_eq!(texts(&queue), ["now", "now too", "a", "b", "c"]);
        assert_eq!(
            queue.first().and_then(|first| first.queued_seq),
            Some(Seq(3))
        );
        queue.remove(Seq(3));
        queue.remove(Seq(1));
        assert_eq!(texts(&queue), ["now too", "b", "c"]);
    }
}
