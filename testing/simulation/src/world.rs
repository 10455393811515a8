//! What is left when a run is over, for the oracle.

use std::sync::Arc;

use crate::{
    client::Clients, database::Database, model::Model, nemesis::Spans, tools::Look, trace::Trace,
};

/// What is left when a run is over.
pub(crate) struct World {
    pub(crate) trace: Trace,
    pub(crate) clients: Clients,
    pub(crate) database: Arc<Database>,
    pub(crate) model: Model,
    pub(crate) look: Arc<Look>,
    /// When nothing could have been done for a client.
    pub(crate) outages: Spans,
    /// When anything was broken.
    pub(crate) disturbances: Spans,
}
