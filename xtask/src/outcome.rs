//! How a step ends when it does not fail.

/// The result of a step that did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ran and found nothing wrong.
    Done,
    /// It could not run on this machine, which is not a failure; the reason.
    NotRun(String),
}
