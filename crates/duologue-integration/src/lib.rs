//! The one test harness, and every test that talks to a running server or database.
//!
//! Everything is real: servers on free ports, sockets, databases. Tests wait for conditions with
//! [`DEADLINE`], and never for time to pass.

pub mod client;
pub mod process;
pub mod raw;
pub mod server;

use std::time::Duration;

pub use crate::{
    client::{Answer, Client},
    server::{ServerBuilder, TestServer},
};

/// How long a test waits for what must come. Only a failing test waits that long.
pub const DEADLINE: Duration = Duration::from_secs(30);
