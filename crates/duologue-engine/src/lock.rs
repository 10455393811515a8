//! Locks a mutex, also after a panic of another holder.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex` and ignores that it may be poisoned.
///
/// For critical sections that cannot panic half-way through a change: the data behind such a mutex
/// is consistent even if some task panicked while it held the lock.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
