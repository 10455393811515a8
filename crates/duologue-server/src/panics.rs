//! Panics in the log: the location, and the message if it is a literal of the source.
//!
//! A message that is formatted at run time may quote a user's text (indexing a string inside a
//! character does), so it is left out. The location is enough for a developer.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, PanicHookInfo},
    thread,
};

/// Replaces a message that is formatted at run time.
const WITHHELD: &str = "(left out, since it may quote a user's text)";

/// Logs all panics of the process from now on, in place of printing them.
pub fn log_from_now_on() {
    panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    // Only if RUST_BACKTRACE is set. It contains names of functions, and no values.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(
        location,
        thread = thread::current().name(),
        panic.message = literal_message(panic.payload()),
        backtrace = backtrace.map(tracing::field::display),
        "panicked"
    );
}

/// The message, if it is a literal of the source.
fn literal_message(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().unwrap_or(&WITHHELD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_of(panic: fn(&str)) -> &'static str {
        let text = String::from("canary");
        literal_message(&*panic::catch_unwind(|| panic(&text)).unwrap_err())
    }

    /// Goal: no panic writes a user's text into the log. Method: the ways in which it could.
    #[test]
    fn only_literals_of_the_source_are_logged() {
        assert_eq!(message_of(|_| panic!("it cannot be")), "it cannot be");
        assert_eq!(message_of(|text| panic!("not {text}")), WITHHELD);
        assert_eq!(message_of(|text| assert_ne!(text[..99].len(), 0)), WITHHELD);
        assert_eq!(
            message_of(|text| assert_eq!(text.parse::<u8>().map_err(|_| text).unwrap(), 0)),
            WITHHELD
        );
    }
}
