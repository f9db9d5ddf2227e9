//! Which clients hold rows that live as long as they do.

use std::collections::{BTreeMap, HashMap};

use super::Reader;

/// How many rows live as long as each client, by subscription.
#[derive(Clone, Debug, Default)]
pub struct Sessions(HashMap<u64, BTreeMap<Reader, u64>>);

impl Sessions {
    /// Clients that hold such rows.
    pub fn all(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// How many of them a client holds.
    pub fn rows(&self, client: u64) -> u64 {
        self.0.get(&client).map_or(0, |held| held.values().sum())
    }

    /// Subscriptions in which a client holds some.
    pub fn readers(&self, client: u64) -> impl Iterator<Item = Reader> {
        self.0.get(&client).into_iter().flat_map(|held| held.keys().copied())
    }

    pub fn add(&mut self, client: u64, reader: Reader) {
        *self.0.entry(client).or_default().entry(reader).or_default() += 1;
    }

    pub fn remove(&mut self, client: u64, reader: Reader) {
        let Some(held) = self.0.get_mut(&client) else { return };
        if let Some(count) = held.get_mut(&reader) {
            *count -= 1;
            if *count == 0 {
                held.remove(&reader);
            }
        }
        if held.is_empty() {
            self.0.remove(&client);
        }
    }
}
