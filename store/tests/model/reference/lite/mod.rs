//! Lite topics: queues with names that come and go, and who of a group consumes which of them.

mod clients;
mod deliver;

use std::collections::{BTreeMap, BTreeSet};

use centaur_apis::{log, store::Notice};

use super::{Message, Queue, Reader, Reference, pop::Cursor};

pub use clients::{Said, Statement};

/// The one topic that lite topics belong to.
pub const LITE: &str = "chats";
/// How often clients are looked through, and lite topics.
const CLIENTS_CHECK_MS: u64 = 10_000;
const SWEEP_MS: u64 = 120_000;

/// Queues of lite topics by name, as the store shows them.
pub type Listed = BTreeMap<String, u32>;

/// A queue that has a name.
#[derive(Clone, Copy, Debug)]
pub struct LiteTopic {
    pub queue: u32,
    created_ms: u64,
    /// First offset of its own: what was before belonged to another one.
    base: u64,
}

/// How a group consumes lite topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub exclusive: bool,
    pub wildcard: bool,
    pub client_quota: u32,
    pub reset_when_moved: bool,
    pub reset_when_left: bool,
}

/// Group and client.
type Who = (String, String);

#[derive(Debug, Default)]
pub(super) struct Lite {
    clients: BTreeMap<Who, clients::Client>,
    heard: BTreeMap<Who, clients::Heard>,
    /// With the time they came at.
    notices: Vec<(u64, Notice)>,
    started_ms: u64,
    clients_ms: u64,
    sweep_ms: u64,
}

impl From<&log::Lite> for Rules {
    fn from(lite: &log::Lite) -> Self {
        let log::Lite { exclusive, wildcard, client_quota, reset_when_moved, reset_when_left, .. } = *lite;
        Self { exclusive, wildcard, client_quota, reset_when_moved, reset_when_left }
    }
}

impl Lite {
    /// Forgets what is only in memory.
    pub fn restart(&mut self, now_ms: u64) {
        let clients = std::mem::take(&mut self.clients);
        *self = Self { clients, started_ms: now_ms, ..Self::default() };
    }

    pub fn forget_topic(&mut self, topic: &str) {
        if topic == LITE {
            self.clients.clear();
        }
    }

    pub fn forget_group(&mut self, group: &str) {
        self.clients.retain(|(of_group, _), _| of_group != group);
        self.heard.retain(|(of_group, _), _| of_group != group);
    }
}

impl Reference {
    /// The queue of a lite topic, which comes into being if it is not there: `listed` tells the
    /// store's choice.
    pub fn lite_queue(&mut self, name: &str, listed: &Listed) -> u32 {
        let topic = self.topics.get_mut(LITE).expect("the topic");
        if let Some(known) = topic.lite_topics.get(name) {
            return known.queue;
        }
        let queue = *listed.get(name).unwrap_or_else(|| panic!("lite topic {name} came into being"));
        let is_taken = topic.lite_topics.values().any(|lite| lite.queue == queue);
        assert!(!is_taken && queue as usize <= topic.queues.len(), "{name} has queue {queue}");
        topic.queues.resize_with(topic.queues.len().max(queue as usize + 1), Queue::default);
        let base = topic.queues[queue as usize].end();
        topic.lite_topics.insert(name.to_owned(), LiteTopic { queue, created_ms: self.now_ms, base });
        // Whoever consumes all of them consumes this one from its first message on.
        let reads_all: BTreeSet<&String> =
            self.groups.iter().filter(|(_, g)| g.reads_all()).map(|(name, _)| name).collect();
        for ((group, _), subscription) in self.subscriptions.iter_mut().filter(|((_, topic), _)| topic == LITE) {
            if reads_all.contains(group) {
                subscription.cursors.entry(queue).or_default().fetch = base;
            }
        }
        queue
    }

    /// Where a group begins in a lite topic that it has no place in.
    fn first_place(&self, name: &str) -> u64 {
        let lite = self.topics[LITE].lite_topics[name];
        let queue = &self.topics[LITE].queues[lite.queue as usize];
        if queue.start == lite.base { lite.base } else { queue.end().saturating_sub(1).max(queue.start) }
    }

    /// Puts a group at an offset of one lite topic; what it had in hand is void.
    fn put_at(&mut self, reader: &Reader, queue: u32, offset: u64) {
        let subscription = self.subscriptions.entry(reader.clone()).or_default();
        let cursor = subscription.cursors.entry(queue).or_default();
        *cursor = Cursor { epoch: cursor.epoch + 1, fetch: offset, ..Cursor::default() };
        subscription.answers.values_mut().for_each(|leases| leases.retain(|(of, ..)| *of != queue));
    }

    /// Stores messages in lite topics; gives their offsets.
    pub fn append_lite(&mut self, messages: Vec<Message>, listed: &Listed) -> Vec<u64> {
        let append = |message: Message| {
            let queue = self.lite_queue(&message.lite_topic.clone(), listed);
            self.append(LITE, queue, vec![message])
        };
        messages.into_iter().map(append).collect()
    }

    /// Name, queue, first and next offset, time of the last message and subscribers of each lite
    /// topic.
    pub fn lite_topics(&self) -> Vec<(String, u32, u64, u64, u64, u32)> {
        let Some(topic) = self.topics.get(LITE) else { return Vec::new() };
        let shown = |(name, lite): (&String, &LiteTopic)| {
            let queue = &topic.queues[lite.queue as usize];
            let subscribers = self.lite.clients.values().filter(|client| client.names.contains(name)).count();
            let last_ms = written_ms(queue, lite);
            (name.clone(), lite.queue, queue.start, queue.end(), last_ms, u32::try_from(subscribers).expect("few"))
        };
        topic.lite_topics.iter().map(shown).collect()
    }

    /// What time brings: clients that said nothing for long are dropped, and lite topics that nobody
    /// wrote to for long go.
    pub(super) fn keep_lite(&mut self) {
        if self.now_ms >= self.lite.clients_ms {
            self.lite.clients_ms = self.now_ms + CLIENTS_CHECK_MS;
            self.drop_silent_clients();
            self.forget_old_notices();
        }
        if self.now_ms >= self.lite.sweep_ms {
            self.lite.sweep_ms = self.now_ms + SWEEP_MS;
            // What died goes to the dead-letter topic before its lite topic goes.
            self.bury_due_of(|(_, topic)| topic == LITE);
            self.sweep_lite_topics();
        }
    }

    fn sweep_lite_topics(&mut self) {
        let now_ms = self.now_ms;
        let Some(topic) = self.topics.get(LITE).filter(|topic| topic.lite_expiry_ms > 0) else { return };
        let expiry_ms = topic.lite_expiry_ms.max(self.lite_expiry_min_ms);
        let is_old = |lite: &LiteTopic| {
            written_ms(&topic.queues[lite.queue as usize], lite).max(lite.created_ms) + expiry_ms < now_ms
        };
        let old: Vec<String> =
            topic.lite_topics.iter().filter(|(_, lite)| is_old(lite)).map(|(name, _)| name.clone()).collect();
        old.iter().for_each(|name| self.delete_lite_topic(name));
    }

    /// A lite topic goes with its messages, every place in it and every subscription to it.
    fn delete_lite_topic(&mut self, name: &str) {
        let topic = self.topics.get_mut(LITE).expect("the topic");
        let lite = topic.lite_topics.remove(name).expect("it is there");
        let queue = &mut topic.queues[lite.queue as usize];
        queue.start = queue.end();
        for ((_, topic), subscription) in &mut self.subscriptions {
            if topic == LITE {
                subscription.cursors.remove(&lite.queue);
            }
        }
        self.lose_lite_topic(name);
    }
}

/// When a lite topic got its last message; 0 without one.
fn written_ms(queue: &Queue, lite: &LiteTopic) -> u64 {
    queue.messages.last().filter(|_| queue.end() > lite.base).map_or(0, |message| message.stored_ms)
}
