//! What is known of each address or user, by its name, as long as it matters.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex},
};

use crate::lock::lock;

/// From how many entries on it is looked whether some can be forgotten.
const SWEEP_ENTRIES_MIN: usize = 1024;

/// Whether an unused entry is equivalent to a new one.
pub trait Evictable {
    /// True: evicting it lifts no limit.
    fn is_evictable(&self) -> bool;
}

/// Entries by key, made when they are first asked for.
///
/// Bounded: when it has doubled, it evicts the unused entries that are equivalent to new ones.
/// So it never holds more than twice the entries that make a difference, and looking for them costs
/// each insertion next to nothing.
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
