//! What a session takes up next: what its readers ask, or what its turn puts out.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::session::{
    Command,
    running::{RunningTurn, TurnNews},
};

/// Something to take up.
pub(super) enum Input {
    /// A reader asks. `None`: nobody will any more.
    Command(Option<Command>),
    /// The turn goes on.
    Turn(TurnNews),
}

/// Which of the two was taken up last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Side {
    #[default]
    Readers,
    Turn,
}

/// Waits for the next input. Safe to cancel.
///
/// What was set aside has waited longest. Then the side that was not heard last goes first: readers that never stop asking must not starve the
/// answer, nor may a model that never stops talking keep a cancel from being heard.
pub(super) async fn next(
    set_aside: &mut VecDeque<Command>,
    inbox: &mut mpsc::Receiver<Command>,
    turn: &mut Option<RunningTurn>,
    last: &mut Side,
) -> Input {
    if let Some(command) = set_aside.pop_front() {
        return Input::Command(Some(command));
    }
    let news = async {
        match turn {
            Some(turn) => turn.next().await,
            None => std::future::pending().await,
        }
    };
    let input = match last {
        Side::Readers => tokio::select! {
            biased;
            news = news => Input::Turn(news),
            command = inbox.recv() => Input::Command(command),
        },
        Side::Turn => tokio::select! {
            biased;
            command = inbox.recv() => Input::Command(command),
            news = news => Input::Turn(news),
        },
    };
    *last = match input {
        Input::Command(_) => Side::Readers,
        Input::Turn(_) => Side::Turn,
    };
    input
}

#[cfg(test)]
mod tests {
    use duologue_protocol::{ClientFrame, ConnectionId};

    use super::*;
    use crate::{in_flight::InFlightGuard, session::running::tests::running};

    fn ping() -> Command {
        Command::Submit {
            connection: ConnectionId(1),
            frame: ClientFrame::Ping,
            load: InFlightGuard::nothing(),
        }
    }

    /// Both sides always have something to say, and are heard in turn.
    #[tokio::test]
    async fn neither_readers_nor_the_turn_can_drown_the_other() {
        let (commands, mut inbox) = mpsc::channel(8);
        let (turn, mut talk) = running();
        let mut turn = Some(turn);
        let mut last = Side::default();
        let mut heard = Vec::new();
        for _ in 0..6 {
            commands.try_send(ping()).expect("the inbox has room");
            talk();
            next(&mut VecDeque::new(), &mut inbox, &mut turn, &mut last).await;
            heard.push(last);
        }
        assert_eq!(heard, [Side::Turn, Side::Readers].repeat(3));
    }

    #[tokio::test]
    async fn who_has_nothing_to_say_is_not_waited_for() {
        let (commands, mut inbox) = mpsc::channel(8);
        let mut turn = None;
        let mut last = Side::default();
        for _ in 0..3 {
            commands.try_send(ping()).expect("the inbox has room");
            let input = next(&mut VecDeque::new(), &mut inbox, &mut turn, &mut last).await;
            assert!(matches!(input, Input::Command(Some(_))));
        }
    }
}
