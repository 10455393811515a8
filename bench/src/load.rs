//! The clients of one run: many sessions in this process, all of which must succeed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Result;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    script::Script,
    session::{Record, Session},
};

/// Handshakes at once.
const CONNECTING_MAX: u32 = 64;

/// What went wrong, by its description, and how often.
pub(crate) type Faults = BTreeMap<String, u32>;

/// Connected sessions, and what went wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    pub(crate) sessions: Vec<Session>,
    pub(crate) faults: Faults,
}

impl Crowd {
    /// Connects so many sessions.
    pub(crate) async fn connect(server: SocketAddr, count: u32) -> Self {
        let connect = move || Session::connect(server, new_id());
        let (sessions, faults) = run_all(count, CONNECTING_MAX, connect).await;
        Self { sessions, faults }
    }

    /// Lets every session have its turns. Those that fail are left out afterwards. A session whose turns are
    /// over waits for the others, and answers pings meanwhile.
    pub(crate) async fn turns(&mut self, turns: u32, script: Script, stagger: Duration) {
        let count = u32::try_from(self.sessions.len()).expect("sessions are few");
        let started = Instant::now();
        let mut running = JoinSet::new();
        let all_over = watch::Sender::new(0);
        for (index, mut session) in self.sessions.drain(..).enumerate() {
            let index = u32::try_from(index).expect("sessions are few");
            let begins = started + stagger * index / count;
            let all_over = all_over.clone();
            running.spawn(async move {
                tokio::time::sleep_until(begins).await;
                let had = session.turns(turns, script).await;
                // Only the last one wakes the others.
                all_over.send_if_modified(|over| {
                    *over += 1;
                    *over == count
                });
                had?;
                let mut over = all_over.subscribe();
                tokio::select! {
                    _ = over.wait_for(|over| *over == count) => Ok(session),
                    error = session.idle() => Err(error),
                }
            });
        }
        self.collect(running).await;
    }

    /// Lets every session wait, and answer pings.
    pub(crate) async fn idle(&mut self, duration: Duration) {
        let ends = Instant::now() + duration;
        let mut running = JoinSet::new();
        for mut session in self.sessions.drain(..) {
            running.spawn(async move {
                match tokio::time::timeout_at(ends, session.idle()).await {
                    Ok(error) => Err(error),
                    Err(_) => Ok(session),
                }
            });
        }
        self.collect(running).await;
    }

    async fn collect(&mut self, mut running: JoinSet<Result<Session>>) {
        while let Some(session) = running.join_next().await {
            match session.expect("a client does not panic") {
                Ok(session) => self.sessions.push(session),
                Err(error) => count_fault(&mut self.faults, &error),
            }
        }
    }
}

fn count_fault(faults: &mut Faults, error: &anyhow::Error) {
    *faults.entry(format!("{error:#}")).or_default() += 1;
}

/// Lets so many sessions come, have one short turn and go, some of them at once.
pub(crate) async fn churn(server: SocketAddr, count: u32, at_once: u32) -> (Vec<Record>, Faults) {
    run_all(count, at_once, move || visit(server)).await
}

/// Runs `count` tasks, at most `at_once` at a time.
async fn run_all<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    count: u32,
    at_once: u32,
    task: impl Fn() -> F,
) -> (Vec<T>, Faults) {
    let (mut results, mut faults) = (Vec::new(), Faults::new());
    let mut running = JoinSet::new();
    let mut left = count;
    loop {
        while left > 0 && running.len() < at_once as usize {
            running.spawn(task());
            left -= 1;
        }
        let Some(ended) = running.join_next().await else {
            return (results, faults);
        };
        match ended.expect("a client does not panic") {
            Ok(result) => results.push(result),
            Err(error) => count_fault(&mut faults, &error),
        }
    }
}

async fn visit(server: SocketAddr) -> Result<Record> {
    let mut session = Session::connect(server, new_id()).await?;
    session.turn(Script::ONE_TOKEN).await?;
    session.close().await
}

fn new_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("session-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
