//! How calls and queries are spelled as SQL.

use std::{fmt::Write as _, time::Duration};

use crate::functions::{Argument, Call};

/// How long a call may run, and wait for a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLimits {
    pub(super) statement: Duration,
    pub(super) lock: Duration,
}

/// The message that makes the call within these limits.
pub(super) fn call_statement(call: &Call, limits: TimeLimits) -> String {
    let mut sql = format!("{}select {}(", set_limits(limits), call.function);
    for (position, (name, argument)) in call.arguments.iter().enumerate() {
        let comma = if position > 0 { ", " } else { "" };
        write!(sql, "{comma}{name} => ").expect("a string accepts everything");
        match argument {
            Argument::Text(text) | Argument::Json(text) => quote(&mut sql, text),
            Argument::Plain(json) if json == "null" => sql.push_str("null"),
            Argument::Plain(json) => quote(&mut sql, json),
        }
    }
    sql.push_str(")::text");
    sql
}

/// The message that runs a query within these limits. The schema is quoted already.
pub(super) fn query_statement(schema: Option<&str>, query: &str, limits: TimeLimits) -> String {
    let mut sql = set_limits(limits);
    sql.push_str("set local timezone = 'UTC'; set local datestyle = 'ISO'; ");
    if let Some(schema) = schema {
        write!(sql, "set local search_path = {schema}, pg_temp; ")
            .expect("a string accepts everything");
    }
    sql + query
}

fn set_limits(limits: TimeLimits) -> String {
    format!(
        "set local statement_timeout = {}; set local lock_timeout = {}; ",
        milliseconds(limits.statement),
        milliseconds(limits.lock),
    )
}

/// A text.
pub(super) fn literal(text: &str) -> String {
    let mut sql = String::new();
    quote(&mut sql, text);
    sql
}

/// A list of texts.
pub(super) fn text_array<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut sql = "array[".to_owned();
    for (position, text) in texts.enumerate() {
        sql.push_str(if position > 0 { ", " } else { "" });
        quote(&mut sql, text);
    }
    sql + "]::text[]"
}

/// Appends a literal of no type, which takes the type of the parameter. In the form with an `E` it means the same
/// whatever `standard_conforming_strings` is. U+0000 would end the message; it becomes U+FFFD.
fn quote(sql: &mut String, text: &str) {
    sql.reserve(text.len() + 3);
    sql.push_str("E'");
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '\\', '\0']) {
        sql.push_str(&rest[..at]);
        sql.push_str(match rest.as_bytes()[at] {
            b'\'' => "''",
            b'\\' => r"\\",
            _ => "\u{FFFD}",
        });
        rest = &rest[at + 1..];
    }
    sql.push_str(rest);
    sql.push('\'');
}

/// Zero would mean "no limit" to Postgres.
fn milliseconds(limit: Duration) -> u128 {
    limit.as_millis().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_one_message_of_three_statements() {
        let call = Call::new("duologue_f")
            .text("of_user", "O'Hara \\ \0")
            .json("document", r#"{"a":"\n'"}"#.to_owned())
            .plain("number", 7)
            .plain("is_it", true)
            .plain("nothing", ());
        let limits = TimeLimits {
            statement: Duration::from_secs(5),
            lock: Duration::ZERO,
        };
        assert_eq!(
            call_statement(&call, limits),
            "set local statement_timeout = 5000; set local lock_timeout = 1; \
             select duologue_f(of_user => E'O''Hara \\\\ \u{FFFD}', document => E'{\"a\":\"\\\\n''\"}', \
             number => E'7', is_it => E'true', nothing => null)::text"
        );
    }

    #[test]
    fn texts_are_quoted_one_by_one() {
        assert_eq!(
            text_array(["a", "O'Hara", "null"].into_iter()),
            "array[E'a', E'O''Hara', E'null']::text[]"
        );
        assert_eq!(text_array([].into_iter()), "array[]::text[]");
    }
}
