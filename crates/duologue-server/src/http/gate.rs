//! Counts requests about sessions by the address they come from, before anything else is done for them.

use axum::{
    Extension,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    app::App,
    http::{client_address::ClientAddress, error::ApiError},
};

/// Refuses whoever asks too often.
pub(crate) async fn count(
    State(app): State<App>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    request: Request,
    next: Next,
) -> Response {
    match app.gates.handshake(address) {
        Ok(()) => next.run(request).await,
        Err(wait) => {
            tracing::debug!("request.refused_by_rate");
            ApiError::TooManyRequests {
                message: "too many requests from this address; try again later",
                wait,
            }
            .into_response()
        }
    }
}
