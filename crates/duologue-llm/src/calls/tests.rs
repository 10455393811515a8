//! Pieces in, calls out: each table row is a way in which some endpoint streams.

use serde_json::json;

use super::*;

/// Puts pieces together, each written as `[index, id, name, arguments]`.
fn assemble(pieces: &Value, reason: StopReason) -> Vec<(String, String, Value)> {
    let mut calls = Calls::default();
    for piece in pieces.as_array().unwrap() {
        let piece = json!({
            "index": piece[0],
            "id": piece[1],
            "function": {"name": piece[2], "arguments": piece[3]},
        });
        calls.add(serde_json::from_value(piece).unwrap()).unwrap();
    }
    let calls = calls.finish(reason).into_iter();
    calls
        .map(|call| (call.id, call.name, call.arguments))
        .collect()
}

fn call(id: &str, name: &str, arguments: Value) -> (String, String, Value) {
    (id.to_owned(), name.to_owned(), arguments)
}

/// Two calls of the same tool, so that only order, ids and indexes tell them apart.
fn two_calls() -> [(String, String, Value); 2] {
    [
        call("a", "get", json!({"n": 1})),
        call("b", "get", json!({"n": 2})),
    ]
}

#[test]
fn pieces_are_put_together_by_their_index() {
    let table = [
        (
            "by the protocol",
            json!([
                [0, "a", "get", ""],
                [0, null, null, "{\"n\""],
                [0, null, null, ":1}"],
                [1, "b", "get", ""],
                [1, null, null, "{\"n\":2}"],
            ]),
        ),
        (
            "interleaved",
            json!([
                [0, "a", "get", ""],
                [1, "b", "get", ""],
                [0, null, null, "{\"n\":1}"],
                [1, null, null, "{\"n\":2}"],
            ]),
        ),
        (
            "id and name on every piece",
            json!([
                [0, "a", "get", "{\"n\""],
                [0, "a", "get", ":1}"],
                [1, "b", "get", "{\"n\":"],
                [1, "b", "get", "2}"],
            ]),
        ),
        (
            "another id on every piece",
            json!([
                [0, "a", "get", "{\"n\""],
                [0, "x", null, ":1}"],
                [1, "b", "get", "{\"n\":"],
                [1, "y", "", "2}"],
            ]),
        ),
        (
            "empty pieces in between",
            json!([
                [0, "a", "get", "{\"n\":1}"],
                [0, "", "", ""],
                [5, null, null, null],
                [1, "b", "get", "{\"n\":2}"],
            ]),
        ),
        (
            "indexes that do not begin at 0, and objects for arguments",
            json!([[7, "a", "get", {"n": 1}], [9, "b", "get", {"n": 2}]]),
        ),
    ];
    for (what, pieces) in table {
        assert_eq!(assemble(&pieces, StopReason::Stop), two_calls(), "{what}");
    }
}

#[test]
fn pieces_are_put_together_where_the_index_says_nothing() {
    let table = [
        (
            "the same index for all",
            json!([[0, "a", "get", "{\"n\":1}"], [0, "b", "get", "{\"n\":2}"]]),
        ),
        (
            "no index",
            json!([
                [null, "a", "get", "{\"n\":1}"],
                [null, "b", "get", "{\"n\":2}"]
            ]),
        ),
        (
            "no index, in pieces",
            json!([
                [null, "a", "get", "{\"n\""],
                [null, null, null, ":1}"],
                [null, "b", "get", ""],
                [null, "b", null, "{\"n\":2}"],
            ]),
        ),
        (
            "no index, id on every piece, interleaved",
            json!([
                [null, "a", "get", "{\"n\""],
                [null, "b", "get", "{\"n\":"],
                [null, "a", "get", ":1}"],
                [null, "b", "get", "2}"],
            ]),
        ),
    ];
    for (what, pieces) in table {
        assert_eq!(assemble(&pieces, StopReason::Stop), two_calls(), "{what}");
    }
}

#[test]
fn without_index_and_id_a_call_ends_where_its_arguments_are_complete() {
    let pieces = json!([
        [null, null, "get", "{\"n\""],
        [null, null, "get", ":1}"],
        [null, null, "get", "{\"n\":2}"],
        [null, null, "put", "{}"],
    ]);
    let expected = [
        call("", "get", json!({"n": 1})),
        call("", "get", json!({"n": 2})),
        call("", "put", json!({})),
    ];
    assert_eq!(assemble(&pieces, StopReason::Stop), expected);
}

#[test]
fn arguments_become_json_or_null() {
    let deep = "[".repeat(10_000);
    let table = [
        ("", json!({})),
        ("  \n", json!({})),
        ("{}", json!({})),
        (" {\"a\": [1, null]} ", json!({"a": [1, null]})),
        ("{\"a\": 1", Value::Null),
        ("order 1001", Value::Null),
        ("{\"a\": 1e400}", Value::Null),
        (&deep, Value::Null),
        (
            "{\"a\\u0000b\": [\"c\\u0000\"]}",
            json!({"a\u{fffd}b": ["c\u{fffd}"]}),
        ),
    ];
    for (text, expected) in table {
        let calls = assemble(&json!([[0, "a", "get", text]]), StopReason::Stop);
        assert_eq!(calls, [call("a", "get", expected)], "{text:.40}");
    }
}

/// The name has come, the limit struck: calling without arguments would be half a call.
#[test]
fn a_call_that_the_output_limit_cut_has_no_arguments_rather_than_empty_ones() {
    let calls = assemble(&json!([[0, "a", "cancel_all", ""]]), StopReason::Length);
    assert_eq!(calls, [call("a", "cancel_all", Value::Null)]);
}

#[test]
fn an_endless_call_and_endless_calls_are_refused() {
    let mut calls = Calls::default();
    let piece = json!({"index": 0, "function": {"name": "get", "arguments": "x".repeat(60_000)}});
    let added = std::iter::repeat_with(|| serde_json::from_value(piece.clone()).unwrap())
        .take(20)
        .try_for_each(|piece| calls.add(piece));
    assert_eq!(added, Err(TooManyCalls));

    let mut calls = Calls::default();
    let added = (0..200).try_for_each(|index| {
        let piece = json!({"index": u64::MAX - index, "function": {"name": "get"}});
        calls.add(serde_json::from_value(piece).unwrap())
    });
    assert_eq!(added, Err(TooManyCalls));
}
