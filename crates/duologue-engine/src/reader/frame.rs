//! Frames on their way to readers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use duologue_protocol::{CloseCode, ServerFrame, TokenFrames};

/// About how many bytes of memory a frame uses besides its text.
const OVERHEAD_BYTES: usize = 160;

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
    fn size_bytes(&self) -> u64 {
        let text = match &self.frame {
            ServerFrame::Draft { text, .. } => text.len(),
            ServerFrame::Event(_) => self.json().len(),
            _ => 0,
        };
        (text + OVERHEAD_BYTES) as u64
    }
}

/// Frames of consecutive pieces of an answer, and their JSON once it was requested.
#[derive(Debug)]
pub struct SharedTokens {
    frames: TokenFrames,
    json: OnceLock<Vec<Bytes>>,
}

impl SharedTokens {
    /// The frames in the JSON dialect, always valid UTF-8. They are serialised once for all readers, into
    /// one buffer.
    pub fn json(&self) -> &[Bytes] {
        self.json.get_or_init(|| {
            let (json, ends) = self.frames.to_json();
            let json = Bytes::from(json);
            let mut start = 0;
            let slices = ends
                .into_iter()
                .map(|end| json.slice(std::mem::replace(&mut start, end)..end));
            slices.collect()
        })
    }

    /// The frames one by one, for dialects other than JSON.
    pub fn frames(&self) -> impl Iterator<Item = Arc<SharedFrame>> {
        self.frames.frames().map(SharedFrame::new)
    }
}

/// What a reader receives.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A frame to send to the client.
    Frame(Arc<SharedFrame>),
    /// Frames to send to the client, in one write.
    Tokens(Arc<SharedTokens>),
    /// The connection is to be closed with this code; nothing follows.
    Close(CloseCode),
}

impl Delivery {
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Self::Frame(frame) => frame.size_bytes(),
            Self::Tokens(tokens) => {
                let pieces = &tokens.frames.pieces;
                (pieces.len() + pieces.count() * OVERHEAD_BYTES) as u64
            }
            Self::Close(_) => 0,
        }
    }

    /// How many frames it counts as.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.frames.pieces.count(),
            Self::Frame(_) | Self::Close(_) => 1,
        }
    }
}

impl From<ServerFrame> for Delivery {
    fn from(frame: ServerFrame) -> Self {
        Self::Frame(SharedFrame::new(frame))
    }
}

impl From<TokenFrames> for Delivery {
    fn from(frames: TokenFrames) -> Self {
        Self::Tokens(Arc::new(SharedTokens {
            frames,
            json: OnceLock::new(),
        }))
    }
}
