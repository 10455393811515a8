//! Who users are: what a request brings to prove it, and whether that holds.
//!
//! ```text
//! request ──▶ Presented ──▶ Verifier ──▶ Caller
//!             (one token)   (keys, rules)  (user id, until when)
//! ```
//!
//! A token is checked before anything is asked of the store, by one signature at most, and with a
//! key and an algorithm of our choosing. It is never logged, nor is anything that it says.
//!
//! Not here: what a user may see, which the store's methods decide by the user they are given.

mod admin;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod jwks;
mod keys;
mod presented;
mod token;

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use duologue_engine::clock::Clock;
use duologue_protocol::{Timestamp, UserId};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub(crate) use crate::auth::admin::AdminTokens;
pub use crate::auth::admin::NewAdminToken;
pub(crate) use crate::auth::{jwks::fetch_keys, keys::KeyError, presented::Presented};
use crate::{
    auth::token::Verifier,
    config::{AuthConfig, Authentication},
    http::{client_address::ClientAddress, error::ApiError},
    server::App,
};

/// Why somebody is not let in. Each asks for something else of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthError {
    /// There is no token.
    Missing,
    /// The token comes in more than one way, or in one that is not allowed.
    Misplaced,
    /// The token was good once.
    Expired,
    /// The token is none of ours.
    Invalid,
    /// The token is good, and `user_id` names somebody else.
    OtherUser,
    /// The keys to check tokens by cannot be had.
    Unavailable,
}

/// Who is there, and until when that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user_id: UserId,
    /// The end of the token; none where users are taken on trust.
    pub(crate) expires_at: Option<Timestamp>,
}

/// A user known by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user_id: UserId,
    pub(crate) expires_at: Timestamp,
}

/// All that authentication needs, made once from `[auth]`.
pub(crate) struct Auth {
    pub(crate) config: AuthConfig,
    pub(crate) admin: AdminTokens,
    /// Places for clients that are connected and have not yet said who they are.
    pub(crate) waiting: Arc<Semaphore>,
    verifier: Option<Verifier>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("verifier", &self.verifier)
            .finish_non_exhaustive()
    }
}

impl Auth {
    /// Fetches nothing yet. The configuration has been checked. Fetches of keys are among `tasks`.
    pub(crate) fn new(
        config: &AuthConfig,
        supabase_url: &str,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> Result<Self, KeyError> {
        let verifier = match config.authentication(supabase_url) {
            Authentication::OnTrust => None,
            Authentication::ByToken(rules) => Some(Verifier::new(&rules, config, tasks)?),
        };
        Ok(Self {
            config: config.clone(),
            admin: AdminTokens::read(&config.admin_tokens).unwrap_or_default(),
            waiting: Arc::new(Semaphore::new(usize::from(config.waiting_max))),
            verifier,
            clock,
        })
    }

    /// Whether users are taken at their word.
    pub(crate) fn is_on_trust(&self) -> bool {
        self.verifier.is_none()
    }

    /// The time by which tokens are measured.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Who sent a request. `claimed` is the query's `user_id`, which proves nothing.
    ///
    /// Where tokens are wanted and there is none, the error is [`AuthError::Missing`].
    pub(crate) async fn identify(
        &self,
        presented: Presented,
        claimed: Option<&str>,
    ) -> Result<Caller, ApiError> {
        let claimed = claimed.filter(|user_id| !user_id.is_empty());
        let claimed = claimed.map(UserId::new).transpose()?;
        if self.is_on_trust() {
            return Ok(Caller {
                user_id: claimed.unwrap_or_else(UserId::anonymous),
                expires_at: None,
            });
        }
        let token = match presented {
            Presented::Nothing => return Err(AuthError::Missing.into()),
            Presented::Misplaced => return Err(AuthError::Misplaced.into()),
            Presented::Token(token) => token,
        };
        let identity = self.verify(&token, claimed.as_ref()).await?;
        Ok(Caller {
            user_id: identity.user_id,
            expires_at: Some(identity.expires_at),
        })
    }

    /// Whose token it is. `expected` is the user that it must be of, if that is known.
    pub(crate) async fn verify(
        &self,
        token: &secrecy::SecretString,
        expected: Option<&UserId>,
    ) -> Result<Identity, AuthError> {
        let verifier = self.verifier.as_ref().ok_or(AuthError::Misplaced)?;
        let identity = verifier.verify(token).await?;
        match expected {
            Some(expected) if *expected != identity.user_id => Err(AuthError::OtherUser),
            _ => Ok(identity),
        }
    }
}

impl App {
    /// Refuses an address that has brought too many wrong tokens, before another is checked.
    fn may_authenticate(&self, client: ClientAddress) -> Result<(), ApiError> {
        let may = self.gates.may_authenticate(client.0);
        may.map_err(|wait| ApiError::TooManyRequests {
            message: "too many wrong tokens from this address; try again later",
            wait,
        })
    }

    fn note_failure(&self, client: ClientAddress, error: AuthError) {
        if matches!(
            error,
            AuthError::Invalid | AuthError::Expired | AuthError::OtherUser
        ) {
            self.gates.failed_to_authenticate(client.0);
        }
    }

    /// Whose token it is that a client brings after the handshake.
    pub(crate) async fn verify(
        &self,
        client: ClientAddress,
        token: &secrecy::SecretString,
        expected: Option<&UserId>,
    ) -> Result<Identity, ApiError> {
        self.may_authenticate(client)?;
        let verified = self.auth.verify(token, expected).await;
        verified.map_err(|error| {
            self.note_failure(client, error);
            error.into()
        })
    }
}

/// Whoever takes a [`Caller`] knows that it was checked, before the handler's first line.
impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let presented = Presented::read(parts, &app.auth);
        let claimed = presented::query_value(parts, "user_id")?;
        let client = parts.extensions.get::<ClientAddress>().copied();
        if let (Presented::Token(_), Some(client)) = (&presented, client) {
            app.may_authenticate(client)?;
        }
        let identified = app.auth.identify(presented, claimed.as_deref()).await;
        if let (Err(ApiError::Auth(error)), Some(client)) = (&identified, client) {
            app.note_failure(client, *error);
        }
        identified
    }
}
