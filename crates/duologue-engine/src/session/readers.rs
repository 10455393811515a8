//! The readers attached to one session.

use duologue_protocol::{CloseCode, ConnectionId, ErrorFrame, Event, ServerFrame};

use crate::reader::{Delivery, ReaderSink};

/// The sinks of a session's readers. Sending never waits: a reader that does not keep up is cut off,
/// and reports its departure itself.
#[derive(Debug, Default)]
pub(super) struct Readers(Vec<ReaderSink>);

impl Readers {
    pub(super) fn add(&mut self, sink: ReaderSink) {
        self.0.push(sink);
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) {
        self.0.retain(|sink| sink.connection() != connection);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends a frame to one reader, if it is still attached.
    pub(super) fn send(&self, connection: ConnectionId, frame: ServerFrame) {
        let mut sinks = self.0.iter();
        if let Some(sink) = sinks.find(|sink| sink.connection() == connection) {
            sink.send(&frame.into());
        }
    }

    /// Replies to one reader's request with an error; the connection stays open.
    pub(super) fn refuse(&self, connection: ConnectionId, error: ErrorFrame) {
        self.send(connection, ServerFrame::Error(error));
    }

    /// Sends a frame to all readers.
    pub(super) fn broadcast(&self, frame: ServerFrame) {
        if !self.is_empty() {
            self.deliver(&frame.into());
        }
    }

    /// Sends a delivery to all readers.
    pub(super) fn deliver(&self, delivery: &Delivery) {
        for sink in &self.0 {
            sink.send(delivery);
        }
    }

    /// Sends stored events to all readers.
    pub(super) fn broadcast_events(&self, events: Vec<Event>) {
        for event in events {
            self.broadcast(ServerFrame::Event(event));
        }
    }

    /// Closes all connections with this code.
    pub(super) fn close(&mut self, code: CloseCode) {
        for sink in self.0.drain(..) {
            sink.close(code);
        }
    }
}
