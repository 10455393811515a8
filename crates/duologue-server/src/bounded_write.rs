//! Writing to stdout or stderr of a server, whose other end may be a pipe that nobody reads.

use std::{
    io::{self, Write},
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

/// How long a write may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Writes `text` to `out`. Fails with [`io::ErrorKind::TimedOut`] after a second; the write then
/// continues on a thread of its own, which ends with the process.
pub fn write_bounded(mut out: impl Write + Send + 'static, text: String) -> io::Result<()> {
    let (sender, receiver) = sync_channel(1);
    thread::Builder::new()
        .name("output".to_owned())
        .spawn(move || {
            let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            // It fails if the caller no longer waits.
            let _ = sender.send(written);
        })?;
    let written = receiver.recv_timeout(TIMEOUT);
    written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up() {
        let (reader, writer) = io::pipe().unwrap();
        let text = "x".repeat(1024 * 1024);
        let error = write_bounded(writer, text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(reader);
    }

    #[test]
    fn a_write_that_fails_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let error = write_bounded(writer, "text".to_owned()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
