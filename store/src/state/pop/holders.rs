//! Which rows each client holds that it does not keep when it goes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Reader;

/// Offsets by client, subscription and queue: about 20 bytes for each.
#[derive(Clone, Debug, Default)]
pub struct Holders(HashMap<u64, BTreeMap<(Reader, u32), BTreeSet<u64>>>);

impl Holders {
    /// Clients that hold some.
    pub fn all(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// How many a client holds.
    pub fn count(&self, client: u64) -> u64 {
        self.0.get(&client).map_or(0, |held| held.values().map(|offsets| offsets.len() as u64).sum())
    }

    /// What a client holds, with the queue and the offset.
    pub fn of(&self, client: u64) -> impl Iterator<Item = (Reader, u32, u64)> {
        let held = self.0.get(&client).into_iter().flatten();
        held.flat_map(|((reader, queue), offsets)| offsets.iter().map(move |offset| (*reader, *queue, *offset)))
    }

    /// The same in one subscription.
    pub fn of_in(&self, client: u64, reader: Reader) -> impl Iterator<Item = (u32, u64)> {
        let queues = self.0.get(&client).map(|held| held.range((reader, 0)..=(reader, u32::MAX)));
        let queues = queues.into_iter().flatten();
        queues.flat_map(|((_, queue), offsets)| offsets.iter().map(move |offset| (*queue, *offset)))
    }

    pub fn add(&mut self, client: u64, reader: Reader, queue: u32, offset: u64) {
        self.0.entry(client).or_default().entry((reader, queue)).or_default().insert(offset);
    }

    pub fn remove(&mut self, client: u64, reader: Reader, queue: u32, offset: u64) {
        let Some(held) = self.0.get_mut(&client) else { return };
        if let Some(offsets) = held.get_mut(&(reader, queue)) {
            offsets.remove(&offset);
            if offsets.is_empty() {
                held.remove(&(reader, queue));
            }
        }
        if held.is_empty() {
            self.0.remove(&client);
        }
    }
}
