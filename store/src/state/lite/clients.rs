//! The clients of one lite group, and the lite topics each of them consumes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use centaur_apis::{hash64, log::LiteSubscribed};

/// One client of a lite group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its id.
    pub name: Arc<str>,
    /// Queues of the lite topics it consumes.
    pub queues: BTreeSet<u32>,
    /// Queues that another client took from it: it gets them back when it asks for them by name.
    pub barred: BTreeSet<u32>,
}

/// The clients of one lite group, by the hash of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    clients: BTreeMap<u64, Client>,
    /// Queue and subscriber.
    subscribers: BTreeSet<(u32, u64)>,
}

impl Clients {
    pub fn get(&self, client: u64) -> Option<&Client> {
        self.clients.get(&client)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Client)> {
        self.clients.iter().map(|(hash, client)| (*hash, client))
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Lite topics that clients are subscribed to, each client's counted.
    pub fn subscriptions(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether a client consumes a queue.
    pub fn is_subscribed(&self, client: u64, queue: u32) -> bool {
        self.subscribers.contains(&(queue, client))
    }

    /// Who consumes a queue: each once, those whose hash is `first` or more before the others.
    pub fn subscribers(&self, queue: u32, first: u64) -> impl Iterator<Item = u64> {
        let later = self.subscribers.range((queue, first)..=(queue, u64::MAX));
        let earlier = self.subscribers.range((queue, 0)..(queue, first));
        later.chain(earlier).map(|(_, client)| *client)
    }

    pub fn change(&mut self, event: &LiteSubscribed) {
        let hash = hash64(event.client.as_bytes());
        let new = || Client { name: event.client.as_str().into(), queues: BTreeSet::new(), barred: BTreeSet::new() };
        let client = self.clients.entry(hash).or_insert_with(new);
        for queue in &event.removed {
            client.queues.remove(queue);
            self.subscribers.remove(&(*queue, hash));
        }
        for &queue in &event.added {
            client.queues.insert(queue);
            self.subscribers.insert((queue, hash));
        }
        client.barred.extend(&event.barred);
        for queue in &event.unbarred {
            client.barred.remove(queue);
        }
        self.forget_if_idle(hash);
    }

    /// The queue is nobody's any more: its lite topic is gone.
    pub fn forget_queue(&mut self, queue: u32) {
        let subscribers: Vec<u64> = self.subscribers(queue, 0).collect();
        let barred = self.clients.iter().filter(|(_, client)| client.barred.contains(&queue)).map(|(hash, _)| *hash);
        let known: Vec<u64> = barred.chain(subscribers).collect();
        for hash in known {
            self.subscribers.remove(&(queue, hash));
            if let Some(client) = self.clients.get_mut(&hash) {
                client.queues.remove(&queue);
                client.barred.remove(&queue);
            }
            self.forget_if_idle(hash);
        }
    }

    fn forget_if_idle(&mut self, hash: u64) {
        if self.clients.get(&hash).is_some_and(|client| client.queues.is_empty() && client.barred.is_empty()) {
            self.clients.remove(&hash);
        }
    }
}
