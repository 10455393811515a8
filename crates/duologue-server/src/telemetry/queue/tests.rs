//! What happens to lines that cannot be written.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;

/// What the thread writes to: each write takes the next result that the test sends, and waits for it.
struct Output {
    results: Receiver<io::Result<usize>>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A test that has ended has no more to say.
        let result = self.results.recv().unwrap_or(Ok(usize::MAX));
        let length = result?.min(bytes.len());
        lock(&self.written).extend(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Log {
    queue: LogQueue,
    flush: LogFlush,
    results: SyncSender<io::Result<usize>>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Log {
    fn start() -> Self {
        let (results, received) = sync_channel(64);
        let written = Arc::default();
        let output = Output {
            results: received,
            written: Arc::clone(&written),
        };
        let report = |count: u64| format!("{count} dropped\n").into_bytes();
        let (queue, flush) = start(output, report).unwrap();
        Self {
            queue,
            flush,
            results,
            written,
        }
    }

    fn log(&self, line: &str) {
        self.queue.clone().write_all(line.as_bytes()).unwrap();
    }

    fn next_write(&self, result: io::Result<usize>) {
        self.results.send(result).unwrap();
    }

    /// Lets all further writes succeed, and returns what was written at the end.
    fn finish(self) -> String {
        drop(self.results);
        drop(self.flush);
        String::from_utf8(lock(&self.written).clone()).unwrap()
    }
}

fn disk_full() -> io::Result<usize> {
    Err(ErrorKind::StorageFull.into())
}

#[test]
fn lines_are_written_in_their_order_and_all_of_them_before_the_end() {
    let log = Log::start();
    let mut expected = String::new();
    for number in 0..1000 {
        let line = format!("{number}\n");
        log.log(&line);
        expected.push_str(&line);
    }
    assert_eq!(log.finish(), expected);
}

#[test]
fn lines_that_cannot_be_written_are_counted_and_reported_before_the_next() {
    let log = Log::start();
    for line in ["a\n", "b\n", "c\n", "d\n"] {
        log.log(line);
    }
    log.next_write(disk_full());
    // The report itself, twice.
    log.next_write(disk_full());
    log.next_write(Err(ErrorKind::BrokenPipe.into()));
    assert_eq!(log.finish(), "3 dropped\nd\n");
}

#[test]
fn a_line_that_is_cut_in_the_middle_does_not_spoil_the_next() {
    let log = Log::start();
    log.log("first line\n");
    log.log("second line\n");
    log.next_write(Ok(5));
    log.next_write(disk_full());
    assert_eq!(log.finish(), "first\n1 dropped\nsecond line\n");
}

#[test]
fn a_full_pipe_that_does_not_block_is_written_to_again() {
    let log = Log::start();
    log.log("line\n");
    log.next_write(Err(ErrorKind::Interrupted.into()));
    log.next_write(Err(ErrorKind::WouldBlock.into()));
    assert_eq!(log.finish(), "line\n");
}

/// Goal: a pipe that nobody reads holds up no code that logs and takes no more memory than the
/// limits allow; afterwards the log has one gap. Method: the first write waits until more is logged
/// than fits, in lines and then in bytes.
#[test]
fn what_does_not_fit_is_dropped_and_reported_where_it_is_missing() {
    let wide = format!("{}\n", "x".repeat(BYTES_MAX / 8));
    for (line, fit) in [("short\n", LINES_MAX), (&*wide, 7)] {
        let log = Log::start();
        log.log("first\n");
        // The thread has taken the first line when the queue has room for all others.
        while !lock(&log.queue.0.queue).entries.is_empty() {
            thread::yield_now();
        }
        for _ in 0..fit + 3 {
            log.log(line);
        }
        let bytes = lock(&log.queue.0.queue).bytes;
        assert!(bytes <= BYTES_MAX, "{bytes}");
        let expected = format!("first\n{}3 dropped\n", line.repeat(fit));
        assert!(log.finish() == expected);
    }
}

#[test]
fn the_end_of_the_process_waits_for_a_blocked_write_but_not_long() {
    let log = Log::start();
    log.log("line\n");
    let started = std::time::Instant::now();
    drop(log.flush);
    assert!(started.elapsed() >= FLUSH_TIMEOUT);
    assert!(lock(&log.written).is_empty());
}
