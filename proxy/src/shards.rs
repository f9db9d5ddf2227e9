//! A map from names to values that many threads read at once: locks by part, reads without
//! allocation.

use std::{
    array,
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use centaur_apis::hash64;

const SHARDS: usize = 16;

type Shard<V> = HashMap<Box<str>, V>;

/// A map in parts, at most `entries_max` entries large.
#[derive(Debug)]
pub(crate) struct Shards<V> {
    parts: [RwLock<Shard<V>>; SHARDS],
    part_max: usize,
}

impl<V> Shards<V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { parts: array::from_fn(|_| RwLock::default()), part_max: entries_max.div_ceil(SHARDS) }
    }

    /// Looks at the value of `key`, under a lock others can read through.
    pub(crate) fn read<R>(&self, key: &str, look: impl FnOnce(&V) -> R) -> Option<R> {
        self.shard(key).get(key).map(look)
    }

    /// The value of `key`, made if it is not there; `None` when the map is full.
    pub(crate) fn get_or_insert(&self, key: &str, make: impl FnOnce() -> V) -> Option<V>
    where
        V: Clone,
    {
        if let Some(found) = self.read(key, V::clone) {
            return Some(found);
        }
        let mut shard = self.shard_mut(key);
        if let Some(found) = shard.get(key) {
            return Some(found.clone());
        }
        if shard.len() >= self.part_max {
            return None;
        }
        let made = make();
        shard.insert(key.into(), made.clone());
        Some(made)
    }

    /// Puts a value; a new key is passed over when the map is full.
    pub(crate) fn put(&self, key: &str, value: V) {
        let mut shard = self.shard_mut(key);
        if let Some(slot) = shard.get_mut(key) {
            *slot = value;
        } else if shard.len() < self.part_max {
            shard.insert(key.into(), value);
        }
    }

    pub(crate) fn remove(&self, key: &str) -> Option<V> {
        self.shard_mut(key).remove(key)
    }

    /// Takes out every entry that `keep` refuses.
    pub(crate) fn extract(&self, keep: impl Fn(&V) -> bool) -> Vec<(Box<str>, V)> {
        let mut out = Vec::new();
        for part in &self.parts {
            let mut shard = part.write().unwrap_or_else(PoisonError::into_inner);
            out.extend(shard.extract_if(|_, value| !keep(value)));
        }
        out
    }

    pub(crate) fn for_each(&self, mut look: impl FnMut(&str, &V)) {
        for part in &self.parts {
            let shard = part.read().unwrap_or_else(PoisonError::into_inner);
            shard.iter().for_each(|(key, value)| look(key, value));
        }
    }

    /// Whether some value is such a one.
    pub(crate) fn any(&self, is_one: impl Fn(&V) -> bool) -> bool {
        let holds = |part: &RwLock<Shard<V>>| part.read().unwrap_or_else(PoisonError::into_inner).values().any(&is_one);
        self.parts.iter().any(holds)
    }

    fn shard(&self, key: &str) -> RwLockReadGuard<'_, Shard<V>> {
        self.parts[index(key)].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_mut(&self, key: &str) -> RwLockWriteGuard<'_, Shard<V>> {
        self.parts[index(key)].write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(key: &str) -> usize {
    // Far fewer than 2^32 parts: the low bits are as good as any.
    (hash64(key.as_bytes()) as usize) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_keeps_what_it_has() {
        let map = Shards::new(SHARDS);
        for i in 0..1000 {
            map.put(&i.to_string(), i);
        }
        let mut seen = 0;
        map.for_each(|_, _| seen += 1);
        assert!(seen <= SHARDS, "{seen} entries");
        assert_eq!(map.read("0", |v| *v), Some(0));
        map.put("0", 7);
        assert_eq!(map.get_or_insert("0", || 9), Some(7));
    }

    #[test]
    fn entries_leave_by_choice() {
        let map = Shards::new(1000);
        for i in 0..100 {
            map.put(&i.to_string(), i);
        }
        assert_eq!(map.extract(|v| v % 2 == 0).len(), 50);
        assert_eq!(map.remove("2"), Some(2));
        assert_eq!(map.remove("3"), None);
    }
}
