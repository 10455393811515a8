//! The token of a connection: its expiry, and the new token that replaces it.
//!
//! A check may wait for the issuer's keys, so it runs concurrently with everything else that a socket
//! does. Only one token is checked at a time, and only a few may fail.

use std::{future, sync::Arc, time::Duration};

use duologue_engine::rearmed_timer::RearmedTimer;
use duologue_protocol::{ErrorCode, ErrorFrame, Timestamp, UserId};
use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use tokio::time::Instant;

use crate::auth::{AuthError, Authenticator, Caller, Identity};

/// More invalid tokens than a correct client would send; each costs a signature check.
const FAILURES_MAX: u32 = 5;

/// An event of the token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenEvent {
    /// The token expires soon.
    ExpiresSoon { expires_at: Timestamp },
    /// The token has expired, or too many invalid ones were sent. The connection must be closed.
    Expired,
    /// A new token was accepted.
    Refreshed(Identity),
    /// A new token was refused; the old one remains valid.
    Refused(AuthError),
}

/// The token of one connection.
pub(super) struct ConnectionToken {
    authenticator: Arc<Authenticator>,
    user_id: UserId,
    term: Term,
    checking: Option<BoxFuture<'static, Result<Identity, AuthError>>>,
    failures: u32,
    timer: RearmedTimer,
}

/// The times at which a token expires.
#[derive(Clone, Copy, Debug)]
struct Term {
    /// The `exp` of the token.
    end: Timestamp,
    /// None once the client was notified.
    notice: Option<Instant>,
    close: Instant,
}

impl ConnectionToken {
    /// `None` where authentication is disabled.
    pub(super) fn new(authenticator: &Arc<Authenticator>, caller: &Caller) -> Option<Self> {
        let expires_at = caller.expires_at?;
        Some(Self {
            authenticator: Arc::clone(authenticator),
            user_id: caller.user_id.clone(),
            term: Term::new(expires_at, authenticator),
            checking: None,
            failures: 0,
            timer: RearmedTimer::default(),
        })
    }

    /// Starts the check of a new token. [`next`](Self::next) returns its result.
    pub(super) fn refresh(&mut self, token: String) -> Result<(), ErrorFrame> {
        if self.checking.is_some() {
            let message = "another token is being checked; wait for the result";
            return Err(ErrorFrame::new(ErrorCode::Busy, message));
        }
        let (authenticator, user_id) = (Arc::clone(&self.authenticator), self.user_id.clone());
        let token = token.into();
        self.checking = Some(Box::pin(async move {
            authenticator.verify(&token, Some(&user_id)).await
        }));
        Ok(())
    }

    /// Waits for the next event. Safe to cancel.
    pub(super) async fn next(&mut self) -> TokenEvent {
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
            () = self.timer.wait_until(at) => {
                if due != TokenEvent::Expired {
                    self.term.notice = None;
                }
                return due;
            }
        };
        self.checking = None;
        match checked {
            Ok(identity) => {
                self.term = Term::new(identity.expires_at, &self.authenticator);
                self.failures = 0;
                TokenEvent::Refreshed(identity)
            }
            Err(error) => {
                self.failures += u32::from(error != AuthError::Unavailable);
                if self.failures >= FAILURES_MAX {
                    self.term.close = Instant::now();
                }
                TokenEvent::Refused(error)
            }
        }
    }
}

impl Term {
    fn new(expires_at: Timestamp, authenticator: &Authenticator) -> Self {
        let config = &authenticator.config;
        Self::measured(
            expires_at,
            authenticator.now(),
            config.leeway,
            config.expiry_notice,
        )
    }

    /// Times are converted to waits once, so that a change of the clock closes no connection.
    fn measured(expires_at: Timestamp, now: Timestamp, leeway: Duration, notice: Duration) -> Self {
        // No connection lives longer, and no timer has this range.
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

    fn due(&self) -> (Instant, TokenEvent) {
        match self.notice {
            Some(at) if at < self.close => {
                let expires_at = self.end;
                (at, TokenEvent::ExpiresSoon { expires_at })
            }
            _ => (self.close, TokenEvent::Expired),
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
    async fn a_client_is_notified_before_its_token_expires_and_closed_after() {
        let start = Instant::now();
        let mut term = term(SignedDuration::from_mins(10));
        let (at, due) = term.due();
        assert!(matches!(due, TokenEvent::ExpiresSoon { .. }));
        assert_eq!(at - start, Duration::from_mins(9));
        term.notice = None;
        let (at, due) = term.due();
        assert_eq!(due, TokenEvent::Expired);
        assert_eq!(at - start, Duration::from_mins(10) + LEEWAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_notified_at_once_if_its_token_expires_very_soon() {
        let start = Instant::now();
        let short = term(SignedDuration::from_secs(-20));
        assert_eq!(short.due().0, start);
        assert_eq!(short.close - start, Duration::from_secs(5));
        // An expiry in the distant future overflows nothing.
        let long = term(SignedDuration::from_hours(24 * 365 * 1000));
        assert!(long.due().0 > start + Duration::from_hours(24 * 300));
    }
}
