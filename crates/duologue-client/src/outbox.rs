//! Messages that the server has not acknowledged yet.

use std::collections::VecDeque;

use duologue_protocol::OnBusy;
use serde_json::json;

/// A message that was not sent, since the server would close the connection with 1009.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has {bytes} bytes as a frame, and the server accepts {bytes_max}; send less")]
pub struct MessageTooBig {
    /// The id of the message.
    pub id: String,
    /// The size of its frame.
    pub bytes: u64,
    /// The limit of the server.
    pub bytes_max: u64,
}

/// Messages in the order in which they were given, each until its receipt or its refusal.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    messages: VecDeque<Pending>,
}

#[derive(Debug)]
struct Pending {
    id: String,
    frame: String,
    /// Whether it was sent over the current connection.
    is_sent: bool,
    /// Over how many connections it was sent.
    sendings: u32,
}

impl Pending {
    fn fits(&self, bytes_max: Option<u64>) -> bool {
        bytes_max.is_none_or(|bytes_max| self.frame.len() as u64 <= bytes_max)
    }
}

impl Outbox {
    pub(crate) fn push(&mut self, id: String, text: &str, on_busy: Option<OnBusy>) {
        let mut frame = json!({ "type": "message", "message": text, "id": id });
        if let Some(on_busy) = on_busy {
            frame["on_busy"] = json!(on_busy);
        }
        self.messages.push_back(Pending {
            frame: frame.to_string(),
            id,
            is_sent: false,
            sendings: 0,
        });
    }

    /// The next message that was not sent over this connection, as a frame, among those that are not
    /// larger than the server accepts.
    pub(crate) fn next_unsent(&mut self, bytes_max: Option<u64>) -> Option<String> {
        let mut messages = self.messages.iter_mut();
        let message = messages.find(|message| !message.is_sent && message.fits(bytes_max))?;
        message.is_sent = true;
        message.sendings += 1;
        Some(message.frame.clone())
    }

    /// Removes a message that is larger than the server accepts.
    pub(crate) fn remove_too_big(&mut self, bytes_max: u64) -> Option<MessageTooBig> {
        let mut messages = self.messages.iter();
        let index = messages.position(|message| !message.fits(Some(bytes_max)))?;
        let message = self.messages.remove(index)?;
        Some(MessageTooBig {
            id: message.id,
            bytes: message.frame.len() as u64,
            bytes_max,
        })
    }

    /// The server has the message, or refused it. Whether it was here.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let before = self.messages.len();
        self.messages.retain(|message| message.id != id);
        self.messages.len() < before
    }

    /// The connection is gone: what has no receipt will be sent again. Returns the ids of messages that
    /// were sent over `sendings_max` connections, which are dropped.
    pub(crate) fn connection_lost(&mut self, sendings_max: u32) -> Vec<String> {
        let mut dropped = Vec::new();
        self.messages.retain_mut(|message| {
            message.is_sent = false;
            let is_kept = message.sendings < sendings_max;
            if !is_kept {
                dropped.push(message.id.clone());
            }
            is_kept
        });
        dropped
    }

    /// Over how many connections a message was sent; `None` where it is not here.
    pub(crate) fn sendings(&self, id: &str) -> Option<u32> {
        let message = self.messages.iter().find(|message| message.id == id)?;
        Some(message.sendings)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
