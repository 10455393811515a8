//! Ids and positions: strings that were checked once, at the edge.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a string is not an id. The message says what is allowed and is fit for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 1 to 128 characters of the session alphabet.
    #[error("a session id has 1 to 128 characters of `A-Z a-z 0-9 . _ : -`")]
    Session,
    /// Empty, too long, or with control characters.
    #[error("a user id has 1 to 128 characters, none of them a control character")]
    User,
    /// Empty, too long, or with control characters.
    #[error("a message id has 1 to 128 characters, none of them a control character")]
    Message,
    /// Not 1 to 64 characters of the alphabet.
    #[error("a log id has 1 to 64 characters of `A-Z a-z 0-9 _ -`")]
    Log,
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $check:path, $error:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes an id of it.
            pub fn new(text: &str) -> Result<Self, IdError> {
                if $check(text) { Ok(Self(text.into())) } else { Err($error) }
            }

            /// The id as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

string_id! {
    /// Names a session: 1 to 128 characters of `A-Z a-z 0-9 . _ : -`. A UUID is recommended.
    SessionId, is_session_id, IdError::Session
}

string_id! {
    /// Names a user: 1 to 128 characters without control characters.
    UserId, is_printable_id, IdError::User
}

string_id! {
    /// A client's own name for a message, which makes sending it again safe: 1 to 128 characters
    /// without control characters.
    MessageId, is_printable_id, IdError::Message
}

string_id! {
    /// Names one history of a session: random, made with the session, and made again when the session is
    /// restored from a backup. 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    LogId, is_log_id, IdError::Log
}

impl UserId {
    /// Who a client is when it does not say: `anonymous`.
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }
}

fn is_session_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

fn is_log_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

fn is_printable_id(text: &str) -> bool {
    // Bytes bound the work before characters are counted.
    text.len() <= 512
        && (1..=128).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
}

/// Position of an event in its session's log: 1, 2, 3, … without gaps. Zero is before the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers the connections of one session: 1, 2, 3, … in the order in which they attached.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// The number of the next connection.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a turn within its session: `turn-1`, `turn-2`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TurnId(pub u32);

impl fmt::Display for TurnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "turn-{}", self.0)
    }
}

impl From<TurnId> for String {
    fn from(id: TurnId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TurnId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let number = text
            .strip_prefix("turn-")
            .and_then(|number| number.parse().ok());
        number
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a turn id such as `turn-1`"))
    }
}

/// Names a tool call within its session: `call-3-1` is the first call of the third turn.
///
/// We name calls ourselves, since some models repeat the ids they give.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub String);

impl CallId {
    /// The `number`th call, counted from 1, of a turn.
    pub fn new(turn: TurnId, number: u32) -> Self {
        Self(format!("call-{}-{number}", turn.0))
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_keeps_to_its_alphabet_and_length() {
        for good in [
            "a",
            "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
            "A.b_c:d-9",
            &"x".repeat(128),
        ] {
            assert_eq!(SessionId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "é", "a\0", &"x".repeat(129)] {
            assert_eq!(SessionId::new(bad), Err(IdError::Session), "{bad:?}");
        }
    }

    #[test]
    fn a_user_id_may_be_any_short_printable_text() {
        assert!(UserId::new("josé@example.com").is_ok());
        assert!(UserId::new(&"é".repeat(128)).is_ok());
        for bad in ["", "a\nb", &"é".repeat(129)] {
            assert_eq!(UserId::new(bad), Err(IdError::User), "{bad:?}");
        }
    }

    #[test]
    fn a_turn_id_reads_back_as_it_was_written() {
        let json = serde_json::to_string(&TurnId(7)).unwrap();
        assert_eq!(json, r#""turn-7""#);
        assert_eq!(serde_json::from_str::<TurnId>(&json).unwrap(), TurnId(7));
        assert!(serde_json::from_str::<TurnId>(r#""seven""#).is_err());
    }
}
