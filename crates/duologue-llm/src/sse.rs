//! Server-sent events, as endpoints stream them: bytes in, events out, whatever the cuts.
//!
//! Follows the WHATWG's parsing rules (byte order mark; LF, CRLF and lone CR; comments; `data` in
//! several lines), with three differences that reading a finite answer asks for: an event that the
//! end of the stream cuts off is still given out, since some endpoints leave out the last blank
//! line; `id` and `retry` are passed over; and lines and events have a largest size.
//!
//! Invariant: how the bytes are cut into calls of [`SseDecoder::decode`] changes nothing.

use memchr::{memchr, memchr2};

/// One event. Its name (`event:`) is dropped: endpoints that use one repeat it in the data.
pub(crate) type Event = String;

/// A line or an event exceeds the limit: the endpoint is broken, or hostile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream holds a line or an event of more than {bytes_max} bytes")]
pub(crate) struct TooLong {
    bytes_max: usize,
}

/// Decodes one stream.
#[derive(Debug)]
pub(crate) struct SseDecoder {
    bytes_max: usize,
    /// The line that has begun and has no end yet. Kept as bytes, since a cut may fall into a
    /// character.
    line: Vec<u8>,
    /// The lines of `data` so far, joined by LF; none if the event has none.
    data: Option<Vec<u8>>,
    /// The last byte was CR, so an LF that follows belongs to it.
    after_cr: bool,
    /// No line has ended yet, so a byte order mark may come.
    at_start: bool,
}

impl SseDecoder {
    /// A decoder for a stream whose lines, and whose events, have at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            data: None,
            after_cr: false,
            at_start: true,
        }
    }

    /// Decodes the next bytes and appends the events that they complete. After an error, the
    /// stream is beyond repair; what was appended before it is good.
    pub(crate) fn decode(
        &mut self,
        mut bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else {
                self.check_size(self.line.len() + bytes.len())?;
                self.line.extend_from_slice(bytes);
                return Ok(());
            };
            self.check_size(self.line.len() + end)?;
            self.after_cr = bytes[end] == b'\r';
            if self.line.is_empty() {
                self.end_line(&bytes[..end], events)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.end_line(&line, events)?;
                // Keeps the room for the next line that a cut falls into.
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    /// Ends the stream, and appends the event that it cuts off, if there is one.
    pub(crate) fn finish(mut self, events: &mut Vec<Event>) -> Result<(), TooLong> {
        let line = std::mem::take(&mut self.line);
        self.end_line(&line, events)?;
        self.end_line(b"", events)
    }

    fn end_line(&mut self, line: &[u8], events: &mut Vec<Event>) -> Result<(), TooLong> {
        let is_first = std::mem::take(&mut self.at_start);
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if is_first => rest,
            _ => line,
        };
        if line.is_empty() {
            let data = self.data.take();
            events.extend(data.map(|data| String::from_utf8_lossy(&data).into_owned()));
            return Ok(());
        }
        let (field, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        // A comment is a field without a name.
        if field != b"data" {
            return Ok(());
        }
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let size = self.data.as_ref().map_or(0, |data| data.len() + 1) + value.len();
        self.check_size(size)?;
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
        Ok(())
    }

    fn check_size(&self, size: usize) -> Result<(), TooLong> {
        let bytes_max = self.bytes_max;
        if size > bytes_max {
            Err(TooLong { bytes_max })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes a whole stream that comes in the given pieces.
    fn decode<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
        bytes_max: usize,
    ) -> (Vec<Event>, Result<(), TooLong>) {
        let mut decoder = SseDecoder::new(bytes_max);
        let mut events = Vec::new();
        for piece in pieces {
            if let Err(error) = decoder.decode(piece, &mut events) {
                return (events, Err(error));
            }
        }
        let end = decoder.finish(&mut events);
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
            "data: ok\n\n: a comment without an end, for ever and ever",
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
}
