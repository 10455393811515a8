//! What is left when a run is over, for the oracle.

use std::sync::Arc;

use crate::{
    client::Clients, database::Database, model::Model, nemesis::Outages, tools::Look, trace::Trace,
};

/// What is left when a run is over.
pub(crate) struct World {
    pub(crate) trace: Trace,
    pub(crate) clients: Clients,
    pub(crate) database: Arc<Database>,
    pub(crate) model: Model,
    pub(crate) look: Arc<Look>,
    pub(crate) outages: Outages,
}
