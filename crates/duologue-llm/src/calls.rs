//! Puts tool calls together from the pieces that endpoints stream.
//!
//! By the protocol, each piece has the `index` of its call, the first one has the id and the name,
//! and the arguments come as text in any number of pieces. Endpoints deviate: they repeat id and
//! name on every piece, make up a new id for each, leave out the index, or give the same one to all
//! calls. [`Calls::add`] tells pieces apart by whatever there is.
//!
//! Invariant: a call is given out only when the answer has said why it ends, so that half a call is
//! never made.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use duologue_engine::provider::{ModelCall, StopReason};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::wire::response::CallPiece;

/// The most calls in one answer. OpenAI's own limit.
const CALLS_MAX: usize = 128;

/// The most bytes of all calls' names, ids and arguments together. Far beyond what an output limit
/// of some thousand tokens allows.
const CALLS_BYTES_MAX: usize = 1 << 20;

/// The answer holds more calls, or larger ones, than any real one does.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer calls more than {CALLS_MAX} tools, or with more than {CALLS_BYTES_MAX} bytes")]
pub(crate) struct TooManyCalls;

/// The calls of one answer, as far as they have come.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    calls: Vec<Call>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Calls {
    /// Adds the next piece to the call that it belongs to.
    pub(crate) fn add(&mut self, mut piece: CallPiece) -> Result<(), TooManyCalls> {
        let id = piece.id.take().unwrap_or_default();
        let name = piece.function.name.take().unwrap_or_default();
        let arguments = piece.function.take_arguments();
        if id.is_empty() && name.is_empty() && arguments.is_empty() {
            return Ok(());
        }
        self.bytes += id.len() + name.len() + arguments.len();
        let position = self.find(piece.index, &id, &name);
        let has_room = position.is_some() || self.calls.len() < CALLS_MAX;
        if !has_room || self.bytes > CALLS_BYTES_MAX {
            return Err(TooManyCalls);
        }
        let Some(position) = position else {
            self.calls.push(Call {
                index: piece.index,
                id,
                name,
                arguments,
            });
            return Ok(());
        };
        let call = &mut self.calls[position];
        if call.id.is_empty() {
            call.id = id;
        }
        if call.name.is_empty() {
            call.name = name;
        }
        call.arguments.push_str(&arguments);
        Ok(())
    }

    /// Whether there is none so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The calls, complete, in the order in which they began.
    pub(crate) fn finish(&mut self, reason: StopReason) -> Vec<ModelCall> {
        let calls = std::mem::take(&mut self.calls);
        calls.into_iter().map(|call| call.finish(reason)).collect()
    }

    /// The call that a piece goes on with; none if it begins one.
    fn find(&self, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        if index.is_some() {
            let position = self.calls.iter().rposition(|call| call.index == index)?;
            let call = &self.calls[position];
            // The same index for all calls: another id and a name begin another call. An id alone
            // does not, since some endpoints make up a new one for every piece.
            let is_other = !id.is_empty() && !call.id.is_empty() && id != call.id;
            return Some(position).filter(|_| !is_other || name.is_empty());
        }
        if !id.is_empty()
            && let Some(position) = self.calls.iter().rposition(|call| call.id == id)
        {
            return Some(position);
        }
        let last = self.calls.last()?;
        // Neither index nor a known id: a name begins a call, unless the last one goes on with its
        // name repeated.
        let goes_on =
            name.is_empty() || (name == last.name && id.is_empty() && !is_json(&last.arguments));
        goes_on.then(|| self.calls.len() - 1)
    }
}

impl Call {
    fn finish(self, reason: StopReason) -> ModelCall {
        let arguments = match self.arguments.trim() {
            // Where the output limit cut the answer, arguments that are not there may be missing.
            "" if reason == StopReason::Length => Value::Null,
            "" => Value::Object(Map::new()),
            text => serde_json::from_str(text).map_or(Value::Null, value_without_nul),
        };
        ModelCall {
            id: without_nul(self.id).into_owned(),
            name: without_nul(self.name).into_owned(),
            arguments,
        }
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Replaces NUL, which databases refuse in text, by the replacement character.
pub(crate) fn without_nul<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    let text = text.into();
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text
    }
}

fn value_without_nul(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_nul(text).into_owned()),
        Value::Array(items) => items.into_iter().map(value_without_nul).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (without_nul(name).into_owned(), value_without_nul(value)))
            .collect(),
        other => other,
    }
}
