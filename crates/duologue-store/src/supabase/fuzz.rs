//! For fuzzing: everything that reads what a project's REST interface sends.

use duologue_engine::store::SessionRecord;
use reqwest::{StatusCode, header::HeaderMap};

use crate::{
    stored::{ClaimedRow, EventRow, JobRow},
    supabase::failure::Refusal,
};

/// Reads an answer as each of the things that are asked for, and as a refusal.
pub fn rest_reply(bytes: &[u8]) {
    drop(serde_json::from_slice::<Option<SessionRecord>>(bytes));
    drop(serde_json::from_slice::<Vec<JobRow>>(bytes));
    drop(serde_json::from_slice::<Vec<ClaimedRow>>(bytes));
    let events = serde_json::from_slice::<Vec<EventRow>>(bytes);
    for row in events.into_iter().flatten() {
        drop(row.event());
    }
    let refusal = Refusal::read(StatusCode::BAD_GATEWAY, &HeaderMap::new(), bytes);
    let told = refusal.to_string();
    let is_one_line = told.chars().all(|character| !character.is_control());
    assert!(is_one_line, "a gateway writes into our log: {told:?}");
}
