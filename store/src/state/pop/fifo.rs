//! Order within message groups. A *key* is a message group of one queue; messages without a message
//! group share one key of their queue. A key is handed out as a whole: while one of its messages is
//! in hand, or backing off, no other of them is delivered.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
};

use super::{Hold, Row};

/// A message group of one queue: the queue, and the hash of the message group.
pub type Key = (u32, u64);

/// The rows of a FIFO subscription by key.
#[derive(Clone, Debug, Default)]
pub struct Fifo {
    keys: HashMap<Key, Members>,
    /// The message group's hash of each row, by queue and offset.
    hashes: HashMap<(u32, u64), u64>,
    /// Rows that nobody had yet, by queue.
    passed: HashMap<u32, usize>,
}

/// Unfinished messages of one key.
#[derive(Clone, Debug, Default)]
struct Members {
    /// Those that were handed out are the lowest ones.
    offsets: BTreeSet<u64>,
    /// Each time at which some of those become visible, ms, and how many. One lease has one time, so
    /// these are few.
    times: Vec<(u64, u32)>,
    /// When the key was handed out last, ms: the one that waited longest has the next turn. Not in
    /// snapshots: turns begin anew.
    served_ms: u64,
    place: Option<Place>,
}

/// A key's place in the order of becoming due: when, and whether its first message is dead then.
pub type Place = (u64, bool);

impl Fifo {
    /// The hash of a row's message group.
    pub fn hash(&self, queue: u32, offset: u64) -> Option<u64> {
        self.hashes.get(&(queue, offset)).copied()
    }

    /// Rows of a queue that nobody had yet.
    pub fn passed(&self, queue: u32) -> usize {
        self.passed.get(&queue).copied().unwrap_or_default()
    }

    /// Unfinished messages of a key.
    pub fn count(&self, key: Key) -> usize {
        self.keys.get(&key).map_or(0, |members| members.offsets.len())
    }

    /// The offsets of these, the lowest first.
    pub fn offsets(&self, key: Key) -> impl Iterator<Item = u64> {
        self.keys.get(&key).into_iter().flat_map(|members| members.offsets.iter().copied())
    }

    /// When all of a key's messages are visible, store time in ms; none without any.
    pub fn free_at(&self, key: Key) -> Option<u64> {
        let members = self.keys.get(&key).filter(|members| !members.offsets.is_empty())?;
        let visible = members.times.iter().map(|(at, _)| *at);
        Some(visible.fold(members.served_ms, u64::max))
    }

    /// Follows one row from what it was to what it is; the key's place is to be settled then.
    pub fn change(&mut self, key: Key, offset: u64, old: Option<&Row>, new: Option<&Row>) {
        let members = self.keys.entry(key).or_default();
        if let Some(old) = old.filter(|row| row.hold != Hold::Passed) {
            members.forget_time(old.visible_at_ms);
        }
        if let Some(new) = new.filter(|row| row.hold != Hold::Passed) {
            members.note_time(new.visible_at_ms);
        }
        match (old, new) {
            (None, Some(_)) => {
                members.offsets.insert(offset);
                self.hashes.insert((key.0, offset), key.1);
            }
            (Some(_), None) => {
                members.offsets.remove(&offset);
                self.hashes.remove(&(key.0, offset));
            }
            _ => {}
        }
        let passed = |row: Option<&Row>| usize::from(row.is_some_and(|row| row.hold == Hold::Passed));
        let (less, more) = (passed(old), passed(new));
        if less != more {
            let count = self.passed.entry(key.0).or_default();
            *count = *count + more - less;
            if *count == 0 {
                self.passed.remove(&key.0);
            }
        }
    }

    /// Notes that a key was handed out; its place is to be settled then.
    pub fn serve(&mut self, key: Key, at_ms: u64) {
        if let Some(members) = self.keys.get_mut(&key) {
            members.served_ms = at_ms;
        }
    }

    /// Gives a key its place anew, dead if its first message is; says which place it had and has.
    pub fn settle(&mut self, key: Key, is_dead: bool) -> (Option<Place>, Option<Place>) {
        let after = self.free_at(key).map(|at_ms| (at_ms, is_dead));
        let before = match self.keys.get_mut(&key) {
            Some(members) if members.offsets.is_empty() => self.keys.remove(&key).and_then(|members| members.place),
            Some(members) => mem::replace(&mut members.place, after),
            None => None,
        };
        (before, after)
    }

    /// The hashes of all rows' message groups, by queue and offset.
    pub fn into_hashes(self) -> HashMap<(u32, u64), u64> {
        self.hashes
    }
}

impl Members {
    fn note_time(&mut self, at_ms: u64) {
        match self.times.iter_mut().find(|(at, _)| *at == at_ms) {
            Some((_, count)) => *count += 1,
            None => self.times.push((at_ms, 1)),
        }
    }

    fn forget_time(&mut self, at_ms: u64) {
        let Some(place) = self.times.iter().position(|(at, _)| *at == at_ms) else { return };
        self.times[place].1 -= 1;
        if self.times[place].1 == 0 {
            self.times.swap_remove(place);
        }
    }
}
