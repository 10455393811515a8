//! The events that plans write.

use duologue_engine::store::{Claim, Lease};
use duologue_protocol::{
    AssistantMessage, ClientConnected, ConnectionId, Event, EventBody, FinishReason, Seq,
    SessionStarted, UserMessage,
};

use super::operation::moment;

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
