//! What the log says of a panic: where it was, and only such words as are ours.
//!
//! A message that was put together at run time may quote what a user wrote (indexing a string in
//! the middle of a character does), so it is left out; the place tells a developer as much.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, PanicHookInfo},
    thread,
};

/// Stands for a message that was put together at run time.
const WITHHELD: &str = "(left out, since it may quote what somebody wrote)";

/// Logs all panics of the process from now on, in place of printing them.
pub fn log_from_now_on() {
    panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    // Only where RUST_BACKTRACE asks for it. It names functions, and no values.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(
        place,
        thread = thread::current().name(),
        words = words(panic.payload()),
        backtrace = backtrace.map(tracing::field::display),
        "panicked"
    );
}

/// The message, if it stands in the source as it is.
fn words(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().unwrap_or(&WITHHELD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(panic: fn(&str)) -> &'static str {
        let said = String::from("canary");
        words(&*panic::catch_unwind(|| panic(&said)).unwrap_err())
    }

    /// Goal: no panic brings what a user said into the log. Method: the ways in which it could.
    #[test]
    fn only_words_of_the_source_are_told() {
        assert_eq!(words_of(|_| panic!("it cannot be")), "it cannot be");
        assert_eq!(words_of(|said| panic!("not {said}")), WITHHELD);
        assert_eq!(words_of(|said| assert_ne!(said[..99].len(), 0)), WITHHELD);
        assert_eq!(
            words_of(|said| assert_eq!(said.parse::<u8>().map_err(|_| said).unwrap(), 0)),
            WITHHELD
        );
    }
}
