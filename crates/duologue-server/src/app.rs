//! The state that all request handlers and sockets share.

use std::sync::Arc;

use duologue_engine::Engine;
use duologue_protocol::UserId;
use ipnet::IpNet;
use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api_error::ApiError,
    auth::{AuthError, Authenticator, Caller, Credentials, Identity},
    client_address::ClientAddress,
    config::SocketConfig,
    connection_limits::ConnectionLimits,
    hosts::AllowedHosts,
    listener::ConnectionSlots,
    origins::AllowedOrigins,
};

/// What every request handler shares. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) socket: Arc<SocketConfig>,
    pub(crate) origins: Arc<AllowedOrigins>,
    pub(crate) hosts: Arc<AllowedHosts>,
    pub(crate) proxies_trusted: Arc<[IpNet]>,
    pub(crate) limits: Arc<ConnectionLimits>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) connection_slots: ConnectionSlots,
    /// The tasks of sockets and connections. Shutdown waits for them.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the engine has stopped. Then all connections are closed.
    pub(crate) closing: CancellationToken,
    /// Whether there is a route that sends back every message.
    #[cfg(feature = "testing")]
    pub(crate) echoes: bool,
}

impl App {
    /// Identifies the user of a request. `client` is locked out after too many failures, and then no
    /// token of it is checked; `None` if the address is not known.
    pub(crate) async fn identify(
        &self,
        client: Option<ClientAddress>,
        credentials: Credentials,
        claimed: Option<UserId>,
    ) -> Result<Caller, ApiError> {
        if let (Credentials::Token(_), Some(client)) = (&credentials, client) {
            self.check_lockout(client)?;
        }
        let identified = self.authenticator.identify(credentials, claimed).await;
        identified.map_err(|error| self.failed(client, error))
    }

    /// Checks a token that a client sends after the handshake.
    pub(crate) async fn verify(
        &self,
        client: ClientAddress,
        token: &SecretString,
        expected: Option<&UserId>,
    ) -> Result<Identity, ApiError> {
        self.check_lockout(client)?;
        let verified = self.authenticator.verify(token, expected).await;
        verified.map_err(|error| self.failed(Some(client), error))
    }

    fn check_lockout(&self, client: ClientAddress) -> Result<(), ApiError> {
        let checked = self.limits.check_lockout(client.0);
        checked.map_err(|wait| ApiError::TooManyRequests {
            message: "too many invalid tokens from this address; try again later",
            wait,
        })
    }

    fn failed(&self, client: Option<ClientAddress>, error: AuthError) -> ApiError {
        let is_guess = matches!(
            error,
            AuthError::Invalid | AuthError::Expired | AuthError::OtherUser
        );
        if let (true, Some(client)) = (is_guess, client) {
            self.limits.count_auth_failure(client.0);
        }
        error.into()
    }
}
