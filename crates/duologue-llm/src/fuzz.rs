//! For fuzzing: everything that reads what an endpoint sends.

use reqwest::{StatusCode, header::HeaderMap};
use secrecy::SecretString;

use crate::{
    answer::{StreamedAnswer, read_whole},
    failure,
};

/// The longest line in a stream, small enough for the limit to be met.
const LINE_BYTES_MAX: usize = 512;

/// Reads a streamed answer whole and in pieces of the size that the first byte says. Panics unless
/// both come to the same.
pub fn streamed_answer(bytes: &[u8]) {
    let (size, stream) = bytes.split_first().unwrap_or((&0, bytes));
    let whole = read_stream(stream, stream.len().max(1));
    let pieces = read_stream(stream, usize::from(*size).max(1));
    assert_eq!(whole, pieces, "the cuts have changed the answer");
}

fn read_stream(stream: &[u8], size: usize) -> String {
    let mut answer = StreamedAnswer::new(LINE_BYTES_MAX);
    let mut pieces = stream.chunks(size);
    let mut end = pieces.try_for_each(|piece| answer.bytes(piece));
    if end.is_ok() {
        end = answer.end();
    }
    let chunks: Vec<_> = std::iter::from_fn(|| answer.next_chunk()).collect();
    let end = end.map_err(|error| error.to_string());
    format!("{chunks:?} {end:?}")
}

/// Reads an answer that is not streamed, and the same bytes as a refusal.
pub fn whole_answer(bytes: &[u8]) {
    drop(read_whole(bytes));
    let key = SecretString::from("secret-of-ours");
    let refusal = failure::of_response(StatusCode::BAD_REQUEST, &HeaderMap::new(), bytes, &key);
    let told = format!("{refusal:#?}");
    assert!(
        !told.contains("secret-of-ours"),
        "the key is disclosed: {told}"
    );
}
