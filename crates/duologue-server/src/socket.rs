//! One WebSocket: frames from the client become commands, deliveries from the session become frames.
//!
//! A socket does not interpret what it carries. It translates frames, enforces the limits of a
//! connection (pings, rates, write timeout), and reports how the client disconnected.

mod attach_request;
mod attached_socket;
mod connection_end;
mod connection_token;
#[cfg(feature = "testing")]
pub(crate) mod echo;
mod frame_rate_limiter;
mod heartbeat;
mod outgoing;
mod pending_auth;

pub(crate) use self::{
    attach_request::AttachRequest, attached_socket::AttachedSocket, pending_auth::PendingAuth,
};
