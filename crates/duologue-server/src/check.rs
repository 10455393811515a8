//! `duologue check`: tests everything that is configured, once and without leaving traces, and says
//! what to do about the parts that do not work.
//!
//! All parts are tested, even if one fails, and each has its row.

mod auth;
mod model;
mod report;
mod store;

use duologue_engine::agent::Agent;

pub use crate::check::report::Report;
use crate::{agent_file::read_agent, check::report::Row, config::Loaded, error_chain::error_chain};

/// Tests the store, the model, the agent, and authentication. The process must have chosen its TLS
/// implementation.
pub async fn run(loaded: &Loaded) -> Report {
    let (config, settings) = (&loaded.config, &loaded.settings);
    let (store, model, auth) = tokio::join!(
        store::check(&config.store, settings),
        model::check(config.model.choice(), settings),
        auth::check(config, settings),
    );
    let agent = match read_agent(config) {
        Ok((agent, origin)) => Row::works("agent", format!("{} ({origin})", agent.name())),
        Err(error) => Row::fails("agent", error_chain(&error)),
    };
    Report {
        rows: vec![store, model, agent, auth],
    }
}
