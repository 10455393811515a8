//! What a turn's requests have used, in tokens: as the endpoint counts, or else as the texts suggest.
//!
//! An answer that was cancelled or broke off has cost its tokens all the same, and no endpoint says how
//! many. Were they not counted, a client that cancels each answer just before its end would pay nothing.

use duologue_protocol::Usage;

use crate::{
    provider::{Chunk, Request},
    transcript::size_bytes,
};

/// Bytes of English to a token, about. Other languages have fewer, so that they are counted too low.
const TOKEN_BYTES: u64 = 4;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct UsageMeter {
    settled: Option<Usage>,
    /// The sizes of the request that is not over, and of its answer so far.
    open: Option<(u64, u64)>,
}

impl UsageMeter {
    /// A request is made.
    pub(crate) fn ask(&mut self, request: &Request) {
        let messages = request.messages.iter().map(size_bytes).sum::<usize>();
        self.open = Some(((request.system.len() + messages) as u64, 0));
    }

    /// A piece of the answer comes; with the last one may come what the endpoint counted.
    pub(crate) fn hear(&mut self, chunk: &Chunk) {
        let Some((_, heard)) = &mut self.open else {
            return;
        };
        match chunk {
            Chunk::Text(text) => *heard += text.len() as u64,
            Chunk::Call(call) => {
                *heard += (call.name.len() + call.arguments.to_string().len()) as u64;
            }
            Chunk::Progress => {}
            Chunk::Finished { usage, .. } => {
                let usage = usage.or_else(|| self.estimate());
                self.open = None;
                if let Some(usage) = usage {
                    *self.settled.get_or_insert_default() += usage;
                }
            }
        }
    }

    /// The request failed. If nothing was heard, nothing was used.
    pub(crate) fn fail(&mut self) {
        if self.open.is_some_and(|(_, heard)| heard == 0) {
            self.open = None;
        }
    }

    /// All that was used; none if no model was asked.
    pub(crate) fn total(&self) -> Option<Usage> {
        let mut total = self.settled;
        if let Some(estimate) = self.estimate() {
            *total.get_or_insert_default() += estimate;
        }
        total
    }

    fn estimate(&self) -> Option<Usage> {
        self.open.map(|(asked, heard)| estimate(asked, heard))
    }
}

/// The tokens that texts of these sizes have, about.
pub(crate) fn estimate(input_bytes: u64, output_bytes: u64) -> Usage {
    Usage {
        input_tokens: input_bytes.div_ceil(TOKEN_BYTES),
        output_tokens: output_bytes.div_ceil(TOKEN_BYTES),
        estimated: true,
    }
}
