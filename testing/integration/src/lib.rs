//! The one test harness, and every test that talks to a running server or database.
//!
//! Everything is real: servers, sockets and databases on free ports of loopback. Tests wait for
//! conditions with [`DEADLINE`], and never for time to pass. What is started ends with the process
//! that started it. What a machine lacks is an error that says how to install it; nothing is
//! skipped.

mod certificates;
pub mod child;
pub mod client;
mod crypto;
pub mod database_proxy;
pub mod fault_proxy;
pub mod issuer;
mod jwt;
pub mod latency;
pub mod pgbouncer;
pub mod postgres;
pub mod postgrest;
pub mod process;
pub mod raw;
pub mod server;
pub mod store;
pub mod supabase;
pub mod trace;
pub mod wire;

use std::time::Duration;

pub use crate::{
    client::{Answer, Client},
    server::{ServerBuilder, TestServer},
};

/// All tests come from one address and mostly from one user, so that what one may do is what all do. The
/// tests of limits set their own.
pub const GENEROUS_LIMITS: &[(&str, &str)] = &[
    ("DUOLOGUE_LIMITS__ADDRESS__HANDSHAKES_PER_SECOND", "100000"),
    ("DUOLOGUE_LIMITS__ADDRESS__HANDSHAKES_BURST", "100000"),
    ("DUOLOGUE_LIMITS__ADDRESS__CONNECTIONS_MAX", "100000"),
    ("DUOLOGUE_LIMITS__ADDRESS__UNATTACHED_MAX", "100000"),
    (
        "DUOLOGUE_LIMITS__ADDRESS__AUTH_FAILURES_PER_MINUTE",
        "100000",
    ),
    ("DUOLOGUE_LIMITS__CONNECTION__FRAMES_PER_MINUTE", "1000000"),
    ("DUOLOGUE_LIMITS__CONNECTION__FRAMES_BURST", "1000000"),
    ("DUOLOGUE_LIMITS__USER__SOCKETS_MAX", "100000"),
    ("DUOLOGUE_LIMITS__USER__SESSIONS_MAX", "100000"),
    ("DUOLOGUE_LIMITS__USER__MESSAGES_PER_MINUTE", "1000000"),
    ("DUOLOGUE_LIMITS__USER__MESSAGES_BURST", "1000000"),
    ("DUOLOGUE_LIMITS__USER__TURNS_PER_MINUTE", "1000000"),
    ("DUOLOGUE_LIMITS__USER__TURNS_RUNNING_MAX", "60000"),
    ("DUOLOGUE_LIMITS__TOKENS__SESSION_MAX", "1000000000"),
    ("DUOLOGUE_LIMITS__TOKENS__USER_PER_DAY_MAX", "1000000000"),
    ("DUOLOGUE_LIMITS__TOKENS__PROCESS_PER_DAY_MAX", "1000000000"),
];

/// How long a test waits for what must come. Only a failing test waits that long.
pub const DEADLINE: Duration = Duration::from_secs(30);
