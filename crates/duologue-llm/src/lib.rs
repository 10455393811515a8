//! Streams answers from endpoints that speak OpenAI's chat completions.
//!
//! [`OpenAi`] is the engine's [`Provider`](duologue_engine::provider::Provider) for all of them:
//! OpenAI itself, Groq, Azure, Ollama, vLLM, llama.cpp and their like. They agree on the request and
//! differ in the details of the stream, so what is read is read leniently, each step in a file:
//!
//! ```text
//! bytes ──sse──▶ events ──wire──▶ pieces ──answer, calls──▶ chunks
//! ```
//!
//! Not here: limits of time and retries, which the engine applies to all providers alike.

mod answer;
mod calls;
mod config;
mod failure;
#[cfg(feature = "testing")]
pub mod fuzz;
mod openai;
mod sse;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use crate::{
    config::{ConfigError, OpenAiConfig, OutputTokensField},
    openai::{CheckError, ModelCheck, OpenAi},
};
