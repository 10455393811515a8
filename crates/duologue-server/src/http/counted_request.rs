//! Counts requests about sessions by the address they come from, before anything else is done for them.

use axum::{Extension, extract::FromRequestParts, http::request::Parts};

use crate::{api_error::ApiError, app::App, client_address::ClientAddress};

/// The client address of a request that was counted. A handler with this as its first extractor does
/// nothing for clients over the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedRequest(pub(crate) ClientAddress);

impl FromRequestParts<App> for CountedRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Extension(client) = Extension::<ClientAddress>::from_request_parts(parts, app)
            .await
            .expect("every request has its address");
        app.limits.count_request(client.0).map_err(|wait| {
            tracing::debug!("request.refused_by_rate");
            ApiError::TooManyRequests {
                message: "too many requests from this address; try again later",
                wait,
            }
        })?;
        Ok(Self(client))
    }
}
