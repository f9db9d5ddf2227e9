//! Lite topics: the named queues of a LITE topic, and which client consumes which of them.

mod clients;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use centaur_apis::log::{LiteClientState, LiteSubscribed, LiteTopicDeleted, LiteTopicSet, LiteTopicState, Position};

use super::{
    State,
    pop::Reader,
    topics::{Queue, Topic},
};

pub use clients::{Client, Clients};
pub use names::{LiteTopic, Names};

/// Every lite topic and every lite subscription: about 130 bytes for each lite topic, 50 for each
/// lite topic that a client is subscribed to.
#[derive(Clone, Debug, Default)]
pub struct Lite {
    /// By LITE topic.
    topics: BTreeMap<u32, Names>,
    /// By lite group.
    groups: BTreeMap<u32, Clients>,
}

impl Lite {
    /// The lite topics of a LITE topic; none when it has none.
    pub fn names(&self, topic: u32) -> Option<&Names> {
        self.topics.get(&topic)
    }

    /// The clients of a lite group; none when nobody is subscribed.
    pub fn clients(&self, group: u32) -> Option<&Clients> {
        self.groups.get(&group)
    }

    /// Every client of every lite group, by the hash of its id.
    pub fn all_clients(&self) -> impl Iterator<Item = (u32, u64, &Client)> {
        self.groups.iter().flat_map(|(group, clients)| clients.iter().map(|(hash, client)| (*group, hash, client)))
    }

    /// Lite groups that a client is one of.
    pub fn groups_of(&self, client: u64) -> impl Iterator<Item = u32> {
        self.groups.iter().filter(move |(_, clients)| clients.get(client).is_some()).map(|(group, _)| *group)
    }

    /// Lite topics of all LITE topics.
    pub fn len(&self) -> usize {
        self.topics.values().map(Names::len).sum()
    }

    /// Lite topics that clients are subscribed to, each client's counted.
    pub fn subscriptions(&self) -> usize {
        self.groups.values().map(Clients::subscriptions).sum()
    }

    /// LITE topics that have lite topics.
    pub fn topics(&self) -> impl Iterator<Item = (u32, &Names)> {
        self.topics.iter().map(|(topic, names)| (*topic, names))
    }

    pub fn subscribe(&mut self, event: &LiteSubscribed) {
        let clients = self.groups.entry(event.group).or_default();
        clients.change(event);
        if clients.is_empty() {
            self.groups.remove(&event.group);
        }
    }

    /// Forgets the clients of a group.
    pub fn delete_group(&mut self, group: u32) {
        self.groups.remove(&group);
    }

    pub fn topics_to_snapshot(&self) -> Vec<LiteTopicState> {
        let state = |topic: u32, queue: u32, lite: &LiteTopic| LiteTopicState {
            topic,
            queue,
            name: lite.name.as_ref().to_owned(),
            created_ms: lite.created_ms,
            base: lite.base,
        };
        self.topics()
            .flat_map(|(topic, names)| names.iter().map(move |(queue, lite)| state(topic, queue, lite)))
            .collect()
    }

    pub fn clients_to_snapshot(&self) -> Vec<LiteClientState> {
        let state = |(group, _, client): (u32, u64, &Client)| LiteClientState {
            group,
            client: client.name.to_string(),
            queues: client.queues.iter().copied().collect(),
            barred: client.barred.iter().copied().collect(),
        };
        self.all_clients().map(state).collect()
    }

    pub fn from_snapshot(topics: Vec<LiteTopicState>, clients: Vec<LiteClientState>) -> Self {
        let mut lite = Self::default();
        for saved in topics {
            let LiteTopicState { topic, queue, name, created_ms, base } = saved;
            lite.topics.entry(topic).or_default().set(queue, &name, created_ms, base);
        }
        for saved in clients {
            let LiteClientState { group, client, queues, barred } = saved;
            lite.subscribe(&LiteSubscribed { group, client, added: queues, barred, ..Default::default() });
        }
        lite
    }
}

impl State {
    /// A lite topic comes into being, behind whatever its queue held before. Groups that read all
    /// lite topics of its topic begin at its first message.
    pub(super) fn set_lite_topic(&mut self, event: &LiteTopicSet) {
        let Some(topic) = self.topics.get_mut(event.topic).filter(|topic| topic.is_lite()) else { return };
        let queue = event.queue as usize;
        // Queues are made one after the other; another number was not written by us.
        if queue > topic.queues.len() {
            return;
        }
        if queue == topic.queues.len() {
            topic.queues.push(Queue::default());
        }
        let base = topic.queues[queue].end;
        self.lite.topics.entry(event.topic).or_default().set(event.queue, &event.name, event.at_ms, base);
        for &group in &topic.readers {
            let reads_all =
                self.groups.get(group).and_then(|group| group.lite.as_ref()).is_some_and(|lite| lite.wildcard);
            if reads_all {
                let position = Position { queue: event.queue, offset: base };
                self.pop.put_cursor(Reader { group, topic: event.topic }, position);
            }
        }
    }

    /// A lite topic goes with its messages, every group's place in it and every subscription to it.
    pub(super) fn delete_lite_topic(&mut self, event: &LiteTopicDeleted) {
        let Some(topic) = self.topics.get_mut(event.topic) else { return };
        let name = topic.settings.name.clone();
        let Some(queue) = topic.queues.get_mut(event.queue as usize) else { return };
        queue.start = queue.end;
        queue.last_stored_ms = 0;
        for &group in &topic.readers {
            self.pop.remove_cursor(Reader { group, topic: event.topic }, event.queue);
        }
        if let Some(names) = self.lite.topics.get_mut(&event.topic) {
            names.delete(event.queue);
        }
        for group in self.groups_bound_to(&name) {
            if let Some(clients) = self.lite.groups.get_mut(&group) {
                clients.forget_queue(event.queue);
                if clients.is_empty() {
                    self.lite.groups.remove(&group);
                }
            }
        }
    }

    /// Forgets the lite topics of a LITE topic that is gone, and who was subscribed to them.
    pub(super) fn forget_lite_topics(&mut self, topic: &Topic) {
        self.lite.topics.remove(&topic.settings.id);
        for group in self.groups_bound_to(&topic.settings.name) {
            self.lite.groups.remove(&group);
        }
    }

    /// Lite groups with clients that consume the lite topics of a LITE topic.
    fn groups_bound_to(&self, topic: &str) -> Vec<u32> {
        let lite = |group: u32| self.groups.get(group).and_then(|group| group.lite.as_ref());
        let is_bound = |group: &u32| lite(*group).is_some_and(|lite| lite.topic == topic);
        self.lite.groups.keys().copied().filter(is_bound).collect()
    }
}
