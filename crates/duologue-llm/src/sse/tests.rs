//! The standard's rules one by one, and then all cuts of all streams.

use proptest::prelude::*;

use super::*;

/// Decodes a whole stream that comes in the given pieces.
fn decode<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    bytes_max: usize,
) -> (Vec<String>, Result<(), TooLong>) {
    let mut decoder = SseDecoder::new(bytes_max);
    let mut events = Vec::new();
    let mut give = |event: &str| {
        events.push(event.to_owned());
        Ok(())
    };
    let mut pieces = pieces.into_iter();
    let read = pieces.try_for_each(|piece| decoder.decode(piece, &mut give));
    let end = read.and_then(|()| decoder.finish(&mut give));
    (events, end)
}

#[test]
fn a_stream_is_read_as_the_standard_says() {
    let table: &[(&str, &[&str])] = &[
        ("data: a\n\ndata: b\n\n", &["a", "b"]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
        ("data: a\r\rdata: b\r\r", &["a", "b"]),
        ("data: a\r\n\ndata: b\n\r\n", &["a", "b"]),
        ("\u{feff}data: a\n\n", &["a"]),
        ("data: a\n\n\u{feff}data: b\n\n", &["a"]),
        (": ping\n\n: ping\ndata: a\n: ping\n\n", &["a"]),
        ("data: a\ndata: b\n\n", &["a\nb"]),
        ("data\ndata\n\n", &["\n"]),
        ("data:\n\n", &[""]),
        (
            "data: a\n\r\ndata: b\n\ndata: c\r\n\ndata: d\n\n",
            &["a", "b", "c", "d"],
        ),
        ("data:a\n\ndata:  b\n\n", &["a", " b"]),
        ("event: error\nid: 7\nretry: 10\ndata: a\n\n", &["a"]),
        ("event: ping\n\n\n\n", &[]),
        ("DATA: a\ndatax: b\n data: c\n\n", &[]),
        ("data: a:b\n\n", &["a:b"]),
        ("data: a\n\ndata: b\n", &["a", "b"]),
        ("data: a\n\ndata: b", &["a", "b"]),
        ("data: héllo 👋\n\n", &["héllo 👋"]),
        ("", &[]),
    ];
    for (stream, expected) in table {
        let (events, end) = decode([stream.as_bytes()], 100);
        assert_eq!(events, *expected, "{stream:?}");
        assert_eq!(end, Ok(()));
    }
}

#[test]
fn broken_characters_are_replaced() {
    let (events, _) = decode([&b"data: a\xff\xf0\x9f\x91b\n\n"[..]], 100);
    assert_eq!(events, ["a\u{fffd}\u{fffd}b"]);
}

#[test]
fn a_line_or_event_over_the_limit_fails_the_stream_but_not_what_came_before() {
    let too_long = Err(TooLong { bytes_max: 10 });
    for stream in [
        "data: ok\n\ndata: 123456\n\n",
        "data: ok\n\n: a comment without an end, on and on and on",
        "data: ok\n\ndata: 1234\ndata: 1234\ndata: 1234\n\n",
    ] {
        assert_eq!(
            decode([stream.as_bytes()], 10),
            (vec!["ok".to_owned()], too_long.clone())
        );
    }
    let (events, end) = decode([&b"data: 1234\n\n"[..]], 10);
    assert_eq!((events, end), (vec!["1234".to_owned()], Ok(())));
}

/// Streams made of what matters to the decoder, and of some bytes that do not.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(&b"data"[..]),
        Just(&b": "[..]),
        Just(&b":"[..]),
        Just(&b"\n"[..]),
        Just(&b"\r"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\n\n"[..]),
        Just(&b"\xef\xbb\xbf"[..]),
        Just("👋".as_bytes()),
        Just(&b"\xff"[..]),
        Just(&b"event: x\n"[..]),
        Just(&b"{\"a\":1}"[..]),
    ];
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn the_cuts_change_nothing(
        stream in stream(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        bytes_max in prop_oneof![Just(1000_usize), 1..20_usize],
    ) {
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());
        let mut start = 0;
        let pieces: Vec<&[u8]> = cuts
            .into_iter()
            .map(|end| {
                let piece = &stream[start..end];
                start = end;
                piece
            })
            .collect();
        let whole = decode([&stream[..]], bytes_max);
        prop_assert_eq!(&decode(pieces, bytes_max), &whole);
        prop_assert_eq!(&decode(stream.chunks(1), bytes_max), &whole);
    }

    #[test]
    fn arbitrary_bytes_never_cause_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..500),
        bytes_max in 0..100_usize,
    ) {
        let (events, _) = decode(bytes.chunks(7), bytes_max);
        // Broken characters grow threefold when they are replaced.
        prop_assert!(events.iter().all(|event| event.len() <= 3 * bytes_max));
    }
}
