//! What a client's handshake requests.

use duologue_engine::Position;
use duologue_protocol::{LogId, Seq, SessionId};

use crate::{api_error::ApiError, config::Dialect, query::Parameters};

/// The session that a client wants to attach to, and how.
#[derive(Clone, Debug)]
pub(crate) struct AttachRequest {
    pub(crate) session_id: SessionId,
    /// The query's `user_id`, which proves nothing.
    pub(crate) claimed: Option<String>,
    pub(crate) position: Option<Position>,
    pub(crate) dialect: Dialect,
}

impl AttachRequest {
    /// Reads the path and the query of a handshake.
    pub(crate) fn read(
        session_id: &str,
        parameters: &Parameters,
        default_dialect: Dialect,
    ) -> Result<Self, ApiError> {
        let session_id = SessionId::new(session_id)?;
        let claimed = parameters.one("user_id")?.map(str::to_owned);
        Ok(Self {
            session_id,
            claimed: claimed.filter(|user_id| !user_id.is_empty()),
            position: position(parameters)?,
            dialect: parameters
                .one("frames")?
                .map_or(Ok(default_dialect), dialect)?,
        })
    }
}

/// Where the client resumes. A `log_id` without `after` has no effect, but must be well formed.
fn position(parameters: &Parameters) -> Result<Option<Position>, ApiError> {
    let log_id = parameters.one("log_id")?.map(LogId::new).transpose()?;
    let after = parameters.one("after")?.map(seq).transpose()?;
    Ok(after.map(|after| Position { after, log_id }))
}

fn seq(after: &str) -> Result<Seq, ApiError> {
    let wrong = |_| ApiError::BadRequest("`after` must be the number of an event, or 0".into());
    after.parse().map(Seq).map_err(wrong)
}

fn dialect(frames: &str) -> Result<Dialect, ApiError> {
    match frames {
        "json" => Ok(Dialect::Json),
        "text" => Ok(Dialect::Text),
        _ => Err(ApiError::BadRequest(
            "`frames` must be `json` or `text`".into(),
        )),
    }
}
