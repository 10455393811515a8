//! `GET /v1/sessions/{session_id}`: the facts of a session, its summary among them.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use duologue_engine::store::SessionRecord;
use duologue_protocol::{SessionId, UserId};
use serde::Deserialize;

use crate::{http::error::ApiError, server::App};

/// Who asks.
#[derive(Debug, Deserialize)]
pub(crate) struct Asking {
    user_id: Option<String>,
}

impl Asking {
    /// The user as named in the query, or `anonymous`.
    pub(crate) fn user(user_id: Option<&str>) -> Result<UserId, ApiError> {
        match user_id {
            None | Some("") => Ok(UserId::anonymous()),
            Some(user_id) => Ok(UserId::new(user_id)?),
        }
    }
}

/// Another user's session is answered like one that does not exist.
pub(crate) async fn show(
    State(app): State<App>,
    Path(session_id): Path<String>,
    Query(asking): Query<Asking>,
) -> Result<Json<SessionRecord>, ApiError> {
    let session_id = SessionId::new(&session_id)?;
    let user = Asking::user(asking.user_id.as_deref())?;
    let session = app.engine.session(&session_id, &user).await?;
    session.map(Json).ok_or(ApiError::SessionNotFound)
}
