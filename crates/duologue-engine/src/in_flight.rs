//! The bytes in flight of the whole process: messages that no session has handled, and frames that no
//! reader has received.
//!
//! Each queue has a limit of its own. This one is for all of them together, since ten thousand queues,
//! each within its limit, need more memory than a machine has.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::limits::ProcessLimits;

/// The bytes in flight, and their limit.
#[derive(Debug)]
pub(crate) struct InFlightBytes {
    bytes: AtomicU64,
    bytes_max: u64,
}

/// A part of the bytes in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    in_flight: Arc<InFlightBytes>,
    bytes: u64,
}

impl InFlightBytes {
    pub(crate) fn new(limits: &ProcessLimits) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicU64::new(0),
            bytes_max: limits.bytes_in_flight_max.get(),
        })
    }

    /// Adds bytes, also beyond the limit.
    pub(crate) fn load(self: &Arc<Self>, bytes: u64) -> InFlightGuard {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        InFlightGuard {
            in_flight: Arc::clone(self),
            bytes,
        }
    }

    /// Whether this many bytes can be added within the limit.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        self.bytes.load(Ordering::Relaxed) + bytes <= self.bytes_max
    }
}

impl InFlightGuard {
    /// Its part of the bytes in flight.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds bytes, also beyond the limit.
    pub(crate) fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.in_flight.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Releases bytes, at most its part.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.in_flight.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether it can grow by this many bytes within the limit of the process.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        self.in_flight.has_room_for(bytes)
    }

    /// For tests that have no process.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        let bytes_in_flight_max = std::num::NonZeroU64::MIN;
        InFlightBytes::new(&ProcessLimits {
            bytes_in_flight_max,
        })
        .load(0)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.in_flight
            .bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
