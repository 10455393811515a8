//! What the upstream's connections and the test share.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use serde_json::Value;
use tokio::sync::watch;

use crate::testing::script::Script;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// `POST`, and whatever else may come.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The JSON body; null if it was none.
    pub body: Value,
    /// Which connection it came on: 1, 2, 3, … in the order of their coming.
    pub connection: usize,
    /// How it stands.
    pub status: RequestStatus,
}

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestStatus {
    /// Its script is being played.
    Answering,
    /// Its script was played to the end.
    Answered,
    /// The client closed the connection before the script was over.
    ClosedByClient,
}

/// What connections and tests share.
pub(super) type Shared = Arc<watch::Sender<State>>;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) scripts: VecDeque<Script>,
    pub(super) about: Vec<(String, Script)>,
    pub(super) otherwise: Option<Script>,
    pub(super) models: Option<Script>,
    pub(super) released: HashSet<String>,
    pub(super) requests: Vec<RecordedRequest>,
    pub(super) connections: usize,
    pub(super) connections_open: usize,
}
