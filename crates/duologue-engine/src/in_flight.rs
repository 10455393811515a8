//! Bytes in flight, of the whole process: what clients have said and no session has looked at, and
//! what sessions have for readers that have not taken it.
//!
//! Each queue has a bound of its own. This one is for all of them together, since ten thousand
//! queues, each within its bound, are more than a machine has.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::limits::ProcessLimits;

/// How much is in flight, and may be.
#[derive(Debug)]
pub(crate) struct InFlightBytes {
    bytes: AtomicU64,
    bytes_max: u64,
}

/// A part of what is in flight. Dropping it means that it has landed, or is lost.
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

    /// Adds to what is in flight, be it too much or not.
    pub(crate) fn load(self: &Arc<Self>, bytes: u64) -> InFlightGuard {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        InFlightGuard {
            in_flight: Arc::clone(self),
            bytes,
        }
    }

    /// Whether more is in flight than may be.
    pub(crate) fn is_full(&self) -> bool {
        !self.has_room_for(0)
    }

    /// Whether so much more may be.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        self.bytes.load(Ordering::Relaxed) + bytes <= self.bytes_max
    }
}

#[cfg(test)]
impl InFlightGuard {
    /// For tests that have no process.
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
