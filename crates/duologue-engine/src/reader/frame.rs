//! Frames on their way to readers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use duologue_protocol::{CloseCode, ServerFrame};

/// A frame, and its JSON once it was requested.
#[derive(Debug)]
pub struct SharedFrame {
    frame: ServerFrame,
    json: OnceLock<Bytes>,
}

impl SharedFrame {
    /// Wraps a frame for any number of readers.
    pub fn new(frame: ServerFrame) -> Arc<Self> {
        Arc::new(Self {
            frame,
            json: OnceLock::new(),
        })
    }

    /// The frame itself, for dialects other than JSON.
    pub fn frame(&self) -> &ServerFrame {
        &self.frame
    }

    /// The frame in the JSON dialect, always valid UTF-8. It is serialised once for all readers.
    pub fn json(&self) -> Bytes {
        self.json
            .get_or_init(|| self.frame.to_json().into())
            .clone()
    }

    /// About how many bytes of memory the frame uses.
    pub(super) fn size_bytes(&self) -> u64 {
        const OVERHEAD_BYTES: usize = 160;
        let text = match &self.frame {
            ServerFrame::Token { text, .. } => text.len(),
            ServerFrame::Draft { text, .. } => text.len(),
            ServerFrame::Event(_) => self.json().len(),
            _ => 0,
        };
        (text + OVERHEAD_BYTES) as u64
    }
}

/// What a reader receives.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A frame to send to the client.
    Frame(Arc<SharedFrame>),
    /// The connection is to be closed with this code; nothing follows.
    Close(CloseCode),
}

impl Delivery {
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Self::Frame(frame) => frame.size_bytes(),
            Self::Close(_) => 0,
        }
    }
}
