//! Messages that the server has not acknowledged yet.

use std::collections::VecDeque;

use duologue_protocol::OnBusy;
use serde_json::json;

/// Messages in the order in which they were given, each until its receipt or its refusal.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    messages: VecDeque<Pending>,
}

#[derive(Debug)]
struct Pending {
    id: String,
    text: String,
    on_busy: Option<OnBusy>,
    /// Whether it was sent over the current connection.
    is_sent: bool,
    /// Over how many connections it was sent.
    sendings: u32,
}

impl Pending {
    fn to_json(&self) -> String {
        let mut frame = json!({ "type": "message", "message": self.text, "id": self.id });
        if let Some(on_busy) = self.on_busy {
            frame["on_busy"] = json!(on_busy);
        }
        frame.to_string()
    }
}

impl Outbox {
    pub(crate) fn push(&mut self, id: String, text: String, on_busy: Option<OnBusy>) {
        self.messages.push_back(Pending {
            id,
            text,
            on_busy,
            is_sent: false,
            sendings: 0,
        });
    }

    /// The next message that was not sent over this connection, as a frame.
    pub(crate) fn next_unsent(&mut self) -> Option<String> {
        let message = self.messages.iter_mut().find(|message| !message.is_sent)?;
        message.is_sent = true;
        message.sendings += 1;
        Some(message.to_json())
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
