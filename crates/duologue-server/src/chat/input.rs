//! Where lines and interruptions come from.

use std::{
    io::{self, BufRead, Read},
    thread,
};

use tokio::sync::mpsc;

/// The longest line, in bytes; more than any server takes. The rest of a longer one is another line.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Lines of input, one at a time. Ends where the input ends.
pub(super) type Lines = mpsc::Receiver<io::Result<String>>;

/// Reads `input` line by line.
///
/// This takes a thread of its own, and not one of the runtime's: a read from a terminal cannot be
/// called back, and the runtime would wait for it when the program wants to end.
pub(super) fn lines(input: impl Read + Send + 'static) -> io::Result<Lines> {
    let (sender, receiver) = mpsc::channel(1);
    thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || {
            let mut reader = io::BufReader::new(input);
            // Sending fails when the conversation is over.
            while let Some(line) = next_line(&mut reader)
                && sender.blocking_send(line).is_ok()
            {}
        })?;
    Ok(receiver)
}

fn next_line(reader: &mut impl BufRead) -> Option<io::Result<String>> {
    let mut line = Vec::new();
    match reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
        Ok(0) => None,
        Ok(_) => {
            let line = String::from_utf8_lossy(&line);
            Some(Ok(line.trim_end_matches(['\r', '\n']).to_owned()))
        }
        Err(error) => Some(Err(error)),
    }
}

/// Passes on every Ctrl-C, for as long as it is polled.
pub(super) async fn forward_interrupts(sender: mpsc::Sender<()>) -> io::Error {
    loop {
        if let Err(error) = tokio::signal::ctrl_c().await {
            return error;
        }
        // A full queue holds more presses than anybody needs.
        let _ = sender.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_one_by_one_without_their_ends() {
        let mut lines = lines("one\r\n\ntwo".as_bytes()).unwrap();
        for expected in ["one", "", "two"] {
            assert_eq!(lines.recv().await.unwrap().unwrap(), expected);
        }
        assert!(lines.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_line_without_end_is_passed_on_in_pieces() {
        let mut lines = lines(io::repeat(b'x')).unwrap();
        let first = lines.recv().await.unwrap().unwrap();
        assert_eq!(first.len() as u64, LINE_BYTES_MAX);
    }
}
