//! The chat completions protocol: what we send, and what we read.

pub(crate) mod request;
pub(crate) mod response;
