//! What a store ought to do, without files, threads or cleverness. Where the store may choose, the
//! model judges the choice and takes it over.

mod duplicates;
mod judge;
mod letters;
mod lite;
mod offsets;
mod pop;
mod timed;
mod transactions;
mod ttl;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use centaur_apis::{
    log::{Group as GroupSettings, Topic as TopicSettings, TopicType},
    store::{Delivery, NewMessage},
};

pub use letters::{Cause, Dead, Redriven};
pub use lite::{LITE, Listed, Said, Statement};
pub use offsets::{Reset, Target};
pub use pop::{Progress, Worth};
pub use timed::Recalled;
pub use transactions::{Ended, Limits};

use lite::{LiteTopic, Rules};
use pop::Subscription;

/// How often clients are looked through.
const SESSION_CHECK_MS: u64 = 1_000;

/// A group's interest in a topic: group, topic.
pub type Reader = (String, String);

#[derive(Clone)]
pub struct Message {
    pub id: String,
    pub tag: Option<String>,
    pub keys: Vec<String>,
    /// Its message group; empty without.
    pub group: String,
    /// The lite topic it was sent to; empty if to none.
    pub lite_topic: String,
    /// How long it is of use in its queue; 0: as its topic says.
    pub ttl_ms: u64,
    pub head: Bytes,
    pub properties: Bytes,
    pub body: Bytes,
    /// When it came into its queue.
    pub stored_ms: u64,
    /// When it came into the store.
    pub recorded_ms: u64,
    /// Place in the order of all messages.
    pub order: u64,
    /// It came into its queue at once, not in its time or by its transaction.
    pub is_direct: bool,
    /// Of a dead letter: where it was before.
    pub origin: Option<Origin>,
}

/// Where a dead letter was before it died.
#[derive(Clone, Debug)]
pub struct Origin {
    pub topic: String,
    pub queue: u32,
    pub ttl_ms: u64,
}

#[derive(Debug, Default)]
pub struct Queue {
    /// First offset that retention left.
    pub start: u64,
    /// Every message there ever was, by offset.
    pub messages: Vec<Message>,
}

#[derive(Debug)]
pub struct Topic {
    pub id: u32,
    pub dedupe_ms: u64,
    /// How long its messages are of use; 0: for ever.
    pub ttl_ms: u64,
    pub has_priorities: bool,
    /// A lite topic without new messages goes after this; 0: never.
    pub lite_expiry_ms: u64,
    pub lite_topics: BTreeMap<String, LiteTopic>,
    pub queues: Vec<Queue>,
    /// Messages that are in no queue, or not yet: scheduled or half.
    pub apart: Vec<Message>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: u32,
    pub max_attempts: u32,
    pub fifo: bool,
    /// A message without attempts left holds up its message group.
    pub blocks: bool,
    pub shared_percent: u32,
    /// Of one that consumes lite topics.
    pub lite: Option<Rules>,
}

/// What is asked of a store that has to deliver.
#[derive(Clone, Debug)]
pub struct Ask {
    pub reader: Reader,
    pub client: String,
    /// Tags; none: everything.
    pub tags: Option<Vec<String>>,
    pub messages: usize,
    pub bytes: u64,
    pub invisible_ms: u64,
    pub session_bound: bool,
    pub attempt: String,
}

#[derive(Debug, Default)]
pub struct Reference {
    pub now_ms: u64,
    /// How long transactions may be undecided, and are kept after that, ms.
    pub undecided_ms: u64,
    pub discarded_ms: u64,
    pub topics: BTreeMap<String, Topic>,
    pub groups: BTreeMap<String, Group>,
    subscriptions: BTreeMap<Reader, Subscription>,
    /// Messages that died and are not yet seen in the dead-letter topic, by group.
    pub graves: BTreeMap<String, Vec<Dead>>,
    timers: timed::Timers,
    transactions: transactions::Transactions,
    redriven: letters::RedrivenPlaces,
    marked: Vec<duplicates::Marked>,
    lite: lite::Lite,
    /// No lite topic goes before.
    pub lite_expiry_min_ms: u64,
    seen: BTreeMap<String, u64>,
    sessions_ms: u64,
    topic_ids: BTreeSet<u32>,
    messages: u64,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, group, lite_topic, ttl_ms, body, .. } = self;
        write!(f, "{id} {group:?} of {} bytes", body.len())?;
        if !lite_topic.is_empty() {
            write!(f, " to lite topic {lite_topic}")?;
        }
        if *ttl_ms > 0 { write!(f, " for {ttl_ms} ms") } else { Ok(()) }
    }
}

impl Message {
    /// The message as it is sent.
    pub fn to_send(&self) -> NewMessage {
        NewMessage {
            head: self.head.clone(),
            properties: self.properties.clone(),
            body: self.body.clone(),
            ttl_ms: self.ttl_ms,
            lite_topic: self.lite_topic.clone(),
            ..Default::default()
        }
    }
}

impl Queue {
    pub fn end(&self) -> u64 {
        self.messages.len() as u64
    }

    pub fn get(&self, offset: u64) -> &Message {
        &self.messages[usize::try_from(offset).expect("tests are small")]
    }

    /// Messages that are still there, with their offsets.
    pub fn kept(&self) -> impl Iterator<Item = (u64, &Message)> {
        (0..).zip(&self.messages).skip_while(|(offset, _)| *offset < self.start)
    }
}

impl From<&GroupSettings> for Group {
    fn from(group: &GroupSettings) -> Self {
        Self {
            id: group.id,
            max_attempts: group.max_attempts,
            fifo: group.fifo,
            blocks: group.blocks_when_exhausted,
            shared_percent: group.shared_percent,
            lite: group.lite.as_ref().map(Rules::from),
        }
    }
}

impl Group {
    /// Whether it gets the messages of a message group in order.
    pub fn is_ordered(&self) -> bool {
        self.fifo || self.lite.is_some()
    }
}

impl Ask {
    pub fn matches(&self, message: &Message) -> bool {
        self.tags.as_ref().is_none_or(|tags| message.tag.as_ref().is_some_and(|tag| tags.contains(tag)))
    }
}

impl Reference {
    pub fn new(now_ms: u64) -> Self {
        let mut model = Self { now_ms, ..Self::default() };
        model.keep_lite();
        model
    }

    /// A topic was created or changed.
    pub fn put_topic(&mut self, settings: &TopicSettings) {
        if !self.topics.contains_key(&settings.name) {
            assert!(self.topic_ids.insert(settings.id), "the id of topic {} was used before", settings.name);
        }
        let topic = self.topics.entry(settings.name.clone()).or_insert(Topic {
            id: settings.id,
            dedupe_ms: 0,
            ttl_ms: 0,
            has_priorities: settings.r#type() == TopicType::Priority,
            lite_expiry_ms: 0,
            lite_topics: BTreeMap::new(),
            queues: Vec::new(),
            apart: Vec::new(),
        });
        assert_eq!(topic.id, settings.id, "a topic keeps its id");
        topic.dedupe_ms = settings.dedupe_ms;
        topic.ttl_ms = settings.ttl_ms;
        topic.lite_expiry_ms = settings.lite_expiry_ms;
        if settings.r#type() == TopicType::Lite {
            return; // its queues come with its lite topics
        }
        topic.queues.resize_with(settings.queues as usize, Queue::default);
        for ((_, name), subscription) in &mut self.subscriptions {
            if *name == settings.name {
                for queue in 0..settings.queues {
                    subscription.cursors.entry(queue).or_default();
                }
            }
        }
    }

    pub fn delete_topic(&mut self, name: &str) {
        self.topics.remove(name);
        self.subscriptions.retain(|(_, topic), _| topic != name);
        self.timers.forget_topic(name);
        self.transactions.forget_topic(name);
        self.redriven.forget_topic(name);
        self.lite.forget_topic(name);
        self.marked.retain(|marked| marked.topic != name);
    }

    /// Whether a group may begin or end to consume in order: nothing of it is in hand.
    pub fn may_change_order(&self, name: &str) -> bool {
        let its_own = self.subscriptions.iter().filter(|((group, _), _)| group == name);
        its_own.flat_map(|(_, subscription)| subscription.cursors.values()).all(|cursor| cursor.rows.is_empty())
    }

    /// A group was created or changed.
    pub fn put_group(&mut self, name: &str, group: Group) {
        let before = self.groups.insert(name.to_owned(), group);
        assert!(before.is_none_or(|before| before.id == group.id), "a group keeps its id");
        self.bury_due();
    }

    pub fn delete_group(&mut self, name: &str) {
        self.groups.remove(name);
        self.subscriptions.retain(|(group, _), _| group != name);
        self.lite.forget_group(name);
    }

    /// Stores messages in one queue; gives the first offset.
    pub fn append(&mut self, topic: &str, queue: u32, messages: Vec<Message>) -> u64 {
        let first = self.topics[topic].queues[queue as usize].end();
        for message in messages {
            let message = self.record(message);
            self.enqueue(topic, queue, Message { is_direct: true, ..message });
        }
        first
    }

    /// A message comes into the store now.
    fn record(&mut self, message: Message) -> Message {
        self.messages += 1;
        Message { recorded_ms: self.now_ms, order: self.messages, ..message }
    }

    /// A message that the store has comes into its queue now; gives its offset.
    fn enqueue(&mut self, topic: &str, queue: u32, message: Message) -> u64 {
        let now_ms = self.now_ms;
        let queue = &mut self.topics.get_mut(topic).expect("a topic").queues[queue as usize];
        queue.messages.push(Message { stored_ms: now_ms, ..message });
        queue.end() - 1
    }

    /// A message that was apart comes into its queue now.
    fn release(&mut self, topic: &str, queue: u32, order: u64) -> u64 {
        let apart = &mut self.topics.get_mut(topic).expect("a topic").apart;
        let at = apart.iter().position(|message| message.order == order).expect("it is apart");
        let message = apart.remove(at);
        self.enqueue(topic, queue, message)
    }

    /// Whether a message that is in no queue may still come into one.
    pub fn waits(&self, topic: &str, message: &Message) -> bool {
        let is_scheduled = self.scheduled(Some(topic)).iter().any(|(_, waiting)| waiting.order == message.order);
        is_scheduled || self.undecided(Some(topic), false).iter().any(|half| half.message.order == message.order)
    }

    /// The time is `now_ms`: what was due happened. What that made due in its turn waits for
    /// [`Self::bury_due`]: retention comes in between.
    pub fn pass(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.fire_due();
        self.discard_aged();
        self.bury_due();
        if now_ms >= self.sessions_ms {
            self.sessions_ms = now_ms + SESSION_CHECK_MS;
            self.end_missed_sessions();
        }
        self.keep_lite();
        self.drop_discarded();
    }

    /// The store started again: it has heard from nobody yet, and its turns begin anew.
    pub fn restart(&mut self, now_ms: u64) {
        self.seen.clear();
        self.sessions_ms = 0;
        self.lite.restart(now_ms);
        for subscription in self.subscriptions.values_mut() {
            subscription.owed = 0;
            subscription.passed.clear();
        }
        self.pass(now_ms);
    }

    /// Retention moved the start of a queue. What is in a group's hands stays there.
    pub fn retire(&mut self, topic: &str, queue: u32, start: u64) {
        let kept = &mut self.topics.get_mut(topic).expect("a topic").queues[queue as usize];
        assert!((kept.start..=kept.end()).contains(&start), "{topic}/{queue} starts at {start} of {}", kept.end());
        kept.start = start;
        for ((_, name), subscription) in &mut self.subscriptions {
            if let Some(cursor) = subscription.cursors.get_mut(&queue).filter(|_| name == topic) {
                cursor.fetch = cursor.fetch.max(start);
            }
        }
    }
}

/// Asserts that a delivery is what was sent.
pub fn check_same(sent: &Message, delivery: &Delivery) {
    assert_eq!(delivery.properties, sent.properties, "properties of {}", sent.id);
    assert_eq!(delivery.head, sent.head, "head of {}", sent.id);
    assert_eq!(delivery.body, sent.body, "body of {}", sent.id);
}
