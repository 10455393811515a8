//! What a session takes up next: what its readers ask, or what its turn puts out.

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
/// The side that was not heard last goes first: readers that never stop asking must not starve the
/// answer, nor may a model that never stops talking keep a cancel from being heard.
pub(super) async fn next(
    inbox: &mut mpsc::Receiver<Command>,
    turn: &mut Option<RunningTurn>,
    last: &mut Side,
) -> Input {
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
