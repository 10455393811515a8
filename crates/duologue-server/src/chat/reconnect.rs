//! What to do when the connection is gone.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// What follows a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The session is over, as it should be.
    Leave,
    /// Coming back would end the same way; the text says why.
    GiveUp(&'static str),
    /// Come back; the text says why the connection was closed.
    Reconnect(&'static str),
}

/// Decides by the close code; `None` where there was no close frame.
///
/// An unknown code leads back, since new codes are mostly about the server's own affairs.
pub(super) fn after_close(code: Option<u16>) -> Next {
    match code {
        Some(1000) => Next::Leave,
        Some(1007) => Next::GiveUp("the server could not read a message"),
        Some(1009) => Next::GiveUp("the message was larger than the server allows"),
        Some(1002 | 1003) => {
            Next::GiveUp("the server and this client do not understand each other")
        }
        Some(4401) => Next::GiveUp("the token is missing, wrong or expired"),
        Some(1008 | 4400..=4499) => Next::GiveUp("the server does not allow this"),
        Some(1012) => Next::Reconnect("the server is restarting"),
        Some(1013) => Next::Reconnect("the server cannot serve the session right now"),
        Some(1011) => Next::Reconnect("the server had a fault"),
        Some(4008) => Next::Reconnect("this terminal did not keep up"),
        Some(4009) => Next::Reconnect("the session moved to another server"),
        Some(_) | None => Next::Reconnect("the connection was lost"),
    }
}

/// The waits between attempts: doubling, with jitter so that clients do not all come at once, and
/// over after about a minute and a half.
pub(super) fn waits() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(12)
        .with_jitter()
}

/// A series of waits, begun anew whenever a connection holds.
#[derive(Debug)]
pub(super) struct Waits {
    pattern: ExponentialBuilder,
    left: backon::ExponentialBackoff,
}

impl Waits {
    pub(super) fn new(pattern: ExponentialBuilder) -> Self {
        Self {
            pattern,
            left: pattern.build(),
        }
    }

    /// The connection holds.
    pub(super) fn begin_anew(&mut self) {
        self.left = self.pattern.build();
    }

    /// The next wait: as long as the server asked for, and a random time more; `None` when it is time
    /// to give up.
    pub(super) fn next(&mut self, at_least: Duration) -> Option<Duration> {
        Some(at_least + self.left.next()?)
    }
}

#[cfg(test)]
mod tests {
    use duologue_protocol::CloseCode;

    use super::*;

    /// The protocol names the codes after which a client does not come back by itself.
    #[test]
    fn the_close_code_decides_whether_to_come_back() {
        for code in [
            CloseCode::Internal,
            CloseCode::Restart,
            CloseCode::TryAgainLater,
            CloseCode::Unresponsive,
            CloseCode::Slow,
            CloseCode::TakenOver,
        ] {
            let next = after_close(Some(code.number()));
            assert!(matches!(next, Next::Reconnect(_)), "{code:?}");
        }
        for code in [
            CloseCode::InvalidText,
            CloseCode::TooBig,
            CloseCode::Unauthorized,
            CloseCode::NotFound,
        ] {
            let next = after_close(Some(code.number()));
            assert!(matches!(next, Next::GiveUp(_)), "{code:?}");
        }
        let ended = Some(CloseCode::Ended.number());
        assert_eq!(after_close(ended), Next::Leave);
        assert!(matches!(after_close(None), Next::Reconnect(_)));
        assert!(matches!(after_close(Some(1001)), Next::Reconnect(_)));
    }

    #[test]
    fn waits_grow_honour_the_server_and_end() {
        let mut waits = Waits::new(waits());
        let first = waits.next(Duration::ZERO).unwrap();
        assert!(first <= Duration::from_secs(1), "{first:?}");
        let asked = Duration::from_mins(1);
        let second = waits.next(asked).unwrap();
        assert!(second > asked, "{second:?}");
        assert!(second <= asked + Duration::from_secs(2), "{second:?}");
        while waits.next(Duration::ZERO).is_some() {}
        waits.begin_anew();
        assert!(waits.next(Duration::ZERO).is_some());
    }
}
