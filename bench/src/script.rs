//! What the upstream answers: a message of the user says so, and each token contains what is needed to check it.

use std::{fmt, sync::OnceLock, time::Duration};

use tokio::time::Instant;

/// What an upstream answers to a message that contains this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) tokens: u32,
    /// How many tokens the upstream sends with one write to its connection.
    pub(crate) tokens_per_write: u32,
    /// The time from one write to the next. With zero the upstream only lets other answers run in between.
    pub(crate) pace: Duration,
}

impl Script {
    /// A short answer at once.
    pub(crate) const ONE_TOKEN: Self = Self {
        tokens: 1,
        tokens_per_write: 1,
        pace: Duration::ZERO,
    };

    /// The script that a message contains; `None` if it contains none.
    pub(crate) fn parse(message: &str) -> Option<Self> {
        let mut words = message.strip_prefix("bench ")?.split(' ');
        let mut number = |name: &str| words.next()?.strip_prefix(name)?.parse::<u32>().ok();
        Some(Self {
            tokens: number("tokens=")?,
            tokens_per_write: number("per_write=")?.max(1),
            pace: Duration::from_micros(number("pace_us=")?.into()),
        })
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tokens, per_write) = (self.tokens, self.tokens_per_write);
        let pace = self.pace.as_micros();
        write!(
            f,
            "bench tokens={tokens} per_write={per_write} pace_us={pace}"
        )
    }
}

/// Microseconds since this process first asked for them. They wrap after an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u32);

impl Stamp {
    pub(crate) fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let micros = START.get_or_init(Instant::now).elapsed().as_micros();
        Self(u32::try_from(micros & u128::from(u32::MAX)).expect("the upper bits are masked"))
    }

    /// The time from this stamp to `later`.
    pub(crate) fn until(self, later: Self) -> Duration {
        Duration::from_micros(later.0.wrapping_sub(self.0).into())
    }
}

/// One token of an answer: its index, and when the upstream wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) index: u32,
    pub(crate) written: Stamp,
}

impl Token {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (index, written) = text.strip_suffix(' ')?.split_once('.')?;
        Some(Self {
            index: u32::from_str_radix(index, 16).ok()?,
            written: Stamp(u32::from_str_radix(written, 16).ok()?),
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x} ", self.index, self.written.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_survives_the_way_through_a_message() {
        let script = Script {
            tokens: 400,
            tokens_per_write: 16,
            pace: Duration::from_millis(20),
        };
        assert_eq!(Script::parse(&script.to_string()), Some(script));
        assert_eq!(Script::parse("user: bench tokens=1"), None);
    }

    #[test]
    fn a_token_contains_its_index_and_time() {
        let token = Token {
            index: 399,
            written: Stamp::now(),
        };
        assert_eq!(Token::parse(&token.to_string()), Some(token));
        assert_eq!(Token::parse("18f.12"), None);
    }

    #[test]
    fn times_may_wrap() {
        let elapsed = Stamp(u32::MAX).until(Stamp(1));
        assert_eq!(elapsed, Duration::from_micros(2));
    }
}
