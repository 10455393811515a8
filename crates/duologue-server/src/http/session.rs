//! `GET /v1/sessions/{session_id}`: the facts of a session, its summary among them.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use duologue_engine::store::SessionRecord;
use duologue_protocol::SessionId;

use crate::{
    api_error::ApiError,
    app::App,
    auth::Caller,
    http::{counted_request::CountedRequest, request_span::record_session},
};

/// The response for another user's session is that for a session that does not exist, by the same
/// query to the store. The caller is authenticated before anything else of the request is read.
pub(crate) async fn show(
    State(app): State<App>,
    _: CountedRequest,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<SessionRecord>, ApiError> {
    let Path(session_id) = path?;
    let session_id = SessionId::new(&session_id)?;
    record_session(&session_id);
    let session = app.engine.session(&session_id, &caller.user_id).await?;
    session.map(Json).ok_or(ApiError::SessionNotFound)
}
