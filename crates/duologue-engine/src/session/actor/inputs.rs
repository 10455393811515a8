//! What a session handles next: a command of its readers, or an event of its turn.

use crate::session::{
    inbox::{Command, Inbox},
    turn_slot::{TurnEvent, TurnSlot},
};

/// Something to handle.
pub(super) enum Input {
    /// A command.
    Command(Command),
    /// An event of the running turn.
    Turn(TurnEvent),
}

/// Alternates between the two sources: readers that never stop sending must not starve the answer,
/// nor may a model that never stops generating delay a cancel.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    last: Source,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Readers,
    Turn,
}

impl Inputs {
    /// Waits for the next input. Deferred commands have waited longest, so they come first. Safe to
    /// cancel.
    pub(super) async fn next(&mut self, inbox: &mut Inbox, turn: &mut TurnSlot) -> Input {
        if inbox.has_deferred() {
            return Input::Command(inbox.next().await);
        }
        let input = match self.last {
            Source::Readers => tokio::select! {
                biased;
                event = turn.next() => Input::Turn(event),
                command = inbox.next() => Input::Command(command),
            },
            Source::Turn => tokio::select! {
                biased;
                command = inbox.next() => Input::Command(command),
                event = turn.next() => Input::Turn(event),
            },
        };
        self.last = match input {
            Input::Command(_) => Source::Readers,
            Input::Turn(_) => Source::Turn,
        };
        input
    }
}

#[cfg(test)]
mod tests {
    use duologue_protocol::{ClientFrame, ConnectionId};

    use super::*;
    use crate::{
        in_flight::InFlightGuard,
        reader::RequestSink,
        session::{inbox::with_capacity, turn_slot::tests::running},
    };

    fn ping(requests: &dyn RequestSink) {
        let sent = requests.submit(ClientFrame::Ping, InFlightGuard::nothing());
        sent.expect("the inbox has room");
    }

    /// Both sources always have something, and alternate.
    #[tokio::test]
    async fn neither_readers_nor_the_turn_can_drown_the_other() {
        let (_handle, mut inbox) = with_capacity(8);
        let requests = inbox
            .reader_slot()
            .expect("there is room")
            .requests(ConnectionId(1));
        let (mut turn, mut speak) = running();
        let mut inputs = Inputs::default();
        let mut order = Vec::new();
        for _ in 0..6 {
            ping(&*requests);
            speak();
            inputs.next(&mut inbox, &mut turn).await;
            order.push(inputs.last);
        }
        assert_eq!(order, [Source::Turn, Source::Readers].repeat(3));
    }

    #[tokio::test]
    async fn a_source_without_input_is_not_waited_for() {
        let (_handle, mut inbox) = with_capacity(8);
        let requests = inbox
            .reader_slot()
            .expect("there is room")
            .requests(ConnectionId(1));
        let mut turn = TurnSlot::default();
        let mut inputs = Inputs::default();
        for _ in 0..3 {
            ping(&*requests);
            let input = inputs.next(&mut inbox, &mut turn).await;
            assert!(matches!(input, Input::Command(_)));
        }
    }
}
