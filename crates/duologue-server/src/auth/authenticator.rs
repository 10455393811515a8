//! The authenticator: identifies users by the rules of the section `[auth]`.

use std::{fmt, sync::Arc};

use duologue_engine::clock::Clock;
use duologue_protocol::{Timestamp, UserId};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    auth::{
        admin_tokens::AdminTokens,
        credentials::Credentials,
        error::AuthError,
        identity::{Caller, Identity},
        keys::KeyError,
        token::Verifier,
    },
    config::{AuthConfig, Authentication},
};

/// Everything that authentication needs, made once from `[auth]`.
pub(crate) struct Authenticator {
    pub(crate) config: AuthConfig,
    pub(crate) admin_tokens: AdminTokens,
    /// Slots for clients that are connected and not yet authenticated.
    pub(crate) pending_slots: Arc<Semaphore>,
    verifier: Option<Verifier>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("verifier", &self.verifier)
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Fetches no keys yet. The configuration has been checked. Keys are fetched by tasks of `tasks`.
    pub(crate) fn new(
        config: &AuthConfig,
        supabase_url: &str,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> Result<Self, KeyError> {
        let verifier = match config.authentication(supabase_url) {
            Authentication::Disabled => None,
            Authentication::ByToken(rules) => Some(Verifier::new(&rules, config, tasks)?),
        };
        Ok(Self {
            config: config.clone(),
            admin_tokens: AdminTokens::read(&config.admin_tokens).unwrap_or_default(),
            pending_slots: Arc::new(Semaphore::new(usize::from(config.waiting_max))),
            verifier,
            clock,
        })
    }

    /// Whether the server requires no token and accepts any `user_id`.
    pub(crate) fn auth_disabled(&self) -> bool {
        self.verifier.is_none()
    }

    /// The current time, by which the expiry of tokens is decided.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Identifies the user of a request. `claimed` is the query's `user_id`, which proves nothing.
    ///
    /// Where a token is required and there is none, the error is [`AuthError::Missing`].
    pub(crate) async fn identify(
        &self,
        credentials: Credentials,
        claimed: Option<UserId>,
    ) -> Result<Caller, AuthError> {
        if self.auth_disabled() {
            return Ok(Caller {
                user_id: claimed.unwrap_or_else(UserId::anonymous),
                expires_at: None,
            });
        }
        match credentials {
            Credentials::None => Err(AuthError::Missing),
            Credentials::Misplaced => Err(AuthError::Misplaced),
            Credentials::Token(token) => {
                let identity = self.verify(&token, claimed.as_ref()).await?;
                Ok(identity.into())
            }
        }
    }

    /// Checks a token and returns its user. If `expected` is given, the token must be that user's.
    pub(crate) async fn verify(
        &self,
        token: &SecretString,
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
