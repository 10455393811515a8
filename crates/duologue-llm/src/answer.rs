//! One answer: bytes of the response in, the engine's chunks out. Does no IO.
//!
//! When an answer is over is the subtle part. `finish_reason` says that it is complete, but the
//! count of tokens may come after it, in an event of its own, before `[DONE]` or the end of the
//! stream; either may be missing. So [`Chunk::Finished`] is given out at `[DONE]`, or at the end if
//! a reason was seen; an end without any is a connection that broke.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use duologue_engine::provider::{Chunk, StopReason};
use duologue_protocol::Usage;
use serde_json::{Value, error::Category};

use crate::{
    calls::{Calls, TooManyCalls, without_nul},
    sse::{SseDecoder, TooLong},
    wire::response::{Choice, Completion, Content, plain_text},
};

/// The data of the event that ends a stream.
const DONE: &str = "[DONE]";

/// Pieces that come together stay together, up to this many: readers' queues are bounded.
const PIECES_MAX: usize = 256;

/// Why an answer cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The endpoint sent an error in place of the rest.
    #[error("the endpoint reports an error")]
    Reported(Value),
    /// What came is no chat completion. Its text may be the model's, so it is not repeated.
    #[error("byte {byte} of an event is not as it must be ({category:?})")]
    Malformed { category: Category, byte: usize },
    /// See [`TooLong`].
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// See [`TooManyCalls`].
    #[error(transparent)]
    TooManyCalls(#[from] TooManyCalls),
    /// The model failed, and did not say why.
    #[error("the answer ends with `finish_reason` `error`")]
    Failed,
    /// The stream ended before the answer did.
    #[error("the answer broke off")]
    BrokeOff,
}

/// Reads an answer that comes as a stream of events.
#[derive(Debug)]
pub(crate) struct StreamedAnswer {
    /// None once the stream has ended.
    sse: Option<SseDecoder>,
    answer: Answer,
}

impl StreamedAnswer {
    /// An answer whose lines, and whose events, have at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            sse: Some(SseDecoder::new(bytes_max)),
            answer: Answer::default(),
        }
    }

    /// Reads the next bytes. What came before an error can still be taken.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), AnswerError> {
        let Self { sse, answer } = self;
        let read = match sse {
            Some(sse) => sse.decode(bytes, &mut |data| answer.event(data)),
            None => Ok(()),
        };
        read.or_else(|error| self.forgive(error))
    }

    /// Reads the end of the stream.
    pub(crate) fn end(&mut self) -> Result<(), AnswerError> {
        let Self { sse, answer } = self;
        let sse = sse.take();
        let read = sse.map_or(Ok(()), |sse| sse.finish(&mut |data| answer.event(data)));
        // What the end cuts off is half an event more often than a whole one. Half an event is no
        // news beside the end itself.
        match read {
            Err(error @ AnswerError::Reported(_)) => self.forgive(error),
            Ok(()) | Err(_) => self.answer.end(),
        }
    }

    /// The next chunk that is complete.
    pub(crate) fn next_chunk(&mut self) -> Option<Chunk> {
        self.answer.chunks.pop_front()
    }

    /// Whether the model has said all; only the count of tokens may still come.
    pub(crate) fn is_complete(&self) -> bool {
        self.answer.is_over || self.answer.reason.is_some()
    }

    /// An answer that is complete is good, whatever happens after it.
    fn forgive(&mut self, error: AnswerError) -> Result<(), AnswerError> {
        if self.is_complete() {
            self.answer.end()
        } else {
            Err(error)
        }
    }
}

/// Reads an answer that came as a whole, from an endpoint that does not stream.
pub(crate) fn read_whole(body: &[u8]) -> Result<VecDeque<Chunk>, AnswerError> {
    let mut answer = Answer::default();
    answer.completion(body)?;
    // A body that could be read is whole, even if it does not say why it ends.
    if !(answer.chunks.is_empty() && answer.calls.is_empty()) {
        answer.reason.get_or_insert(StopReason::Stop);
    }
    answer.end()?;
    Ok(answer.chunks)
}

/// What has been read of one answer.
#[derive(Debug, Default)]
struct Answer {
    /// Complete, and not taken yet.
    chunks: VecDeque<Chunk>,
    calls: Calls,
    /// Why the answer ends, once it has said so.
    reason: Option<StopReason>,
    usage: Option<Usage>,
    is_over: bool,
}

impl Answer {
    /// Reads an event's data.
    fn event(&mut self, data: &str) -> Result<(), AnswerError> {
        let data = data.trim();
        if self.is_over || data.is_empty() {
            return Ok(());
        }
        if data == DONE {
            self.finish(self.reason.unwrap_or(StopReason::Stop));
            return Ok(());
        }
        if let Some(text) = plain_text(data) {
            self.text(&text);
            return Ok(());
        }
        self.completion(data.as_bytes())
    }

    fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let text = without_nul(text);
        match self.chunks.back_mut() {
            Some(Chunk::Text(pieces)) if pieces.count() < PIECES_MAX => pieces.push(&text),
            _ => self.chunks.push_back(Chunk::Text((*text).into())),
        }
    }

    fn completion(&mut self, json: &[u8]) -> Result<(), AnswerError> {
        let mut completion = Completion::read(json).map_err(|error| AnswerError::Malformed {
            category: error.classify(),
            byte: error.column(),
        })?;
        if let Some(error) = completion.take_error() {
            return Err(AnswerError::Reported(error));
        }
        // Some endpoints count with every event; the last count is the right one.
        self.usage = completion.usage().or(self.usage);
        let first = completion.choices.into_iter().find(Choice::is_first);
        first.map_or(Ok(()), |choice| self.choice(choice))
    }

    fn choice(&mut self, mut choice: Choice) -> Result<(), AnswerError> {
        let delta = choice.take_delta();
        let is_at_work = delta.is_reasoning() || !delta.tool_calls.is_empty();
        let text = delta.content.map(Content::into_text);
        for text in text.into_iter().chain(delta.refusal) {
            self.text(&text);
        }
        for piece in delta.tool_calls {
            self.calls.add(piece)?;
        }
        if is_at_work {
            self.chunks.push_back(Chunk::Progress);
        }
        self.reason = match choice.finish_reason() {
            None => self.reason,
            Some("length") => Some(StopReason::Length),
            Some("error") => return Err(AnswerError::Failed),
            // `stop`, `tool_calls`, `content_filter`, and whatever else there may be.
            Some(_) => Some(StopReason::Stop),
        };
        Ok(())
    }

    /// Reads the end of the answer.
    fn end(&mut self) -> Result<(), AnswerError> {
        if !self.is_over {
            let reason = self.reason.ok_or(AnswerError::BrokeOff)?;
            self.finish(reason);
        }
        Ok(())
    }

    fn finish(&mut self, reason: StopReason) {
        let calls = self.calls.finish(reason);
        self.chunks.extend(calls.into_iter().map(Chunk::Call));
        self.chunks.push_back(Chunk::Finished {
            reason,
            usage: self.usage,
        });
        self.is_over = true;
    }
}
