//! The extractor that authenticates a request before the handler's first line.

use axum::{extract::FromRequestParts, http::request::Parts};
use duologue_protocol::UserId;

use crate::{
    api_error::ApiError,
    app::App,
    auth::{Caller, Credentials},
    client_address::ClientAddress,
    query::Parameters,
};

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let credentials = Credentials::read(parts, app.authenticator.config.query_token);
        let parameters = Parameters::read(&parts.uri)?;
        let claimed = parameters.one("user_id")?;
        let client = parts.extensions.get::<ClientAddress>().copied();
        let claimed = claimed.filter(|user_id| !user_id.is_empty());
        // An address that is locked out learns nothing else about its request.
        let claimed = claimed.map(UserId::new).transpose()?;
        app.identify(client, credentials, claimed).await
    }
}
