//! A panic that cannot be logged ends its task and not the process.
//!
//! In a process of its own, since it replaces stderr, the log and the handler of panics.

use std::{fs::File, io::Read, thread};

use duologue_server::{
    config::{LogConfig, LogFormat},
    panics, telemetry,
};
use rustix::stdio::dup2_stderr;

/// The first panic is logged to a full disk. A panic within the handler would abort the process.
#[test]
fn a_panic_that_cannot_be_logged_ends_nothing_but_its_thread() {
    dup2_stderr(File::options().write(true).open("/dev/full").unwrap()).unwrap();
    let flush = telemetry::start(&LogConfig {
        filter: "info".to_owned(),
        format: LogFormat::Json,
    });
    let flush = flush.unwrap();
    panics::log_from_now_on();
    thread::spawn(|| panic!("first")).join().unwrap_err();

    let mut log = tempfile::tempfile().unwrap();
    dup2_stderr(&log).unwrap();
    thread::spawn(|| panic!("second")).join().unwrap_err();
    drop(flush);
    let mut text = String::new();
    std::io::Seek::rewind(&mut log).unwrap();
    log.read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""panic.message":"second""#), "{text}");
    // The first is missing and counted, unless the thread that writes was slow.
    let is_counted = text.contains("1 log lines were dropped");
    assert!(
        is_counted || text.contains(r#""panic.message":"first""#),
        "{text}"
    );
}
