//! What a client does after a close code.

/// What follows from the code of a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterClose {
    /// The session has ended. The client does not reconnect by itself.
    Finish,
    /// A new connection would end the same way. The client does not reconnect by itself.
    GiveUp,
    /// The client reconnects with another token only.
    Reauthenticate,
    /// The client reconnects and resumes after the last event.
    Reconnect,
}

impl AfterClose {
    /// The rule for a close code; `None` where the connection broke without a close frame.
    ///
    /// An unknown code from 4000 to 4999 is treated like 1013, all other unknown codes like 1011, so
    /// both lead to a new connection. 1003, 1008 and 1010 are never sent by a server of this protocol;
    /// an intermediary that sends one rejects what the client does.
    pub fn of(code: Option<u16>) -> Self {
        match code {
            Some(1000) => Self::Finish,
            Some(1002 | 1003 | 1007..=1010 | 4404) => Self::GiveUp,
            Some(4401) => Self::Reauthenticate,
            _ => Self::Reconnect,
        }
    }
}

/// What a close code means, for people; `None` where there was no close frame.
pub fn close_reason(code: Option<u16>) -> &'static str {
    match code {
        Some(1000) => "the session has ended",
        Some(1002 | 1003) => "the server and this client do not understand each other",
        Some(1007) => "the server could not read a message",
        Some(1008 | 1010) => "the server does not allow this",
        Some(1009) => "the message was larger than the server allows",
        Some(1011) => "the server failed",
        Some(1012) => "the server is restarting",
        Some(1013) => "the server cannot serve the session now",
        Some(4006) => "the connection reached its maximum age",
        Some(4007) => "the server received no answer to its pings",
        Some(4008) => "this client read too slowly",
        Some(4009) => "the session moved to another server",
        Some(4029) => "this client sent too many requests",
        Some(4401) => "the token is missing, wrong or expired",
        Some(4404) => "there is no such session, or it belongs to another user",
        Some(_) => "the server closed the connection",
        None => "the connection was lost",
    }
}

#[cfg(test)]
mod tests {
    use duologue_protocol::CloseCode;

    use super::*;

    /// The table of `docs/protocol.md`, section 9.
    #[test]
    fn each_close_code_has_the_consequence_that_the_protocol_names() {
        for (code, expected) in [
            (CloseCode::Ended, AfterClose::Finish),
            (CloseCode::Protocol, AfterClose::GiveUp),
            (CloseCode::InvalidText, AfterClose::GiveUp),
            (CloseCode::TooBig, AfterClose::GiveUp),
            (CloseCode::Internal, AfterClose::Reconnect),
            (CloseCode::Restart, AfterClose::Reconnect),
            (CloseCode::TryAgainLater, AfterClose::Reconnect),
            (CloseCode::TooOld, AfterClose::Reconnect),
            (CloseCode::Unresponsive, AfterClose::Reconnect),
            (CloseCode::Slow, AfterClose::Reconnect),
            (CloseCode::TakenOver, AfterClose::Reconnect),
            (CloseCode::Flooding, AfterClose::Reconnect),
            (CloseCode::Unauthorized, AfterClose::Reauthenticate),
            (CloseCode::NotFound, AfterClose::GiveUp),
        ] {
            assert_eq!(AfterClose::of(Some(code.number())), expected, "{code:?}");
            let unknown = close_reason(Some(3999));
            assert_ne!(close_reason(Some(code.number())), unknown, "{code:?}");
        }
    }

    #[test]
    fn an_unknown_code_and_a_broken_connection_lead_to_a_new_connection() {
        for code in [
            None,
            Some(1001),
            Some(3000),
            Some(4000),
            Some(4403),
            Some(4999),
        ] {
            assert_eq!(AfterClose::of(code), AfterClose::Reconnect, "{code:?}");
        }
    }
}
