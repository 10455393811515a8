//! `GET /v1/sessions/{session_id}`: the facts of a session, its summary among them.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use duologue_engine::store::SessionRecord;
use duologue_protocol::{SessionId, UserId};
use serde::Deserialize;

use crate::{app::App, http::error::ApiError};

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
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Asking>, QueryRejection>,
) -> Result<Json<SessionRecord>, ApiError> {
    let (Path(session_id), Query(asking)) = (path?, query?);
    let session_id = SessionId::new(&session_id)?;
    let user = Asking::user(asking.user_id.as_deref())?;
    let session = app.engine.session(&session_id, &user).await?;
    session.map(Json).ok_or(ApiError::SessionNotFound)
}
