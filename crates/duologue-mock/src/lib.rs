//! The mock: a model that follows rules, so that a server without any key can be used and tested.
//!
//! It is deterministic: the same conversation gets the same answer in the same pieces. It calls no
//! tools by itself (the agent's rules do that) but puts their results into words, and it says
//! openly what it is. Under `directives`, a test writes into the user's message how the answer
//! shall go: see [`MockConfig::directives`].

mod directives;
mod quote;
mod reply;
mod summary;
mod tool_answer;

use std::{future, time::Duration, vec};

use duologue_protocol::Usage;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;

use self::directives::{AnswerEnd, Directives};
use duologue_engine::provider::{
    Chunk, Message, Provider, ProviderError, Purpose, Request, StopReason,
};

/// How the mock speaks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MockConfig {
    /// The wait before each piece but the first. `"0s"`: no timer is used at all.
    #[serde(with = "duration")]
    pub delay: Duration,
    /// Whether words of the user's message may direct the answer. For tests only: they let anyone
    /// make the mock fail.
    ///
    /// * `mock:words=500`: an answer of that many words
    /// * `mock:delay_ms=20`: another wait before each piece but the first
    /// * `mock:fail_at=3`: the endpoint becomes unavailable after three pieces, or at the end of a
    ///   shorter answer
    /// * `mock:stall_at=3`: nothing follows the third piece, ever
    /// * `mock:refuse`: the endpoint refuses the request
    pub directives: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Mock {
    config: MockConfig,
}

impl Mock {
    /// A mock that speaks as `config` says.
    pub fn new(config: MockConfig) -> Self {
        Self { config }
    }

    fn script(&self, request: &Request) -> Result<Script, ProviderError> {
        let mut directives = Directives::none(self.config.delay);
        let mut text = match request.purpose {
            Purpose::Turn => reply::reply(&request.messages),
            Purpose::Summary => summary::summary(last_user_text(&request.messages)),
        };
        if self.config.directives && request.purpose == Purpose::Turn {
            directives = directives.read(last_user_text(&request.messages))?;
        }
        if let AnswerEnd::Refuse = directives.end {
            return Err(ProviderError::Refused("the message asked for it".into()));
        }
        let pieces_max = request.output_tokens_max as usize;
        if let Some(words) = directives.words {
            text = counted_words(words.min(pieces_max.saturating_add(1)));
        }
        Ok(Script::new(
            &text,
            pieces_max,
            directives,
            input_tokens(request),
        ))
    }
}

impl Provider for Mock {
    fn model(&self) -> &'static str {
        "mock"
    }

    fn calls_tools(&self) -> bool {
        false
    }

    fn generate(&self, request: Request) -> BoxStream<'static, Result<Chunk, ProviderError>> {
        match self.script(&request) {
            Ok(script) => {
                stream::unfold(Some(script), |script| async { Some(script?.next().await) }).boxed()
            }
            Err(error) => stream::once(future::ready(Err(error))).boxed(),
        }
    }
}

/// An answer and how it is given.
struct Script {
    pieces: vec::IntoIter<String>,
    sent: usize,
    delay: Duration,
    end: AnswerEnd,
    input_tokens: u64,
    reason: StopReason,
}

impl Script {
    fn new(text: &str, pieces_max: usize, directives: Directives, input_tokens: u64) -> Self {
        let mut pieces: Vec<String> = pieces(text).map(str::to_owned).collect();
        let reason = if pieces.len() > pieces_max {
            StopReason::Length
        } else {
            StopReason::Stop
        };
        pieces.truncate(pieces_max);
        let end = match directives.end {
            AnswerEnd::FailAt(at) => AnswerEnd::FailAt(at.min(pieces.len())),
            AnswerEnd::StallAt(at) => AnswerEnd::StallAt(at.min(pieces.len())),
            other => other,
        };
        Self {
            pieces: pieces.into_iter(),
            sent: 0,
            delay: directives.delay,
            end,
            input_tokens,
            reason,
        }
    }

    /// The next chunk, and the script unless it is over.
    async fn next(mut self) -> (Result<Chunk, ProviderError>, Option<Self>) {
        match self.end {
            AnswerEnd::FailAt(at) if at == self.sent => {
                let cause = "the message asked for it".into();
                return (Err(ProviderError::Unavailable(cause)), None);
            }
            AnswerEnd::StallAt(at) if at == self.sent => future::pending().await,
            _ => {}
        }
        let Some(piece) = self.pieces.next() else {
            return (Ok(self.finished()), None);
        };
        if self.sent > 0 && !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        self.sent += 1;
        (Ok(Chunk::Text(piece.into())), Some(self))
    }

    fn finished(&self) -> Chunk {
        Chunk::Finished {
            reason: self.reason,
            usage: Some(Usage {
                input_tokens: self.input_tokens,
                output_tokens: self.sent as u64,
                estimated: false,
            }),
        }
    }
}

/// A text in pieces: each a word and the white space after it. Together they are the text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}

fn counted_words(count: usize) -> String {
    let words: Vec<String> = (1..=count).map(|number| format!("word{number}")).collect();
    words.join(" ")
}

/// What the mock counts as tokens: the pieces of all that it is shown.
fn input_tokens(request: &Request) -> u64 {
    let messages = request.messages.iter().map(|message| match message {
        Message::User(text) | Message::Assistant { text, .. } => text,
        Message::Tool { content, .. } => content,
    });
    let texts = messages.chain([&request.system]);
    texts.map(|text| pieces(text).count() as u64).sum()
}

fn last_user_text(messages: &[Message]) -> &str {
    let mut newest_first = messages.iter().rev();
    let text = newest_first.find_map(|message| match message {
        Message::User(text) => Some(text.as_ref()),
        _ => None,
    });
    text.unwrap_or_default()
}

#[cfg(test)]
mod tests;
