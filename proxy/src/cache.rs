//! Settings read from a store, kept for a moment. Young entries are used as they are; older ones
//! are used while one caller renews them; old ones are read again before use.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::shards::Shards;

/// Age up to which an entry is used without question.
const FRESH: Duration = Duration::from_secs(1);
/// Age up to which an entry is used while it is renewed.
const USABLE: Duration = Duration::from_secs(5);
/// Age up to which it is believed that something does not exist.
const ABSENT: Duration = Duration::from_millis(100);
/// Entries of one cache.
const ENTRIES_MAX: usize = 1 << 18;

/// What is remembered by name, existence included.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    entries: Shards<Entry<V>>,
    started: Instant,
}

#[derive(Debug)]
struct Entry<V> {
    value: Option<V>,
    read_ms: u64,
    /// When somebody was last told to renew it; keeps the others from doing the same.
    renewed_ms: AtomicU64,
}

/// What a cache says about a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<V> {
    /// The answer; `None` means that there is nothing of this name.
    Fresh(Option<V>),
    /// The answer, and the one who gets this renews it.
    Stale(V),
    /// Nobody asked lately.
    Unknown,
}

impl<V: Clone> Cache<V> {
    pub(crate) fn new() -> Self {
        Self { entries: Shards::new(ENTRIES_MAX), started: Instant::now() }
    }

    pub(crate) fn look(&self, name: &str, now: Instant) -> Found<V> {
        let now_ms = self.ms(now);
        self.entries.read(name, |entry| entry.judge(now_ms)).unwrap_or(Found::Unknown)
    }

    /// The value last read, however old.
    pub(crate) fn last(&self, name: &str) -> Option<V> {
        self.entries.read(name, |entry| entry.value.clone()).flatten()
    }

    pub(crate) fn put(&self, name: &str, value: Option<V>, now: Instant) {
        let read_ms = self.ms(now);
        self.entries.put(name, Entry { value, read_ms, renewed_ms: AtomicU64::new(read_ms) });
    }

    pub(crate) fn forget(&self, name: &str) {
        self.entries.remove(name);
    }

    /// Drops what would not be used any more.
    pub(crate) fn sweep(&self, now: Instant) {
        let now_ms = self.ms(now);
        self.entries.extract(|entry| now_ms.saturating_sub(entry.read_ms) <= millis(USABLE));
    }

    fn ms(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.started))
    }
}

impl<V: Clone> Entry<V> {
    fn judge(&self, now_ms: u64) -> Found<V> {
        let age = now_ms.saturating_sub(self.read_ms);
        let Some(value) = &self.value else {
            return if age <= millis(ABSENT) { Found::Fresh(None) } else { Found::Unknown };
        };
        if age <= millis(FRESH) {
            return Found::Fresh(Some(value.clone()));
        }
        if age > millis(USABLE) {
            return Found::Unknown;
        }
        let last = self.renewed_ms.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(last) > millis(FRESH);
        let mine = || self.renewed_ms.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && mine() { Found::Stale(value.clone()) } else { Found::Fresh(Some(value.clone())) }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_ages_from_fresh_to_unknown() {
        let cache = Cache::new();
        let at = |ms| cache.started + Duration::from_millis(ms);
        assert_eq!(cache.look("a", at(0)), Found::Unknown);
        cache.put("a", Some(1), at(0));
        assert_eq!(cache.look("a", at(1000)), Found::Fresh(Some(1)));
        assert_eq!(cache.look("a", at(1001)), Found::Stale(1));
        assert_eq!(cache.look("a", at(1002)), Found::Fresh(Some(1)), "one renewal at a time");
        assert_eq!(cache.look("a", at(2500)), Found::Stale(1), "the first one may have failed");
        assert_eq!(cache.look("a", at(5001)), Found::Unknown);
        cache.forget("a");
        assert_eq!(cache.look("a", at(10)), Found::Unknown);
    }

    #[test]
    fn absence_is_believed_briefly() {
        let cache = Cache::<u8>::new();
        let at = |ms| cache.started + Duration::from_millis(ms);
        cache.put("a", None, at(0));
        assert_eq!(cache.look("a", at(100)), Found::Fresh(None));
        assert_eq!(cache.look("a", at(101)), Found::Unknown);
        cache.sweep(at(60_000));
        assert_eq!(cache.look("a", at(0)), Found::Unknown);
    }
}
