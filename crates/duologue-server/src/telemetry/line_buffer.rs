//! A log in memory.

use std::{
    io, mem,
    sync::{Arc, Mutex},
};

use duologue_engine::lock::lock;
use tracing_subscriber::fmt::MakeWriter;

/// Collects what is logged. Clones share their content.
#[derive(Clone, Default)]
pub(super) struct LineBuffer(Arc<Mutex<Vec<u8>>>);

impl LineBuffer {
    /// Returns what was logged so far, and empties the buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        mem::take(&mut lock(&self.0))
    }
}

impl io::Write for LineBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LineBuffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
