//! The queue between code that logs and the one thread that writes the log.
//!
//! A write to a pipe that nobody reads blocks, and a write to a full disk or a closed pipe fails.
//! Neither may affect a connection, so code that logs only adds to a bounded queue. A line that does
//! not fit, or cannot be written, is dropped and counted; the count is logged in place of the lines
//! as soon as a write succeeds again.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use duologue_engine::lock::lock;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that can wait. At `info` a busy server logs some hundred per second.
const LINES_MAX: usize = 16_384;

/// Bytes that can wait, in lines.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long the end of the process waits for the lines that are still queued.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait before writing again to a pipe that is not blocking and full.
const FULL_PIPE_INTERVAL: Duration = Duration::from_millis(10);

/// Adds lines to the queue. Never blocks and never fails.
#[derive(Clone)]
pub(super) struct LogQueue(Arc<Shared>);

/// Writes the rest of the queue when it is dropped, for at most [`FLUSH_TIMEOUT`].
#[must_use = "lines that are queued at the end of the process are lost without it"]
pub struct LogFlush(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the thread: there is an entry, or the queue was closed.
    filled: Condvar,
    /// Wakes the end of the process: the thread has written everything.
    finished: Condvar,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Lines that were dropped because the queue was full. While there are any, a new line is
    /// accepted only if the queue is half empty, so that the log has one gap and not hundreds.
    dropped: u64,
    is_closed: bool,
    is_finished: bool,
}

enum Entry {
    Line(Vec<u8>),
    /// As many lines were dropped here.
    Dropped(u64),
}

/// Starts the thread that writes to `out`. `report` makes the line that reports how many were
/// dropped.
pub(super) fn start(
    out: impl Write + Send + 'static,
    report: impl Fn(u64) -> Vec<u8> + Send + 'static,
) -> io::Result<(LogQueue, LogFlush)> {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        filled: Condvar::new(),
        finished: Condvar::new(),
    });
    let queue = Arc::clone(&shared);
    let writer = LineWriter {
        out,
        report,
        dropped: 0,
        is_torn: false,
    };
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || queue.write_to(writer))?;
    Ok((LogQueue(Arc::clone(&shared)), LogFlush(shared)))
}

impl Shared {
    fn push(&self, line: &[u8]) {
        let mut queue = lock(&self.queue);
        if !queue.has_room_for(line) {
            queue.dropped += 1;
            return;
        }
        match mem::take(&mut queue.dropped) {
            0 => {}
            dropped => queue.entries.push_back(Entry::Dropped(dropped)),
        }
        queue.bytes += line.len();
        queue.entries.push_back(Entry::Line(line.to_vec()));
        self.filled.notify_one();
    }

    /// The thread that writes: ends when the queue is closed and empty.
    fn write_to<W: Write, R: Fn(u64) -> Vec<u8>>(&self, mut writer: LineWriter<W, R>) {
        while let Some(entry) = self.next() {
            match entry {
                Entry::Line(line) => writer.line(&line),
                Entry::Dropped(dropped) => writer.gap(dropped),
            }
        }
        lock(&self.queue).is_finished = true;
        self.finished.notify_all();
    }

    fn next(&self) -> Option<Entry> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(entry) = queue.pop() {
                return Some(entry);
            }
            if queue.is_closed {
                return None;
            }
            let waited = self.filled.wait(queue);
            queue = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn has_room_for(&self, line: &[u8]) -> bool {
        let share = if self.dropped == 0 { 1 } else { 2 };
        self.entries.len() < LINES_MAX / share && self.bytes + line.len() <= BYTES_MAX / share
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front();
        if let Some(Entry::Line(line)) = &entry {
            self.bytes -= line.len();
        }
        let dropped = || match mem::take(&mut self.dropped) {
            0 => None,
            dropped => Some(Entry::Dropped(dropped)),
        };
        entry.or_else(dropped)
    }
}

impl Drop for LogFlush {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.is_closed = true;
        self.0.filled.notify_one();
        // Without a result to handle: what is not written by now is lost with the process.
        drop(
            self.0
                .finished
                .wait_timeout_while(queue, FLUSH_TIMEOUT, |queue| !queue.is_finished),
        );
    }
}

impl io::Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogQueue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl std::fmt::Debug for LogFlush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFlush").finish_non_exhaustive()
    }
}

/// The thread's side: writes lines, and counts those that it could not write.
struct LineWriter<W, R> {
    out: W,
    report: R,
    /// Lines that were dropped and not reported yet.
    dropped: u64,
    /// The last write failed in the middle of a line.
    is_torn: bool,
}

impl<W: Write, R: Fn(u64) -> Vec<u8>> LineWriter<W, R> {
    fn line(&mut self, line: &[u8]) {
        // If the report cannot be written, the line after it could not be either.
        if !self.report() || self.write(line).is_err() {
            self.dropped += 1;
        }
    }

    fn gap(&mut self, dropped: u64) {
        self.dropped += dropped;
        self.report();
    }

    /// Reports what was dropped, if anything was. Returns whether nothing is left to report.
    fn report(&mut self) -> bool {
        if self.dropped > 0 && self.write(&(self.report)(self.dropped)).is_ok() {
            self.dropped = 0;
        }
        self.dropped == 0
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_all(b"\n")?;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let (done, left) = rest.split_at(written);
                    self.is_torn = !done.ends_with(b"\n");
                    rest = left;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another program may have set the pipe or the terminal to be non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::park_timeout(FULL_PIPE_INTERVAL);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
