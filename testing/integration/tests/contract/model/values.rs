//! The times, names and events of a plan.

use std::time::Duration;

use duologue_engine::store::{Claim, Lease, ServerId};
use duologue_protocol::{
    AssistantMessage, ClientConnected, ConnectionId, Event, EventBody, FinishReason, Seq,
    SessionId, SessionStarted, Timestamp, UserId, UserMessage,
};

use super::operation::Span;

pub(super) const LONG: Duration = Duration::from_mins(10);

pub(super) fn time(span: Span) -> Duration {
    match span {
        Span::None => Duration::ZERO,
        Span::Long => LONG,
    }
}

pub(super) fn moment(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn session_id(number: u8) -> SessionId {
    SessionId::new(&format!("s{number}")).unwrap()
}

pub(super) fn user_id(number: u8) -> UserId {
    UserId::new(&format!("u{number}")).unwrap()
}

pub(super) fn server_id(number: u8) -> ServerId {
    ServerId(format!("server-{number}"))
}

pub(super) fn turn_after(events: usize) -> u32 {
    u32::try_from(events).expect("a few")
}

/// A first event, which tells one claim from another.
pub(super) fn first_events(claim: &Claim) -> Vec<Event> {
    let body = EventBody::SessionStarted(SessionStarted {
        session_id: claim.session_id.clone(),
        user_id: claim.user_id.clone(),
        agent: claim.agent.clone(),
    });
    vec![Event {
        seq: Seq(1),
        occurred_at: moment(1),
        turn_id: None,
        body,
    }]
}

pub(super) fn started(lease: &Lease) -> EventBody {
    EventBody::SessionStarted(SessionStarted {
        session_id: lease.session_id.clone(),
        user_id: lease.user_id.clone(),
        agent: "guide".to_owned(),
    })
}

pub(super) fn connected(lease: &Lease, reopened: bool) -> EventBody {
    let connection = ConnectionId(lease.epoch);
    EventBody::ClientConnected(ClientConnected {
        connection,
        reopened,
    })
}

/// The epoch in the text tells one holder's events from another's.
pub(super) fn said(lease: &Lease) -> EventBody {
    let text = format!("under {}", lease.epoch).into();
    EventBody::UserMessage(UserMessage {
        text,
        id: None,
        queued_seq: None,
    })
}

pub(super) fn answered(lease: &Lease) -> EventBody {
    EventBody::AssistantMessage(AssistantMessage {
        text: format!("under {}", lease.epoch).into(),
        finish_reason: FinishReason::Stop,
        error: None,
        usage: None,
        ttft_ms: None,
        duration_ms: 1,
        model: "mock".to_owned(),
    })
}
