//! One function for everything that reads bytes from outside.
//!
//! A target takes any bytes and panics if something is wrong: if what it calls panics, or if a
//! promise does not hold. The same functions are called by libFuzzer (`libfuzzer/`, through
//! `cargo xtask fuzz`), and by a test on stable Rust, which runs each over its corpus and over
//! mutations of it. So a target is written once, and CI notices when one breaks.

mod random;
mod targets;

pub use crate::random::Random;

/// A function to be fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its folder in `corpus/`, and of its program in `libfuzzer/`.
    pub name: &'static str,
    /// Reads the bytes; panics if that goes wrong.
    pub run: fn(&[u8]),
}

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    Target {
        name: "agent_file",
        run: targets::agent_file,
    },
    Target {
        name: "client_frame",
        run: targets::client_frame,
    },
    Target {
        name: "configuration",
        run: duologue_server::fuzz::configuration,
    },
    Target {
        name: "handshake",
        run: duologue_server::fuzz::handshake,
    },
    Target {
        name: "request_head",
        run: duologue_server::fuzz::request_head,
    },
    Target {
        name: "rest_reply",
        run: duologue_store::fuzz::rest_reply,
    },
    Target {
        name: "streamed_answer",
        run: duologue_llm::fuzz::streamed_answer,
    },
    Target {
        name: "token",
        run: duologue_server::fuzz::token,
    },
    Target {
        name: "tool_arguments",
        run: targets::tool_arguments,
    },
    Target {
        name: "whole_answer",
        run: duologue_llm::fuzz::whole_answer,
    },
];

/// Runs the target of that name. Panics if there is none.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("there is no target `{name}`"));
    (target.run)(bytes);
}
