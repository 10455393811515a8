//! `GET /v1/sessions/{session_id}`: the facts of a session, its summary among them.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use duologue_engine::store::SessionRecord;
use duologue_protocol::SessionId;

use crate::{
    auth::Caller,
    http::{error::ApiError, gate::Counted},
    server::App,
};

/// Another user's session is answered like one that does not exist, by the same question to the
/// store. That somebody may ask at all is settled before anything else about the request is.
pub(crate) async fn show(
    State(app): State<App>,
    _: Counted,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<SessionRecord>, ApiError> {
    let Path(session_id) = path?;
    let session_id = SessionId::new(&session_id)?;
    let session = app.engine.session(&session_id, &caller.user_id).await?;
    session.map(Json).ok_or(ApiError::SessionNotFound)
}
