//! A connection whose client has not authenticated yet.
//!
//! The client must send its token in the first frame, within `auth.timeout`. The number of such
//! connections is limited, and they do not access the store.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use duologue_engine::clock::milliseconds;
use duologue_protocol::{ClientFrame, CloseCode, ErrorFrame, ServerFrame, UserId};
use futures_util::StreamExt;
use secrecy::SecretString;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    api_error::ApiError,
    app::App,
    auth::{AuthError, Caller},
    client_address::ClientAddress,
    listener::ConnectionSlot,
    shared_stream::SharedStream,
    socket::{
        attach_request::AttachRequest, attached_socket::AttachedSocket, connection_end::close,
        outgoing::Outgoing,
    },
};

/// A connection whose client has not authenticated yet.
pub(crate) struct PendingAuth {
    app: App,
    request: AttachRequest,
    outgoing: Outgoing,
    client: ClientAddress,
    connection_slot: ConnectionSlot,
    _pending_slot: OwnedSemaphorePermit,
}

/// Why a client is not attached.
enum PendingError {
    /// The client receives an error.
    Refused(ApiError),
    /// The server is shutting down.
    ShuttingDown,
    /// The client disconnected, or does not receive frames.
    Disconnected,
}

impl From<ApiError> for PendingError {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<AuthError> for PendingError {
    fn from(error: AuthError) -> Self {
        Self::Refused(error.into())
    }
}

impl PendingAuth {
    /// Takes a slot, if there is one.
    pub(crate) fn new(
        app: App,
        request: AttachRequest,
        client: ClientAddress,
        connection_slot: ConnectionSlot,
    ) -> Result<Self, ApiError> {
        let slot = Arc::clone(&app.authenticator.pending_slots).try_acquire_owned();
        let slot = slot.map_err(|_full| ApiError::Busy)?;
        Ok(Self {
            outgoing: Outgoing::new(request.dialect),
            app,
            request,
            client,
            connection_slot,
            _pending_slot: slot,
        })
    }

    /// Waits for the token, then serves the connection as if the token had been in the handshake.
    pub(crate) async fn run(
        mut self: Box<Self>,
        mut connection: Box<WebSocket>,
        raw: SharedStream,
    ) {
        let (frame, code) = match Box::pin(self.authenticate(&mut connection)).await {
            Ok(socket) => {
                // Releases the slot of a pending client.
                drop(self);
                return Box::new(socket).run(connection, raw).await;
            }
            Err(PendingError::Disconnected) => return,
            Err(PendingError::ShuttingDown) => (None, CloseCode::Restart),
            Err(PendingError::Refused(error)) => {
                error.log();
                let (frame, code) = error.after_upgrade();
                (Some(frame), code)
            }
        };
        self.close(connection, raw, frame, code).await;
    }

    async fn authenticate(
        &mut self,
        connection: &mut WebSocket,
    ) -> Result<AttachedSocket, PendingError> {
        let timeout = self.app.authenticator.config.timeout;
        let closing = self.app.closing.clone();
        let required = ServerFrame::AuthRequired {
            timeout_ms: milliseconds(timeout),
        };
        self.send(connection, required).await?;
        let caller = tokio::select! {
            () = closing.cancelled() => return Err(PendingError::ShuttingDown),
            answered = tokio::time::timeout(timeout, self.caller(connection)) => {
                answered.map_err(|_elapsed| AuthError::Missing)??
            }
        };
        if let Some(expires_at) = caller.expires_at {
            let ok = ServerFrame::AuthOk {
                user_id: caller.user_id.clone(),
                expires_at,
            };
            self.send(connection, ok).await?;
        }
        let socket = AttachedSocket::attach(&self.app, &self.request, caller).await?;
        self.connection_slot.attached();
        Ok(socket)
    }

    /// The user of the token in the first frame.
    async fn caller(&self, connection: &mut WebSocket) -> Result<Caller, PendingError> {
        let token = first_token(connection).await?;
        let claimed = self.request.claimed.as_deref().map(UserId::new).transpose();
        let claimed = claimed.map_err(ApiError::from)?;
        let identity = self
            .app
            .verify(self.client, &token, claimed.as_ref())
            .await?;
        Ok(identity.into())
    }

    async fn send(
        &mut self,
        connection: &mut WebSocket,
        frame: ServerFrame,
    ) -> Result<(), PendingError> {
        self.outgoing.send(frame);
        self.write(connection).await
    }

    async fn write(&mut self, connection: &mut WebSocket) -> Result<(), PendingError> {
        let timeout = self.app.socket.write_timeout;
        let written = self.outgoing.write_to(connection, timeout).await;
        written.map_err(|_lost| PendingError::Disconnected)
    }

    async fn close(
        mut self,
        mut connection: Box<WebSocket>,
        raw: SharedStream,
        error: Option<ErrorFrame>,
        code: CloseCode,
    ) {
        if let Some(error) = error {
            self.outgoing.error(error);
            if self.write(&mut connection).await.is_err() {
                return;
            }
        }
        close(&mut connection, code, raw).await;
    }
}

/// The token of the first frame, which must be `auth`.
async fn first_token(connection: &mut WebSocket) -> Result<SecretString, PendingError> {
    loop {
        match connection.next().await {
            Some(Ok(Message::Text(text))) => {
                return match ClientFrame::read(&text) {
                    Ok(ClientFrame::Auth { token }) => Ok(token.into()),
                    Ok(_) | Err(_) => Err(AuthError::Missing.into()),
                };
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => return Err(AuthError::Missing.into()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(PendingError::Disconnected),
        }
    }
}
