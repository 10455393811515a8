//! Directives: how a test tells the mock, within the user's message, how an answer shall go.

use std::{str::FromStr, time::Duration};

use duologue_engine::provider::ProviderError;

const PREFIX: &str = "mock:";
const ALLOWED: &str = "`mock:words=N`, `mock:delay_ms=N`, `mock:fail_at=N`, `mock:stall_at=N` and \
                       `mock:refuse`";

/// How an answer shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directives {
    /// How many words it has.
    pub(super) words: Option<usize>,
    /// The wait before each piece but the first.
    pub(super) delay: Duration,
    pub(super) end: AnswerEnd,
}

/// What becomes of an answer. Counts are of pieces sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerEnd {
    Finish,
    FailAt(usize),
    StallAt(usize),
    Refuse,
}

impl Directives {
    /// What holds where a message says nothing else.
    pub(super) fn none(delay: Duration) -> Self {
        Self {
            words: None,
            delay,
            end: AnswerEnd::Finish,
        }
    }

    /// Takes over what `text` says. A word that looks like a directive and is none is refused, since
    /// a test with a typing error would otherwise test nothing.
    pub(super) fn read(mut self, text: &str) -> Result<Self, ProviderError> {
        for word in text.split_whitespace() {
            let Some(directive) = word.strip_prefix(PREFIX) else {
                continue;
            };
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name {
                "words" => self.words = Some(number(word, value)?),
                "delay_ms" => self.delay = Duration::from_millis(number(word, value)?),
                "fail_at" => self.end = AnswerEnd::FailAt(number(word, value)?),
                "stall_at" => self.end = AnswerEnd::StallAt(number(word, value)?),
                "refuse" if value.is_empty() => self.end = AnswerEnd::Refuse,
                _ => return Err(unknown(word)),
            }
        }
        Ok(self)
    }
}

fn number<N: FromStr>(word: &str, value: &str) -> Result<N, ProviderError> {
    value.parse().map_err(|_| unknown(word))
}

fn unknown(word: &str) -> ProviderError {
    ProviderError::Refused(format!("unknown directive `{word}`; allowed are {ALLOWED}").into())
}
