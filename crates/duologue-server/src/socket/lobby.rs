//! Before the session: a connection whose client has yet to say who it is.
//!
//! It has one frame and little time for that, and there are few places for such clients. Nothing is
//! asked of the store meanwhile.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use duologue_protocol::{ClientFrame, CloseCode, ErrorFrame, Seq, ServerFrame, SessionId, UserId};
use futures_util::{SinkExt, StreamExt};
use secrecy::SecretString;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    auth::{AuthError, Caller},
    config::Dialect,
    http::{
        client_address::ClientAddress,
        error::{ApiError, milliseconds},
    },
    listener::Place,
    server::App,
    socket::{self, Socket, outgoing::Outgoing},
};

/// What the handshake asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) session_id: SessionId,
    /// The query's `user_id`, which proves nothing.
    pub(crate) claimed: Option<String>,
    pub(crate) after: Option<Seq>,
    pub(crate) dialect: Dialect,
}

/// A client that waits to be let in.
pub(crate) struct Lobby {
    app: App,
    wish: Wish,
    outgoing: Outgoing,
    client: ClientAddress,
    connection_place: Place,
    _place: OwnedSemaphorePermit,
}

/// Why a client is not let in.
enum Refusal {
    /// It is told.
    Told(ApiError),
    /// The server is going.
    Closing,
    /// It is gone, or does not listen.
    Gone,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Told(error)
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        Self::Told(error.into())
    }
}

impl Lobby {
    /// Takes a place, if there is one.
    pub(crate) fn enter(
        app: App,
        wish: Wish,
        (client, connection_place): (ClientAddress, Place),
    ) -> Result<Self, ApiError> {
        let place = Arc::clone(&app.auth.waiting).try_acquire_owned();
        let place = place.map_err(|_full| ApiError::Busy)?;
        Ok(Self {
            outgoing: Outgoing::new(wish.dialect),
            app,
            wish,
            client,
            connection_place,
            _place: place,
        })
    }

    /// Waits for the token, then serves the connection as if it had come with the handshake.
    pub(crate) async fn run(mut self, mut connection: WebSocket) {
        let (frame, code) = match self.admit(&mut connection).await {
            Ok(socket) => {
                // The place is for those who wait.
                drop(self);
                return socket.run(connection).await;
            }
            Err(Refusal::Gone) => return,
            Err(Refusal::Closing) => (None, CloseCode::Restart),
            Err(Refusal::Told(error)) => {
                error.log();
                let (frame, code) = error.after_upgrade();
                (Some(frame), code)
            }
        };
        self.close(connection, frame, code).await;
    }

    async fn admit(&mut self, connection: &mut WebSocket) -> Result<Socket, Refusal> {
        let timeout = self.app.auth.config.timeout;
        let closing = self.app.closing.clone();
        let required = ServerFrame::AuthRequired {
            timeout_ms: milliseconds(timeout),
        };
        self.send(connection, required).await?;
        let caller = tokio::select! {
            () = closing.cancelled() => return Err(Refusal::Closing),
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
        let socket = Socket::attach(&self.app, &self.wish, caller).await?;
        self.connection_place.attached();
        Ok(socket)
    }

    /// Whose token the first frame brings.
    async fn caller(&self, connection: &mut WebSocket) -> Result<Caller, Refusal> {
        let token = first_token(connection).await?;
        let claimed = self.wish.claimed.as_deref().map(UserId::new).transpose();
        let claimed = claimed.map_err(ApiError::from)?;
        let identity = self
            .app
            .verify(self.client, &token, claimed.as_ref())
            .await?;
        Ok(Caller {
            user_id: identity.user_id,
            expires_at: Some(identity.expires_at),
        })
    }

    async fn send(
        &mut self,
        connection: &mut WebSocket,
        frame: ServerFrame,
    ) -> Result<(), Refusal> {
        self.outgoing.tell(frame);
        let timeout = self.app.socket.write_timeout;
        write(connection, &mut self.outgoing, timeout).await
    }

    async fn close(
        mut self,
        mut connection: WebSocket,
        error: Option<ErrorFrame>,
        code: CloseCode,
    ) {
        if let Some(error) = error {
            self.outgoing.error(error);
            let timeout = self.app.socket.write_timeout;
            if write(&mut connection, &mut self.outgoing, timeout)
                .await
                .is_err()
            {
                return;
            }
        }
        let (mut sink, mut stream) = connection.split();
        socket::close(&mut sink, &mut stream, code).await;
    }
}

async fn write(
    connection: &mut WebSocket,
    outgoing: &mut Outgoing,
    timeout: Duration,
) -> Result<(), Refusal> {
    let writing = async {
        for message in outgoing.drain() {
            connection.feed(message).await?;
        }
        connection.flush().await
    };
    match tokio::time::timeout(timeout, writing).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Refusal::Gone),
    }
}

/// The token of the first frame, which must have one.
async fn first_token(connection: &mut WebSocket) -> Result<SecretString, Refusal> {
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
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Refusal::Gone),
        }
    }
}
