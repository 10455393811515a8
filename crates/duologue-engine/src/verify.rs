//! The checker: what breaks the invariants in a session as it is kept.
//!
//! Pure: it is given what a store keeps, and says what is wrong with it. `duologue verify` runs it
//! on live databases, and the tests on what they leave behind. A sound session is never reported,
//! be it in the middle of a turn; [`read`] sees to it that what is checked is of one moment.

mod endings;
mod findings;
mod log;
mod queue;
mod reading;
#[cfg(test)]
mod tests;
mod turns;
mod violations;

pub use self::{
    findings::{Invariant, Kept, Violation},
    reading::{check, read},
    violations::violations,
};
