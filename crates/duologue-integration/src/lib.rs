//! The one test harness, and every test that talks to a running server or database.
//!
//! Everything is real: servers, sockets and databases on free ports of loopback. Tests wait for
//! conditions with [`DEADLINE`], and never for time to pass. What is started ends with the process
//! that started it. What a machine lacks is an error that says how to install it; nothing is
//! skipped.

mod certificates;
pub mod child;
pub mod client;
pub mod database_proxy;
pub mod fault_proxy;
pub mod issuer;
mod jwt;
pub mod pgbouncer;
pub mod postgres;
pub mod postgrest;
pub mod process;
pub mod raw;
pub mod server;
pub mod store;
pub mod supabase;
pub mod torture;
pub mod trace;
pub mod wire;

use std::time::Duration;

pub use crate::{
    client::{Answer, Client},
    server::{ServerBuilder, TestServer},
};

/// How long a test waits for what must come. Only a failing test waits that long.
pub const DEADLINE: Duration = Duration::from_secs(30);
