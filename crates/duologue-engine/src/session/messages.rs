//! Decides what happens to a user's message: it starts a turn, waits for one, is refused, or was
//! received before.

use std::sync::Arc;

use duologue_protocol::{OnBusy, UserInput, UserMessage};

use crate::transcript::{MessagePosition, Transcript};

/// What happens to a new message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reception {
    /// Its turn starts now.
    Start,
    /// It waits for the running turn, or stops it.
    Queue(OnBusy),
    /// It is refused as `busy`, for this reason.
    Refuse(&'static str),
}

/// The state of a session that receives a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageQueueState {
    /// Whether the session is about to end or to be released.
    pub(super) is_closing: bool,
    /// What a new turn has to wait for.
    pub(super) obstacle: Option<Obstacle>,
    /// Whether as many messages wait as may.
    pub(super) is_full: bool,
}

/// Why no turn can start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// One is running.
    Turn,
    /// The server's lease may have lapsed.
    Lease,
}

/// Decides what happens to a new message that wants `on_busy`.
pub(super) fn receive(state: MessageQueueState, on_busy: OnBusy) -> Reception {
    if state.is_closing {
        return Reception::Refuse("the session is closing; send this again after reconnecting");
    }
    match state.obstacle {
        None => Reception::Start,
        Some(Obstacle::Turn) if on_busy == OnBusy::Reject => {
            Reception::Refuse("a turn is running; send this again when it is over")
        }
        Some(_) if state.is_full => {
            Reception::Refuse("too many messages wait for their turns; send this again later")
        }
        Some(Obstacle::Turn) => Reception::Queue(on_busy),
        // There is no turn that it could interrupt, or be rejected for.
        Some(Obstacle::Lease) => Reception::Queue(OnBusy::Queue),
    }
}

/// How many messages wait, given the message whose turn has started but is not stored yet: it is
/// still in the stored queue.
pub(super) fn waiting_count(transcript: &Transcript, unrecorded: Option<&UserMessage>) -> usize {
    let is_starting = unrecorded.is_some_and(|message| message.queued_seq.is_some());
    transcript.queue.len() - usize::from(is_starting)
}

/// A message that was received before, under the same id.
pub(super) enum Duplicate {
    /// It is in the log.
    Stored(MessagePosition),
    /// Its turn has started and is about to be stored. This is its text.
    Starting(Arc<str>),
}

/// Finds the message that was received before under this message's id.
pub(super) fn find_duplicate(
    input: &UserInput,
    transcript: &Transcript,
    unrecorded: Option<&UserMessage>,
) -> Option<Duplicate> {
    let id = input.id.as_ref()?;
    if let Some(position) = transcript.message_ids.get(id) {
        return Some(Duplicate::Stored(position));
    }
    let starting = unrecorded.filter(|message| message.id.as_ref() == Some(id))?;
    Some(Duplicate::Starting(Arc::clone(&starting.text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: MessageQueueState = MessageQueueState {
        is_closing: false,
        obstacle: None,
        is_full: false,
    };

    #[test]
    fn a_message_starts_a_turn_or_waits_or_is_refused() {
        let busy = MessageQueueState {
            obstacle: Some(Obstacle::Turn),
            ..IDLE
        };
        let full = MessageQueueState {
            is_full: true,
            ..busy
        };
        let closing = MessageQueueState {
            is_closing: true,
            ..IDLE
        };
        let held_back = MessageQueueState {
            obstacle: Some(Obstacle::Lease),
            ..IDLE
        };
        for on_busy in [OnBusy::Queue, OnBusy::Reject, OnBusy::Interrupt] {
            assert_eq!(receive(IDLE, on_busy), Reception::Start);
            assert!(matches!(receive(full, on_busy), Reception::Refuse(_)));
            assert!(matches!(receive(closing, on_busy), Reception::Refuse(_)));
            let queued = Reception::Queue(OnBusy::Queue);
            assert_eq!(receive(held_back, on_busy), queued);
        }
        for on_busy in [OnBusy::Queue, OnBusy::Interrupt] {
            assert_eq!(receive(busy, on_busy), Reception::Queue(on_busy));
        }
        assert!(matches!(
            receive(busy, OnBusy::Reject),
            Reception::Refuse(_)
        ));
    }
}
