//! What a store ought to do, without files, threads or cleverness. Where the store may choose, the
//! model judges the choice and takes it over.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use centaur_apis::{
    log::Topic as TopicSettings,
    receipt_handle::ReceiptHandle,
    store::{Delivery, NewMessage},
};

/// A client not heard from for longer is gone.
const SESSION_MS: u64 = 60_000;
/// How often clients are looked through.
const SESSION_CHECK_MS: u64 = 1_000;
/// A lease bound to its client ends after this in any case.
const SESSION_LEASE_MS: u64 = 3 * 3_600_000;
/// Longest invisible time.
const INVISIBLE_MS_MAX: u64 = 24 * 3_600_000;

/// A group's interest in a topic: group, topic.
pub type Reader = (String, String);

#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    pub tag: Option<String>,
    pub keys: Vec<String>,
    pub head: Bytes,
    pub properties: Bytes,
    pub body: Bytes,
    pub stored_ms: u64,
    /// Place in the order of all messages.
    pub order: u64,
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
    pub queues: Vec<Queue>,
}

#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub id: u32,
    pub max_attempts: u32,
}

#[derive(Clone, Debug)]
struct Row {
    visible_at_ms: u64,
    client: String,
    generation: u32,
    deliveries: u32,
    backing_off: bool,
    session_bound: bool,
}

#[derive(Clone, Debug, Default)]
struct Cursor {
    epoch: u32,
    fetch: u64,
    rows: BTreeMap<u64, Row>,
}

/// Queue, offset, generation.
type Lease = (u32, u64, u32);

#[derive(Debug, Default)]
struct Subscription {
    cursors: Vec<Cursor>,
    /// The last answer to each client and attempt.
    answers: BTreeMap<(String, String), Vec<Lease>>,
    /// Messages delivered beyond four for each redelivery, while redeliveries waited.
    owed: usize,
    /// Queues that were served since a queue with something fresh was.
    passed: BTreeMap<u32, BTreeSet<u32>>,
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

/// What a handle is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    Held,
    /// Settled already.
    Finished,
    Invalid,
}

/// Progress of one queue, as a group's description shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub end: u64,
    pub committed: u64,
    pub fetch: u64,
    pub ready: u64,
    pub in_flight: u64,
    pub waiting: u64,
    pub oldest_ms: u64,
}

#[derive(Debug, Default)]
pub struct Reference {
    pub now_ms: u64,
    pub topics: BTreeMap<String, Topic>,
    pub groups: BTreeMap<String, Group>,
    subscriptions: BTreeMap<Reader, Subscription>,
    /// Messages that died and are not yet seen in the dead-letter topic, by group.
    pub graves: BTreeMap<String, Vec<Message>>,
    seen: BTreeMap<String, u64>,
    sessions_ms: u64,
    topic_ids: BTreeSet<u32>,
    messages: u64,
}

impl Message {
    /// The message as it is sent.
    pub fn to_send(&self) -> NewMessage {
        NewMessage {
            head: self.head.clone(),
            properties: self.properties.clone(),
            body: self.body.clone(),
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

impl Ask {
    fn matches(&self, message: &Message) -> bool {
        self.tags.as_ref().is_none_or(|tags| message.tag.as_ref().is_some_and(|tag| tags.contains(tag)))
    }
}

impl Reference {
    pub fn new(now_ms: u64) -> Self {
        Self { now_ms, ..Self::default() }
    }

    /// A topic was created or changed.
    pub fn put_topic(&mut self, settings: &TopicSettings) {
        if !self.topics.contains_key(&settings.name) {
            assert!(self.topic_ids.insert(settings.id), "the id of topic {} was used before", settings.name);
        }
        let topic = self.topics.entry(settings.name.clone()).or_insert(Topic { id: settings.id, queues: Vec::new() });
        assert_eq!(topic.id, settings.id, "a topic keeps its id");
        topic.queues.resize_with(settings.queues as usize, Queue::default);
        for ((_, name), subscription) in &mut self.subscriptions {
            if *name == settings.name {
                subscription.cursors.resize_with(settings.queues as usize, Cursor::default);
            }
        }
    }

    pub fn delete_topic(&mut self, name: &str) {
        self.topics.remove(name);
        self.subscriptions.retain(|(_, topic), _| topic != name);
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
    }

    /// Stores a batch; gives the first offset.
    pub fn append(&mut self, topic: &str, queue: u32, messages: Vec<Message>) -> u64 {
        let (now_ms, order) = (self.now_ms, self.messages);
        self.messages += messages.len() as u64;
        let queue = &mut self.topics.get_mut(topic).expect("a topic").queues[queue as usize];
        let first = queue.end();
        let stored = (order..).zip(messages).map(|(order, message)| Message { stored_ms: now_ms, order, ..message });
        queue.messages.extend(stored);
        first
    }

    /// What settling with this handle would meet.
    pub fn worth(&self, group: &str, topic: &str, handle: &str) -> Worth {
        let Some(handle) = ReceiptHandle::peek(handle) else { return Worth::Invalid };
        let same = self.topics.get(topic).is_some_and(|t| t.id == handle.topic)
            && self.groups.get(group).is_some_and(|g| g.id == handle.group);
        let subscription = self.subscriptions.get(&(group.to_owned(), topic.to_owned())).filter(|_| same);
        let cursor = subscription.and_then(|s| s.cursors.get(handle.queue as usize));
        let Some(cursor) = cursor.filter(|cursor| cursor.epoch == handle.epoch) else { return Worth::Invalid };
        match cursor.rows.get(&handle.offset) {
            None if handle.offset < cursor.fetch => Worth::Finished,
            Some(row) if row.generation == handle.generation && row.visible_at_ms > self.now_ms => Worth::Held,
            _ => Worth::Invalid,
        }
    }

    /// Finishes a message that is held.
    pub fn settle(&mut self, reader: &Reader, handle: &str) {
        let handle = ReceiptHandle::peek(handle).expect("a handle that is held");
        self.cursor(reader, handle.queue).rows.remove(&handle.offset);
    }

    /// Gives a held message another end; gives its next generation.
    pub fn change(&mut self, reader: &Reader, handle: &str, invisible_ms: u64, uncounted: bool) -> ReceiptHandle {
        let old = ReceiptHandle::peek(handle).expect("a handle that is held");
        let now_ms = self.now_ms;
        let row = self.cursor(reader, old.queue).rows.get_mut(&old.offset).expect("held");
        row.visible_at_ms = now_ms + invisible_ms.min(INVISIBLE_MS_MAX);
        row.generation += 1;
        row.backing_off = true;
        row.session_bound = false;
        row.deliveries -= u32::from(uncounted && row.deliveries > 0);
        let generation = row.generation;
        self.bury_due();
        ReceiptHandle { generation, ..old }
    }

    /// Moves a message to the dead-letter topic.
    pub fn bury(&mut self, reader: &Reader, queue: u32, offset: u64) {
        self.cursor(reader, queue).rows.remove(&offset).expect("a row");
        let dead = self.topics[&reader.1].queues[queue as usize].get(offset).clone();
        self.graves.entry(reader.0.clone()).or_default().push(dead);
    }

    /// The newest message with an id that a client holds; one that died twice is there twice.
    pub fn held_by(&self, reader: &Reader, client: &str, id: &str) -> Option<(u32, u64)> {
        let subscription = self.subscriptions.get(reader)?;
        let queues = (0..).zip(&self.topics[&reader.1].queues).zip(&subscription.cursors);
        let rows = queues.flat_map(|((number, queue), cursor)| {
            cursor.rows.iter().map(move |(offset, row)| (queue.get(*offset), row, (number, *offset)))
        });
        let held = rows
            .filter(|(message, row, _)| message.id == id && row.client == client && row.visible_at_ms > self.now_ms);
        held.max_by_key(|(message, _, _)| message.order).map(|(_, _, place)| place)
    }

    /// Ends a client in one group or, without one, in all. Says how many messages it let go.
    pub fn end_session(&mut self, client: &str, only: Option<&str>) -> u64 {
        let released = self.release(client, only);
        self.bury_due();
        released
    }

    fn release(&mut self, client: &str, only: Option<&str>) -> u64 {
        let now_ms = self.now_ms;
        let mut released = 0;
        for ((group, _), subscription) in &mut self.subscriptions {
            let rows = subscription.cursors.iter_mut().flat_map(|cursor| cursor.rows.values_mut());
            let its_own = rows.filter(|row| row.session_bound && row.client == client);
            for row in its_own.filter(|_| only.is_none_or(|only| only == group)) {
                row.visible_at_ms = now_ms;
                row.session_bound = false;
                released += 1;
            }
        }
        released
    }

    /// A client was heard from.
    pub fn touch(&mut self, client: &str) {
        if self.sessions().contains(client) {
            self.seen.insert(client.to_owned(), self.now_ms);
        }
    }

    /// The time is `now_ms`: what was due happened. What that made due in its turn waits for
    /// [`Self::bury_due`]: retention comes in between.
    pub fn pass(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.bury_due();
        if now_ms < self.sessions_ms {
            return;
        }
        self.sessions_ms = now_ms + SESSION_CHECK_MS;
        for client in self.sessions() {
            if now_ms - *self.seen.entry(client.clone()).or_insert(now_ms) > SESSION_MS {
                self.release(&client, None);
            }
        }
        let held = self.sessions();
        self.seen.retain(|client, _| held.contains(client));
    }

    /// The store started again: it has heard from nobody yet, and its turns begin anew.
    pub fn restart(&mut self, now_ms: u64) {
        self.seen.clear();
        self.sessions_ms = 0;
        for subscription in self.subscriptions.values_mut() {
            subscription.owed = 0;
            subscription.passed.clear();
        }
        self.pass(now_ms);
    }

    /// Retention moved the start of a queue.
    pub fn retire(&mut self, topic: &str, queue: u32, start: u64) {
        let kept = &mut self.topics.get_mut(topic).expect("a topic").queues[queue as usize];
        assert!((kept.start..=kept.end()).contains(&start), "{topic}/{queue} starts at {start} of {}", kept.end());
        kept.start = start;
        for ((_, name), subscription) in &mut self.subscriptions {
            if name == topic {
                let cursor = &mut subscription.cursors[queue as usize];
                cursor.fetch = cursor.fetch.max(start);
                cursor.rows.retain(|offset, _| *offset >= start);
            }
        }
    }

    /// What the description of a group has to show, by topic.
    pub fn progress(&self, group: &str) -> BTreeMap<String, Vec<Progress>> {
        let its_own = self.subscriptions.iter().filter(|((name, _), _)| name == group);
        let show = |((_, topic), subscription): (&Reader, &Subscription)| {
            let queues = self.topics[topic].queues.iter().zip(&subscription.cursors);
            (topic.clone(), queues.map(|(queue, cursor)| self.queue_progress(queue, cursor)).collect())
        };
        its_own.map(show).collect()
    }

    /// How many messages an answer could have at most.
    pub fn available(&self, ask: &Ask) -> usize {
        let Some(subscription) = self.subscriptions.get(&ask.reader) else {
            return self.topics[&ask.reader.1].queues.iter().map(|queue| fresh(queue, queue.start, ask).len()).sum();
        };
        let queues = self.topics[&ask.reader.1].queues.iter().zip(&subscription.cursors);
        let fresh: usize = queues.map(|(queue, cursor)| fresh(queue, cursor.fetch, ask).len()).sum();
        fresh + self.due(&ask.reader).len()
    }

    /// Judges an answer and takes it over. `fetches` is how far the group was seen to be afterwards.
    pub fn deliver(&mut self, ask: &Ask, answer: &[Delivery], fetches: &[u64]) {
        self.start_reading(&ask.reader);
        for delivery in answer {
            self.check_content(&ask.reader, delivery);
        }
        let running = self.running(ask);
        if !running.is_empty() {
            let again: BTreeSet<_> = answer.iter().map(lease).collect();
            assert_eq!(again, running.into_iter().collect(), "the same attempt gets the same messages");
            assert_eq!(again.len(), answer.len(), "no message comes twice");
            return;
        }
        let due = self.due(&ask.reader);
        let subscription = &self.subscriptions[&ask.reader];
        let has_row = |d: &&Delivery| subscription.cursors[d.queue as usize].rows.contains_key(&d.offset);
        let (again, first): (Vec<&Delivery>, Vec<&Delivery>) = answer.iter().partition(has_row);
        let mut expected: Vec<_> = due.iter().take(again.len()).copied().collect();
        expected.sort_unstable();
        let given: Vec<_> = again.iter().map(|d| (d.queue, d.offset)).collect();
        assert_eq!(given, expected, "redeliveries are those due longest, in queue order");

        let available = self.available(ask);
        let is_unlimited = ask.bytes == u64::MAX;
        assert!(answer.len() <= ask.messages, "{} messages for {}", answer.len(), ask.messages);
        if is_unlimited {
            assert_eq!(answer.len(), available.min(ask.messages), "all that is visible is given");
        } else {
            let bytes: u64 = answer.iter().map(|d| d.body.len() as u64).sum();
            assert!(answer.len() <= 1 || bytes <= ask.bytes, "{bytes} bytes of {}", ask.bytes);
            assert_eq!(answer.is_empty(), available == 0, "at least one message is given");
        }
        self.check_turns(ask, &due, &again, &first);
        self.take_fresh(ask, &first, fetches);
        self.take_leases(ask, answer);
    }

    /// The first contact of a group puts it at the beginning of each queue that lost nothing yet,
    /// and at the last message of the others.
    fn start_reading(&mut self, reader: &Reader) {
        let topic = &self.topics[&reader.1];
        let position =
            |queue: &Queue| if queue.start == 0 { 0 } else { queue.end().saturating_sub(1).max(queue.start) };
        let cursor = |queue: &Queue| Cursor { epoch: 1, fetch: position(queue), ..Cursor::default() };
        self.subscriptions.entry(reader.clone()).or_insert_with(|| Subscription {
            cursors: topic.queues.iter().map(cursor).collect(),
            ..Subscription::default()
        });
    }

    fn check_content(&self, reader: &Reader, delivery: &Delivery) {
        let (topic, group) = (&self.topics[&reader.1], &self.groups[&reader.0]);
        let sent = topic.queues[delivery.queue as usize].get(delivery.offset);
        check_same(sent, delivery);
        let handle = ReceiptHandle::peek(&delivery.handle).expect("a handle");
        let cursor = &self.subscriptions[reader].cursors[delivery.queue as usize];
        assert_eq!((handle.group, handle.topic), (group.id, topic.id));
        assert_eq!((handle.queue, handle.offset, handle.epoch), (delivery.queue, delivery.offset, cursor.epoch));
    }

    /// What of the answer that this attempt got before is still leased.
    fn running(&self, ask: &Ask) -> Vec<Lease> {
        let subscription = &self.subscriptions[&ask.reader];
        let answer = subscription.answers.get(&(ask.client.clone(), ask.attempt.clone()));
        let runs = |lease: &Lease| {
            let row = subscription.cursors[lease.0 as usize].rows.get(&lease.1);
            row.is_some_and(|row| row.generation == lease.2 && row.visible_at_ms > self.now_ms)
        };
        answer.map(|leases| leases.iter().copied().filter(runs).collect()).unwrap_or_default()
    }

    /// Messages to redeliver, the one due longest first.
    fn due(&self, reader: &Reader) -> Vec<(u32, u64)> {
        let Some(subscription) = self.subscriptions.get(reader) else { return Vec::new() };
        let cursors = (0..).zip(&subscription.cursors);
        let rows =
            cursors.flat_map(|(queue, cursor)| cursor.rows.iter().map(move |(offset, row)| (queue, *offset, row)));
        let is_due = |(_, _, row): &(u32, u64, &Row)| row.visible_at_ms <= self.now_ms;
        let mut due: Vec<_> =
            rows.filter(is_due).map(|(queue, offset, row)| (row.visible_at_ms, queue, offset)).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, queue, offset)| (queue, offset)).collect()
    }

    /// No queue with something fresh is passed over twice, and of five deliveries one is a
    /// redelivery while both wait.
    fn check_turns(&mut self, ask: &Ask, due: &[(u32, u64)], again: &[&Delivery], first: &[&Delivery]) {
        let queues = &self.topics[&ask.reader.1].queues;
        let subscription = self.subscriptions.get_mut(&ask.reader).expect("it reads");
        if ask.bytes != u64::MAX {
            (subscription.owed, subscription.passed) = (0, BTreeMap::new());
            return;
        }
        let delivered = again.len() + first.len();
        let waits = again.len() < due.len();
        subscription.owed = if waits { (subscription.owed + delivered).saturating_sub(5 * again.len()) } else { 0 };
        assert!(subscription.owed < 5, "{} messages were delivered while redeliveries waited", subscription.owed);
        if ask.tags.is_some() {
            subscription.passed.clear();
            return;
        }
        let served: BTreeSet<u32> = first.iter().map(|d| d.queue).collect();
        for (number, (queue, cursor)) in (0..).zip(queues.iter().zip(&subscription.cursors)) {
            if served.contains(&number) || cursor.fetch >= queue.end() {
                subscription.passed.remove(&number);
                continue;
            }
            let passed = subscription.passed.entry(number).or_default();
            for other in &served {
                assert!(passed.insert(*other), "queue {other} was served twice while queue {number} waited");
            }
        }
    }

    /// Fresh messages are the first that match, and nothing that matches is passed over.
    fn take_fresh(&mut self, ask: &Ask, first: &[&Delivery], fetches: &[u64]) {
        let queues = &self.topics[&ask.reader.1].queues;
        let subscription = self.subscriptions.get_mut(&ask.reader).expect("it reads");
        assert_eq!(fetches.len(), queues.len());
        for (number, (queue, cursor)) in (0..).zip(queues.iter().zip(&mut subscription.cursors)) {
            let to = fetches[number as usize];
            let given: Vec<u64> = first.iter().filter(|d| d.queue == number).map(|d| d.offset).collect();
            assert!(cursor.fetch <= to && to <= queue.end(), "queue {number} went from {} to {to}", cursor.fetch);
            let mut passed = fresh(queue, cursor.fetch, ask);
            passed.retain(|offset| *offset < to);
            assert_eq!(given, passed, "of queue {number}, from {} to {to}", cursor.fetch);
            cursor.fetch = to;
        }
    }

    fn take_leases(&mut self, ask: &Ask, answer: &[Delivery]) {
        let span_ms = if ask.session_bound { SESSION_LEASE_MS } else { ask.invisible_ms.min(INVISIBLE_MS_MAX) };
        let visible_at_ms = self.now_ms + span_ms;
        let attempts_max = self.groups[&ask.reader.0].max_attempts;
        for delivery in answer {
            let rows = &mut self.cursor(&ask.reader, delivery.queue).rows;
            let before = rows.get(&delivery.offset);
            let row = Row {
                visible_at_ms,
                client: ask.client.clone(),
                generation: before.map_or(1, |row| row.generation + 1),
                deliveries: before.map_or(1, |row| row.deliveries + 1),
                backing_off: false,
                session_bound: ask.session_bound,
            };
            assert!(
                row.deliveries <= attempts_max,
                "{} attempts of {}/{}",
                row.deliveries,
                delivery.queue,
                delivery.offset
            );
            assert_eq!(delivery.attempt, row.deliveries, "attempts of {}/{}", delivery.queue, delivery.offset);
            assert_eq!(delivery.visible_at_ms, visible_at_ms);
            assert_eq!(lease(delivery).2, row.generation, "generation of {}/{}", delivery.queue, delivery.offset);
            rows.insert(delivery.offset, row);
        }
        if ask.session_bound && !answer.is_empty() {
            self.seen.insert(ask.client.clone(), self.now_ms);
        }
        if !ask.attempt.is_empty() {
            let subscription = self.subscriptions.get_mut(&ask.reader).expect("it reads");
            let key = (ask.client.clone(), ask.attempt.clone());
            subscription.answers.insert(key, answer.iter().map(lease).collect());
        }
        self.bury_due();
    }

    /// Moves every message that is due once more than allowed to the dead-letter topics.
    pub fn bury_due(&mut self) {
        let readers: Vec<Reader> = self.subscriptions.keys().cloned().collect();
        for reader in readers {
            let max = self.groups[&reader.0].max_attempts;
            for (queue, offset) in self.due(&reader) {
                if self.cursor(&reader, queue).rows[&offset].deliveries >= max {
                    self.bury(&reader, queue, offset);
                }
            }
        }
    }

    /// Clients with leases that live as long as they do.
    fn sessions(&self) -> BTreeSet<String> {
        let cursors = self.subscriptions.values().flat_map(|subscription| &subscription.cursors);
        let rows = cursors.flat_map(|cursor| cursor.rows.values());
        rows.filter(|row| row.session_bound).map(|row| row.client.clone()).collect()
    }

    fn queue_progress(&self, queue: &Queue, cursor: &Cursor) -> Progress {
        let committed = cursor.rows.keys().next().copied().unwrap_or(cursor.fetch);
        let mut progress = Progress {
            end: queue.end(),
            committed,
            fetch: cursor.fetch,
            ready: queue.end() - cursor.fetch,
            oldest_ms: if committed < queue.end() { queue.get(committed).stored_ms } else { 0 },
            ..Progress::default()
        };
        for row in cursor.rows.values() {
            let is_visible = row.visible_at_ms <= self.now_ms;
            progress.ready += u64::from(is_visible);
            progress.in_flight += u64::from(!is_visible && !row.backing_off);
            progress.waiting += u64::from(!is_visible && row.backing_off);
        }
        progress
    }

    fn cursor(&mut self, reader: &Reader, queue: u32) -> &mut Cursor {
        &mut self.subscriptions.get_mut(reader).expect("it reads").cursors[queue as usize]
    }
}

/// Asserts that a delivery is what was sent.
pub fn check_same(sent: &Message, delivery: &Delivery) {
    assert_eq!(delivery.properties, sent.properties, "properties of {}", sent.id);
    assert_eq!(delivery.head, sent.head, "head of {}", sent.id);
    assert_eq!(delivery.body, sent.body, "body of {}", sent.id);
    assert_eq!(delivery.stored_ms, sent.stored_ms, "store time of {}", sent.id);
}

fn lease(delivery: &Delivery) -> Lease {
    let handle = ReceiptHandle::peek(&delivery.handle).expect("a handle");
    (delivery.queue, delivery.offset, handle.generation)
}

/// Offsets from `fetch` on that match.
fn fresh(queue: &Queue, fetch: u64, ask: &Ask) -> Vec<u64> {
    queue
        .kept()
        .filter(|(offset, message)| *offset >= fetch && ask.matches(message))
        .map(|(offset, _)| offset)
        .collect()
}
