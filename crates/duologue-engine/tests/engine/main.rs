//! The engine's promises, each shown over its public API and in paused time.
//!
//! Time passes only while everything waits for it, so a test may wait for an hour at no cost and
//! still sees every timer fire in its order.

mod agents;
mod attempt;
mod busy;
mod cancellation;
mod commits;
mod harness;
mod jobs;
mod leases;
mod lifecycle;
mod limits;
mod logs;
mod messages;
mod mid_answer;
mod model_tools;
mod opening;
mod outage;
mod queue;
mod readers;
mod replay;
mod resumption;
mod shutdown;
mod storage;
mod tool_crashes;
mod tools;
