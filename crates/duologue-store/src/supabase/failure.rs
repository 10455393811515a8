//! What can become of a call over HTTP, and what that means to the caller of the store.

use std::{fmt, time::Duration};

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde::Deserialize;

use crate::{functions::Failure, sqlstate};

/// How much of the interface's own words is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// Why a call failed, by how far it came.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestFailure {
    #[error("too many calls wait for Supabase")]
    Busy,
    #[error("Supabase asked for a pause, of which {} ms are left", .0.as_millis())]
    Paused(Duration),
    #[error("no connection to Supabase")]
    NotConnected(#[source] reqwest::Error),
    /// The request may have been carried out.
    #[error("the answer of Supabase was lost")]
    Lost(#[source] reqwest::Error),
    /// The request may have been carried out.
    #[error("Supabase did not answer in time")]
    TimedOut,
    /// The request may have been carried out.
    #[error("the answer of Supabase ended half-way")]
    Half,
    #[error("Supabase did not carry the call out")]
    Refused(#[source] Refusal),
    #[error("the answer of Supabase is larger than we take")]
    TooLarge,
    #[error("the answer of Supabase cannot be read")]
    Unreadable(#[source] serde_json::Error),
}

/// An answer that is none: a status other than success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// One of Postgres's codes, or `PGRST` and a number; empty if a gateway has answered.
    pub(super) code: String,
    message: String,
    pub(super) retry_after: Option<Duration>,
}

/// As PostgREST spells errors. It has more fields, which may quote what users wrote.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Spelled {
    code: Option<String>,
    message: Option<String>,
}

impl Refusal {
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        // Gateways answer with pages for people; then the status must do.
        let spelled: Spelled = serde_json::from_slice(body).unwrap_or_default();
        // The other form, a date, is not what Supabase sends; without it we wait as we see fit.
        let seconds = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        let seconds = seconds.and_then(|text| text.trim().parse().ok());
        Self {
            status,
            code: fit_for_log(&spelled.code.unwrap_or_default()),
            message: fit_for_log(&spelled.message.unwrap_or_default()),
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    /// Whether the code is one of Postgres's own.
    fn is_of_postgres(&self) -> bool {
        self.code.len() == 5
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.code.is_empty() {
            write!(f, ", {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl RestFailure {
    pub(super) fn of_transport(error: reqwest::Error) -> Self {
        // The URL contains the ids of users and sessions, which logs must not have.
        let error = error.without_url();
        if error.is_connect() {
            Self::NotConnected(error)
        } else {
            Self::Lost(error)
        }
    }

    pub(super) fn of_answer(error: serde_json::Error) -> Self {
        // Where the end of a body is the end of its connection, HTTP cannot tell that half is
        // missing.
        if error.is_eof() {
            Self::Half
        } else {
            Self::Unreadable(error)
        }
    }
}

impl Failure for RestFailure {
    /// Whether it is certain that the call had no effect.
    fn is_without_effect(&self) -> bool {
        match self {
            Self::Busy | Self::Paused(_) | Self::NotConnected(_) => true,
            Self::Refused(refusal) => {
                refusal.status == StatusCode::TOO_MANY_REQUESTS
                    || sqlstate::is_broken_off(&refusal.code)
                    // PostgREST had no connection to the database to spare.
                    || refusal.code == "PGRST003"
            }
            Self::Lost(_) | Self::TimedOut | Self::Half | Self::TooLarge | Self::Unreadable(_) => {
                false
            }
        }
    }

    /// Whether it is worth trying again at once, or almost.
    fn is_brief(&self) -> bool {
        match self {
            Self::NotConnected(_) | Self::Lost(_) | Self::Half => true,
            Self::Refused(refusal) => match refusal.status.as_u16() {
                _ if refusal.is_of_postgres() => sqlstate::may_pass(&refusal.code),
                408 | 425 | 429 | 500.. => true,
                _ => false,
            },
            Self::Busy
            | Self::Paused(_)
            | Self::TimedOut
            | Self::TooLarge
            | Self::Unreadable(_) => false,
        }
    }

    fn may_pass(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                self.is_brief()
                    // A key that is being exchanged, or rights that are.
                    || matches!(refusal.status.as_u16(), 401 | 403)
                    // The interface has yet to learn of changes to the schema.
                    || matches!(refusal.code.as_str(), "PGRST106" | "PGRST202")
            }
            Self::TooLarge | Self::Unreadable(_) => false,
            Self::Busy
            | Self::Paused(_)
            | Self::NotConnected(_)
            | Self::Lost(_)
            | Self::TimedOut
            | Self::Half => true,
        }
    }

    fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge)
    }
}

/// Without control characters, and not too long.
fn fit_for_log(message: &str) -> String {
    let characters = message.chars().take(MESSAGE_CHARS_MAX);
    characters
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> RestFailure {
        let status = StatusCode::from_u16(status).unwrap();
        RestFailure::Refused(Refusal::read(status, &HeaderMap::new(), body.as_bytes()))
    }

    fn coded(status: u16, code: &str) -> RestFailure {
        refused(status, &format!(r#"{{"code":"{code}","message":"m"}}"#))
    }

    /// Goal: what an answer means decides between trying again now, later, and never.
    #[test]
    fn an_answer_says_when_to_try_again() {
        let page = "<html>bad gateway</html>";
        for (failure, now, later) in [
            (refused(502, page), true, true),
            (refused(429, page), true, true),
            (coded(503, "PGRST001"), true, true),
            (coded(500, "40001"), true, true),
            (coded(500, "57014"), true, true),
            (coded(401, "PGRST301"), false, true),
            (coded(403, "42501"), false, true),
            (coded(404, "PGRST202"), false, true),
            (coded(400, "22P02"), false, false),
            (coded(500, "XX000"), false, false),
            (refused(302, page), false, false),
            (refused(413, page), false, false),
            (RestFailure::TimedOut, false, true),
            (RestFailure::TooLarge, false, false),
        ] {
            assert_eq!(
                (failure.is_brief(), failure.may_pass()),
                (now, later),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn only_what_never_reached_the_database_is_without_effect() {
        assert!(refused(429, "").is_without_effect());
        assert!(coded(500, "40P01").is_without_effect());
        assert!(!refused(503, "").is_without_effect());
        assert!(!RestFailure::TimedOut.is_without_effect());
    }

    #[test]
    fn an_answer_is_told_in_one_line() {
        let text = |body| {
            let status = StatusCode::BAD_GATEWAY;
            Refusal::read(status, &HeaderMap::new(), body).to_string()
        };
        assert_eq!(text(b"<html>"), "502 Bad Gateway");
        assert_eq!(
            text(br#"{"code":"X","message":"a\nb","details":"what a user wrote"}"#),
            "502 Bad Gateway, X: a b"
        );
        assert_eq!(text(br#"{"code":"X\nY"}"#).lines().count(), 1);
    }
}
