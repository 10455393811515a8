//! A live connection's token: until when it counts, and the fresh one that takes its place.
//!
//! A check may wait for the issuer's keys, so it runs beside everything else that a socket does.
//! There is one at a time, and not more than a few may fail.

use std::{future, sync::Arc, time::Duration};

use duologue_protocol::{ErrorCode, ErrorFrame, Timestamp, UserId};
use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use tokio::time::Instant;

use crate::auth::{Auth, AuthError, Caller, Identity};

/// More wrong tokens than a client in good faith would send; each costs a signature check.
const FAILURES_MAX: u32 = 5;

/// What there is to do about the token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Tell the client that it expires.
    Notice { expires_at: Timestamp },
    /// Close: it has expired, or too many wrong ones came.
    Close,
    /// A fresh one was accepted.
    Fresh(Identity),
    /// One was refused; the old one still counts.
    Refused(AuthError),
}

/// The token of one connection.
pub(super) struct Credentials {
    auth: Arc<Auth>,
    user_id: UserId,
    term: Term,
    checking: Option<BoxFuture<'static, Result<Identity, AuthError>>>,
    failures: u32,
}

/// When what is due about a token's end.
#[derive(Clone, Copy, Debug)]
struct Term {
    /// As the token says.
    end: Timestamp,
    /// None once the client was told.
    notice: Option<Instant>,
    close: Instant,
}

impl Credentials {
    /// `None` where users are taken on trust.
    pub(super) fn new(auth: &Arc<Auth>, caller: &Caller) -> Option<Self> {
        let expires_at = caller.expires_at?;
        Some(Self {
            auth: Arc::clone(auth),
            user_id: caller.user_id.clone(),
            term: Term::new(expires_at, auth),
            checking: None,
            failures: 0,
        })
    }

    /// Takes a token to be checked. [`next`](Self::next) tells what came of it.
    pub(super) fn take(&mut self, token: String) -> Result<(), ErrorFrame> {
        if self.checking.is_some() {
            let message = "a token is being checked; wait for its answer";
            return Err(ErrorFrame::new(ErrorCode::Busy, message));
        }
        let (auth, user_id) = (Arc::clone(&self.auth), self.user_id.clone());
        let token = token.into();
        self.checking = Some(Box::pin(async move {
            auth.verify(&token, Some(&user_id)).await
        }));
        Ok(())
    }

    /// Waits for what is due next. Safe to cancel.
    pub(super) async fn next(&mut self) -> Due {
        let checked = async {
            match &mut self.checking {
                Some(checking) => checking.await,
                None => future::pending().await,
            }
        };
        let (at, due) = self.term.due();
        let checked = tokio::select! {
            biased;
            checked = checked => checked,
            () = tokio::time::sleep_until(at) => {
                if due != Due::Close {
                    self.term.notice = None;
                }
                return due;
            }
        };
        self.checking = None;
        match checked {
            Ok(identity) => {
                self.term = Term::new(identity.expires_at, &self.auth);
                self.failures = 0;
                Due::Fresh(identity)
            }
            Err(error) => {
                self.failures += u32::from(error != AuthError::Unavailable);
                if self.failures >= FAILURES_MAX {
                    self.term.close = Instant::now();
                }
                Due::Refused(error)
            }
        }
    }
}

impl Term {
    fn new(expires_at: Timestamp, auth: &Auth) -> Self {
        let config = &auth.config;
        Self::measured(expires_at, auth.now(), config.leeway, config.expiry_notice)
    }

    /// Moments are turned into waits once, so that a clock that is set does not cut anybody off.
    fn measured(expires_at: Timestamp, now: Timestamp, leeway: Duration, notice: Duration) -> Self {
        // Beyond this no connection lives, and no timer counts so far.
        let most = SignedDuration::from_hours(24 * 365);
        let left = expires_at.duration_since(now).min(most);
        let until = |moment: SignedDuration| {
            Instant::now() + Duration::try_from(moment).unwrap_or(Duration::ZERO)
        };
        let (leeway, notice) = (signed(leeway), signed(notice));
        Self {
            end: expires_at,
            notice: Some(until(left - notice)),
            close: until(left + leeway),
        }
    }

    fn due(&self) -> (Instant, Due) {
        match self.notice {
            Some(at) if at < self.close => {
                let expires_at = self.end;
                (at, Due::Notice { expires_at })
            }
            _ => (self.close, Due::Close),
        }
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEEWAY: Duration = Duration::from_secs(25);
    const NOTICE: Duration = Duration::from_mins(1);

    fn term(left: SignedDuration) -> Term {
        let now: Timestamp = "2026-01-01T09:00:00Z".parse().unwrap();
        Term::measured(now + left, now, LEEWAY, NOTICE)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_told_before_its_token_ends_and_cut_off_after() {
        let start = Instant::now();
        let mut term = term(SignedDuration::from_mins(10));
        let (at, due) = term.due();
        assert!(matches!(due, Due::Notice { .. }));
        assert_eq!(at - start, Duration::from_mins(9));
        term.notice = None;
        let (at, due) = term.due();
        assert_eq!(due, Due::Close);
        assert_eq!(at - start, Duration::from_mins(10) + LEEWAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_almost_over_is_told_of_at_once() {
        let start = Instant::now();
        let short = term(SignedDuration::from_secs(-20));
        assert_eq!(short.due().0, start);
        assert_eq!(short.close - start, Duration::from_secs(5));
        // One that has all the time in the world overflows nothing.
        let long = term(SignedDuration::from_hours(24 * 365 * 1000));
        assert!(long.due().0 > start + Duration::from_hours(24 * 300));
    }
}
