//! What happened in a run, in order: what two runs of a seed are compared by, and what a failure shows.
//!
//! The torture has histories instead: what each client asked for and received, to compare with the log.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::{Arc, Mutex, MutexGuard},
};

use crate::time::Time;

/// The trace of one run. Clones are the same trace.
#[derive(Clone, Debug)]
pub struct Trace {
    time: Time,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    hasher: DefaultHasher,
    violations: Vec<String>,
}

impl Trace {
    /// Nothing has happened yet.
    pub(crate) fn new(time: Time) -> Self {
        Self {
            time,
            state: Arc::default(),
        }
    }

    /// Notes what happened.
    pub(crate) fn note(&self, who: &str, what: &str) {
        let line = format!("{:>9.3} {who:<10} {what}", self.time.now().as_secs_f64());
        let mut state = self.lock();
        state.hasher.write(line.as_bytes());
        state.lines.push(line);
    }

    /// Notes that a promise was broken.
    pub(crate) fn violation(&self, who: &str, what: &str) {
        self.note(who, &format!("VIOLATION: {what}"));
        self.lock().violations.push(format!("{who}: {what}"));
    }

    /// The promises that were broken.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// All that happened, a line each.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// The same for two histories that are the same.
    pub fn hash(&self) -> u64 {
        self.lock().hasher.finish()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}
