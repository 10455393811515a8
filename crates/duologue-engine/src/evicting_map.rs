//! A map that evicts entries which are unused and equal to new ones.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex},
};

use crate::lock::lock;

/// The map evicts entries only above this size.
const SWEEP_ENTRIES_MIN: usize = 1024;

/// A value that may become equal to a new one.
pub trait Evictable {
    /// Whether the value is equal to a new one, so that evicting it resets no limit.
    fn is_evictable(&self) -> bool;
}

/// Entries by key, created on first use.
///
/// When the map has doubled, it evicts the entries that are unused and evictable. So it has at most
/// twice the entries that matter, and the cost of the search is small for each insertion.
pub struct EvictingMap<K, V> {
    entries: Mutex<Entries<K, V>>,
}

struct Entries<K, V> {
    by_key: HashMap<K, Arc<V>>,
    sweep_at: usize,
}

impl<K: Eq + Hash, V: Evictable> EvictingMap<K, V> {
    /// The entry of `key`.
    pub fn entry(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut entries = lock(&self.entries);
        let Entries { by_key, sweep_at } = &mut *entries;
        if by_key.len() >= *sweep_at {
            by_key.retain(|_, entry| Arc::strong_count(entry) > 1 || !entry.is_evictable());
            by_key.shrink_to(SWEEP_ENTRIES_MIN);
            *sweep_at = (by_key.len() * 2).max(SWEEP_ENTRIES_MIN);
        }
        Arc::clone(by_key.entry(key).or_insert_with(|| Arc::new(make())))
    }
}

impl<K, V> Default for EvictingMap<K, V> {
    fn default() -> Self {
        let entries = Entries {
            by_key: HashMap::new(),
            sweep_at: SWEEP_ENTRIES_MIN,
        };
        Self {
            entries: Mutex::new(entries),
        }
    }
}

impl<K, V> fmt::Debug for EvictingMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictingMap").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(bool);

    impl Evictable for Always {
        fn is_evictable(&self) -> bool {
            self.0
        }
    }

    #[test]
    fn what_matters_is_kept_and_the_rest_forgotten() {
        let evicting_map = EvictingMap::default();
        let used = evicting_map.entry(0, || Always(true));
        evicting_map.entry(1, || Always(false));
        for key in 2..100_000 {
            evicting_map.entry(key, || Always(true));
        }
        let size = evicting_map.entries.lock().unwrap().by_key.len();
        assert!(size <= SWEEP_ENTRIES_MIN, "{size}");
        assert!(Arc::ptr_eq(
            &used,
            &evicting_map.entry(0, || unreachable!())
        ));
        evicting_map.entry(1, || unreachable!());
    }
}
