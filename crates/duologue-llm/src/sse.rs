//! Server-sent events, as endpoints stream them: bytes in, events out, whatever the cuts.
//!
//! Follows the WHATWG's parsing rules (byte order mark; LF, CRLF and lone CR; comments; `data` in
//! several lines), with three differences that reading a finite answer asks for: an event that the
//! end of the stream cuts off is still given out, since some endpoints leave out the last blank
//! line; `id` and `retry` are passed over; and lines and events have a largest size.
//!
//! Invariant: how the bytes are cut into calls of [`SseDecoder::decode`] changes nothing.

#[cfg(test)]
mod tests;

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
