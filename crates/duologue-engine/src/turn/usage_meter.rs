//! The tokens that a turn's requests have used: as the endpoint counts them, or else estimated.
//!
//! An answer that was cancelled or broke off has cost tokens too, and no endpoint reports how many. If
//! they were not counted, a user who cancels each answer just before its end would pay nothing.

use duologue_protocol::Usage;

use crate::{
    provider::{Chunk, Request},
    transcript::size_bytes,
};

/// About how many bytes of English a token has. Other languages have fewer, so they are estimated too
/// low.
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

    /// A piece of the answer was received; the last one may contain what the endpoint counted.
    pub(crate) fn record(&mut self, chunk: &Chunk) {
        let Some((_, received)) = &mut self.open else {
            return;
        };
        match chunk {
            Chunk::Text(text) => *received += text.len() as u64,
            Chunk::Call(call) => {
                *received += (call.name.len() + call.arguments.to_string().len()) as u64;
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

    /// The request failed. If nothing was received, nothing was used.
    pub(crate) fn fail(&mut self) {
        if self.open.is_some_and(|(_, received)| received == 0) {
            self.open = None;
        }
    }

    /// All that was used; `None` if no model was asked.
    pub(crate) fn total(&self) -> Option<Usage> {
        let mut total = self.settled;
        if let Some(estimate) = self.estimate() {
            *total.get_or_insert_default() += estimate;
        }
        total
    }

    fn estimate(&self) -> Option<Usage> {
        self.open
            .map(|(request, received)| estimate(request, received))
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
