//! Server-sent events, as endpoints stream them: bytes in, events out, whatever the cuts.
//!
//! Follows the WHATWG's parsing rules (byte order mark; LF, CRLF and lone CR; comments; `data` in
//! several lines), with three differences that reading a finite answer asks for: an event that the
//! end of the stream cuts off is still given out, since some endpoints leave out the last blank
//! line; `id` and `retry` are passed over; and lines and events have a largest size.
//!
//! An event is its data. Its name (`event:`) is dropped: endpoints that use one repeat it in the data.
//!
//! Invariant: how the bytes are cut into calls of [`SseDecoder::decode`] changes nothing.

#[cfg(test)]
mod tests;

use memchr::{memchr, memchr2};

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

    /// Decodes the next bytes and gives out the events that they complete, until one of them is refused.
    /// After an error, the stream is beyond repair; what was given out before it is good.
    pub(crate) fn decode<E: From<TooLong>>(
        &mut self,
        mut bytes: &[u8],
        give: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if let Some((data, rest)) = self.whole_event(bytes) {
                self.check_size(bytes.len() - rest.len() - 2)?;
                self.at_start = false;
                give(&String::from_utf8_lossy(data))?;
                bytes = rest;
                continue;
            }
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
                self.end_line(&bytes[..end], give)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.end_line(&line, give)?;
                // Keeps the room for the next line that a cut falls into.
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    /// Ends the stream, and gives out the event that it cuts off, if there is one.
    pub(crate) fn finish<E: From<TooLong>>(
        mut self,
        give: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let line = std::mem::take(&mut self.line);
        self.end_line(&line, give)?;
        self.end_line(b"", give)
    }

    /// The usual case, read where it is: one line of data and its blank line, between other events. Returns
    /// the data, and the bytes after the event.
    fn whole_event<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        if self.after_cr || !self.line.is_empty() || self.data.is_some() {
            return None;
        }
        let value = bytes.strip_prefix(b"data:")?;
        let (value, rest) = value.split_at(memchr2(b'\n', b'\r', value)?);
        let rest = rest.strip_prefix(b"\n\n")?;
        Some((value.strip_prefix(b" ").unwrap_or(value), rest))
    }

    fn end_line<E: From<TooLong>>(
        &mut self,
        line: &[u8],
        give: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let is_first = std::mem::take(&mut self.at_start);
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if is_first => rest,
            _ => line,
        };
        if line.is_empty() {
            let data = self.data.take();
            return data.map_or(Ok(()), |data| give(&String::from_utf8_lossy(&data)));
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
