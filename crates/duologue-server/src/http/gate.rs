//! Counts requests about sessions by the address they come from, before anything else is done for them.

use axum::{Extension, extract::FromRequestParts, http::request::Parts};

use crate::{
    http::{client_address::ClientAddress, error::ApiError},
    server::App,
};

/// Where a request that was counted comes from. A handler that takes it first does nothing for those who
/// ask too often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted(pub(crate) ClientAddress);

impl FromRequestParts<App> for Counted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Extension(client) = Extension::<ClientAddress>::from_request_parts(parts, app)
            .await
            .expect("every request has its address");
        app.gates.handshake(client.0).map_err(|wait| {
            tracing::debug!("request.refused_by_rate");
            ApiError::TooManyRequests {
                message: "too many requests from this address; try again later",
                wait,
            }
        })?;
        Ok(Self(client))
    }
}
