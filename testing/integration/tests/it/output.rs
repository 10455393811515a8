//! Outputs that cannot be written to: a log that fails or blocks must affect no connection.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read},
    os::fd::OwnedFd,
    path::Path,
    process::Command,
};

use duologue_integration::{
    Client,
    process::{Outputs, ServerProcess},
};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::net::unix::pipe;

/// Each answer leaves many lines in the log.
const VERBOSE: &[(&str, &str)] = &[("DUOLOGUE_LOG__FILTER", "trace")];

const SESSIONS: usize = 20;

#[tokio::test]
async fn a_server_whose_outputs_are_closed_serves() {
    serves(Outputs::Closed).await;
}

#[tokio::test]
async fn a_server_whose_log_is_on_a_full_disk_serves() {
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    serves(Outputs::To {
        stdout: full().into(),
        stderr: full().into(),
    })
    .await;
}

#[tokio::test]
async fn a_server_whose_outputs_nobody_reads_serves() {
    let ((stdout, _unread_banner), (stderr, _unread_log)) = (full_pipe(), full_pipe());
    serves(Outputs::To {
        stdout: stdout.into(),
        stderr: stderr.into(),
    })
    .await;
}

/// Goal: the log says how much of it is missing. Method: the program that reads the log ends, and
/// another is started in its place. In between, writes fail with `EPIPE`.
#[tokio::test]
async fn lines_that_cannot_be_written_are_counted_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("log");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let first_reader = reader(&fifo);
    let log = OpenOptions::new().write(true).open(&fifo).unwrap();
    let outputs = Outputs::To {
        stdout: log.try_clone().unwrap().into(),
        stderr: log.into(),
    };
    let server = ServerProcess::start_writing_to(outputs, &[]).await;
    drop(first_reader);
    server.signal("HUP").await;
    answers(&server).await;
    let mut second_reader = File::from(reader(&fifo));
    assert_eq!(server.terminate().await, Some(0));
    let mut log = String::new();
    second_reader.read_to_string(&mut log).unwrap();
    let report = log.lines().find(|line| line.contains("log.lines_dropped"));
    let report: Value = serde_json::from_str(report.expect(&log)).unwrap();
    let count = &report["log.lines_dropped"];
    let message = format!("{count} log lines were dropped");
    assert_eq!(report["message"], message);
    assert!(count.as_u64().unwrap() > 1, "{message}");
    assert!(log.contains("server.stopped"), "{log}");
}

async fn serves(outputs: Outputs) {
    let server = ServerProcess::start_writing_to(outputs, VERBOSE).await;
    answers(&server).await;
    assert_eq!(server.terminate().await, Some(0));
}

/// Users that connect and speak at the same time receive their answers.
async fn answers(server: &ServerProcess) {
    let talking = (0..SESSIONS).map(async |number| {
        let url = server.socket_url(&format!("s{number}"), "?user_id=alice");
        let mut client = Client::open(&url).await;
        for _ in 0..3 {
            assert_eq!(client.ask("hello").await.done["finish_reason"], "stop");
        }
        client.close(1000).await;
    });
    join_all(talking).await;
}

/// The end of a pipe that is written to, and has no room left.
fn full_pipe() -> (OwnedFd, pipe::Receiver) {
    let (sender, receiver) = pipe::pipe().expect("the system has pipes");
    loop {
        match sender.try_write(&[b'\n'; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    let sender = sender.into_blocking_fd();
    (sender.expect("a pipe can block"), receiver)
}

/// Opens a named pipe for reading, also if nobody writes to it.
fn reader(fifo: &Path) -> OwnedFd {
    let receiver = pipe::OpenOptions::new().open_receiver(fifo);
    let receiver = receiver.expect("the test has made it");
    receiver.into_blocking_fd().expect("a pipe can block")
}
