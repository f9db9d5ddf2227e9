//! Who holds which message until when, and what is due.

use std::collections::{BTreeMap, BTreeSet};

use centaur_apis::receipt_handle::ReceiptHandle;

use super::{Ask, Cause, Dead, Group, LITE, Message, Queue, Reader, Reference};

/// A client not heard from for longer is gone.
const SESSION_MS: u64 = 60_000;
/// Longest invisible time.
pub(super) const INVISIBLE_MS_MAX: u64 = 24 * 3_600_000;

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub visible_at_ms: u64,
    pub client: String,
    pub generation: u32,
    /// None of one that was passed over: nobody had it yet.
    pub deliveries: u32,
    pub backing_off: bool,
    pub session_bound: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    pub epoch: u32,
    pub fetch: u64,
    pub rows: BTreeMap<u64, Row>,
}

/// Queue, offset, generation.
pub(super) type Lease = (u32, u64, u32);
/// A message group of one queue.
pub(super) type Key = (u32, String);

#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// By queue.
    pub cursors: BTreeMap<u32, Cursor>,
    /// The last answer to each client and attempt.
    pub answers: BTreeMap<(String, String), Vec<Lease>>,
    /// Messages delivered beyond four for each redelivery, while redeliveries waited.
    pub owed: usize,
    /// Queues that were served since a queue with something fresh was.
    pub passed: BTreeMap<u32, BTreeSet<u32>>,
}

/// What of one message group may be delivered next, in this order.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Offsets that were handed out or passed over.
    pub rows: Vec<u64>,
    /// Offsets nobody has seen yet that match.
    pub fresh: Vec<u64>,
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
    pub blocked: u64,
    pub oldest_ms: u64,
}

impl Reference {
    /// What settling with this handle would meet.
    pub fn worth(&self, group: &str, topic: &str, handle: &str) -> Worth {
        let Some(handle) = ReceiptHandle::peek(handle) else { return Worth::Invalid };
        let same = self.topics.get(topic).is_some_and(|t| t.id == handle.topic)
            && self.groups.get(group).is_some_and(|g| g.id == handle.group);
        let subscription = self.subscriptions.get(&(group.to_owned(), topic.to_owned())).filter(|_| same);
        let cursor = subscription.and_then(|s| s.cursors.get(&handle.queue));
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
        self.bury_due();
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
    pub fn bury(&mut self, reader: &Reader, queue: u32, offset: u64, cause: Cause) {
        let row = self.cursor(reader, queue).rows.remove(&offset).expect("a row");
        let message = self.topics[&reader.1].queues[queue as usize].get(offset).clone();
        let topic = reader.1.clone();
        let dead = Dead { message, topic, queue, offset, attempts: row.deliveries, cause };
        self.graves.entry(reader.0.clone()).or_default().push(dead);
        if cause == Cause::Forwarded {
            self.bury_due();
        }
    }

    /// Moves every message that is due once more than allowed to the dead-letter topics.
    pub fn bury_due(&mut self) {
        self.bury_due_of(|_| true);
    }

    /// The same of some groups in some topics.
    pub(super) fn bury_due_of(&mut self, which: impl Fn(&Reader) -> bool) {
        let readers: Vec<Reader> = self.subscriptions.keys().filter(|reader| which(reader)).cloned().collect();
        for reader in readers {
            for (queue, offset) in self.dead(&reader) {
                self.bury(&reader, queue, offset, Cause::Exhausted);
            }
        }
    }

    fn dead(&self, reader: &Reader) -> Vec<(u32, u64)> {
        let group = self.groups[&reader.0];
        let exhausted = |row: &Row| row.deliveries >= group.max_attempts;
        if !group.is_ordered() {
            let is_dead = |(_, _, row): &(u32, u64, &Row)| row.visible_at_ms <= self.now_ms && exhausted(row);
            return self.rows(reader).filter(is_dead).map(|(queue, offset, _)| (queue, offset)).collect();
        }
        if group.blocks {
            return Vec::new();
        }
        let mut dead = Vec::new();
        for ((queue, _), rows) in self.keys(reader) {
            if rows.iter().all(|(_, row)| row.visible_at_ms <= self.now_ms) {
                let first = rows.into_iter().take_while(|(_, row)| exhausted(row));
                dead.extend(first.map(|(offset, _)| (queue, offset)));
            }
        }
        dead
    }

    /// The newest message with an id that a client holds; one that died twice is there twice.
    pub fn held_by(&self, reader: &Reader, client: &str, id: &str) -> Option<(u32, u64)> {
        let queues = &self.topics.get(&reader.1)?.queues;
        let held = self.rows(reader).filter(|(_, _, row)| row.client == client && row.visible_at_ms > self.now_ms);
        let with_message = held.map(|(queue, offset, _)| (queues[queue as usize].get(offset), (queue, offset)));
        let named = with_message.filter(|(message, _)| message.id == id);
        named.max_by_key(|(message, _)| message.order).map(|(_, place)| place)
    }

    /// Ends a client in one group or, without one, in all. Says how many messages it let go.
    pub fn end_session(&mut self, client: &str, only: Option<&str>) -> u64 {
        let mut released = self.let_go(client, only);
        for group in self.lite_groups_of(client) {
            if only.is_none_or(|only| only == group) {
                released += self.drop_client(&(group, client.to_owned()));
            }
        }
        self.bury_due();
        released
    }

    fn let_go(&mut self, client: &str, only: Option<&str>) -> u64 {
        let now_ms = self.now_ms;
        let mut released = 0;
        for ((group, _), subscription) in &mut self.subscriptions {
            let rows = subscription.cursors.values_mut().flat_map(|cursor| cursor.rows.values_mut());
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

    pub(super) fn end_missed_sessions(&mut self) {
        let now_ms = self.now_ms;
        for client in self.sessions() {
            if now_ms - *self.seen.entry(client.clone()).or_insert(now_ms) > SESSION_MS {
                self.let_go(&client, None);
            }
        }
        let held = self.sessions();
        self.seen.retain(|client, _| held.contains(client));
    }

    /// Clients with leases that live as long as they do.
    fn sessions(&self) -> BTreeSet<String> {
        let cursors = self.subscriptions.values().flat_map(|subscription| subscription.cursors.values());
        let rows = cursors.flat_map(|cursor| cursor.rows.values());
        rows.filter(|row| row.session_bound).map(|row| row.client.clone()).collect()
    }

    /// Messages to redeliver if they are of use yet, the one due longest first; for a FIFO group in
    /// no order.
    pub(super) fn due(&self, reader: &Reader) -> Vec<(u32, u64)> {
        if self.is_fifo(reader) {
            let lines = self.lines(reader, &|_| false);
            let rows = lines.into_iter().flat_map(|((queue, _), line)| line.rows.into_iter().map(move |o| (queue, o)));
            return rows.collect();
        }
        let is_due = |(_, _, row): &(u32, u64, &Row)| row.visible_at_ms <= self.now_ms;
        let mut due: Vec<_> =
            self.rows(reader).filter(is_due).map(|(queue, offset, row)| (row.visible_at_ms, queue, offset)).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, queue, offset)| (queue, offset)).collect()
    }

    /// What of each message group that nobody holds a message of may be delivered.
    pub(super) fn lines(&self, reader: &Reader, matches: &dyn Fn(&Message) -> bool) -> BTreeMap<Key, Line> {
        let group = self.groups[&reader.0];
        let mut lines: BTreeMap<Key, Line> = BTreeMap::new();
        let mut closed = BTreeSet::new();
        for (key, rows) in self.keys(reader) {
            if rows.iter().any(|(_, row)| row.visible_at_ms > self.now_ms) {
                closed.insert(key);
                continue;
            }
            // One that is dead waits until it is the first.
            let may_go = |(_, row): &&(u64, &Row)| group.blocks || row.deliveries < group.max_attempts;
            let offsets: Vec<u64> = rows.iter().take_while(may_go).map(|(offset, _)| *offset).collect();
            if offsets.len() < rows.len() {
                closed.insert(key.clone());
            }
            if !offsets.is_empty() {
                lines.entry(key).or_default().rows = offsets;
            }
        }
        let subscription = &self.subscriptions[reader];
        for (&number, cursor) in &subscription.cursors {
            let queue = &self.topics[&reader.1].queues[number as usize];
            for offset in fresh(queue, cursor.fetch, matches) {
                let key = (number, queue.get(offset).group.clone());
                if !closed.contains(&key) {
                    lines.entry(key).or_default().fresh.push(offset);
                }
            }
        }
        lines
    }

    /// What of each message group a poll may get.
    pub(super) fn lines_for(&self, ask: &Ask) -> BTreeMap<Key, Line> {
        let mut lines = self.lines(&ask.reader, &self.topics[&ask.reader.1].wanted(ask, self.now_ms));
        if let Some(offered) = self.offered(ask) {
            lines.retain(|(queue, _), _| offered.contains(queue));
        }
        for ((queue, _), line) in &mut lines {
            line.rows.retain(|offset| self.is_of_use(&ask.reader, (*queue, *offset)));
        }
        lines
    }

    /// Unfinished messages by message group.
    fn keys(&self, reader: &Reader) -> BTreeMap<Key, Vec<(u64, &Row)>> {
        let mut keys: BTreeMap<Key, Vec<(u64, &Row)>> = BTreeMap::new();
        for (queue, offset, row) in self.rows(reader) {
            keys.entry(self.key(reader, queue, offset)).or_default().push((offset, row));
        }
        keys
    }

    pub(super) fn key(&self, reader: &Reader, queue: u32, offset: u64) -> Key {
        (queue, self.topics[&reader.1].queues[queue as usize].get(offset).group.clone())
    }

    fn rows(&self, reader: &Reader) -> impl Iterator<Item = (u32, u64, &Row)> {
        let cursors = self.subscriptions.get(reader).into_iter().flat_map(|subscription| &subscription.cursors);
        cursors.flat_map(|(queue, cursor)| cursor.rows.iter().map(move |(offset, row)| (*queue, *offset, row)))
    }

    /// Whether a group had a message, or passed over it, and is not done with it.
    pub fn has_had(&self, reader: &Reader, queue: u32, offset: u64) -> bool {
        let cursor = self.subscriptions.get(reader).and_then(|subscription| subscription.cursors.get(&queue));
        cursor.is_some_and(|cursor| cursor.rows.contains_key(&offset))
    }

    pub(super) fn is_fifo(&self, reader: &Reader) -> bool {
        self.groups.get(&reader.0).is_some_and(Group::is_ordered)
    }

    /// How many messages an answer could have at most.
    pub fn available(&self, ask: &Ask) -> usize {
        let topic = &self.topics[&ask.reader.1];
        let wanted = topic.wanted(ask, self.now_ms);
        if self.is_fifo(&ask.reader) && self.subscriptions.contains_key(&ask.reader) {
            let lines = self.lines_for(ask);
            return lines.values().map(|line| line.rows.len() + line.fresh.len()).sum();
        }
        let Some(subscription) = self.subscriptions.get(&ask.reader) else {
            return topic.queues.iter().map(|queue| fresh(queue, queue.start, &wanted).len()).sum();
        };
        let again = self.due(&ask.reader).into_iter().filter(|place| self.is_of_use(&ask.reader, *place)).count();
        let cursors = subscription.cursors.iter();
        let fresh = |(queue, cursor): (&u32, &Cursor)| fresh(&topic.queues[*queue as usize], cursor.fetch, &wanted);
        again + cursors.map(|place| fresh(place).len()).sum::<usize>()
    }

    /// The first contact of a group puts it at the beginning of each queue that lost nothing yet,
    /// and at the last message of the others.
    pub(super) fn start_reading(&mut self, reader: &Reader) {
        let topic = &self.topics[&reader.1];
        let position =
            |queue: &Queue| if queue.start == 0 { 0 } else { queue.end().saturating_sub(1).max(queue.start) };
        let cursor = |queue: &Queue| Cursor { epoch: 1, fetch: position(queue), ..Cursor::default() };
        self.subscriptions.entry(reader.clone()).or_insert_with(|| Subscription {
            cursors: (0..).zip(topic.queues.iter().map(cursor)).collect(),
            ..Subscription::default()
        });
    }

    /// What the description of a group has to show, by topic.
    pub fn progress(&self, group: &str) -> BTreeMap<String, Vec<Progress>> {
        let its_own = self.subscriptions.iter().filter(|((name, _), _)| name == group);
        let show = |(reader, subscription): (&Reader, &Subscription)| {
            let topic = &self.topics[&reader.1];
            // Of lite topics, those with something to consume.
            let is_shown = |(queue, cursor): &(&u32, &Cursor)| {
                reader.1 != LITE || cursor.floor() < topic.queues[**queue as usize].end()
            };
            let numbers = subscription.cursors.iter().filter(is_shown).map(|(queue, _)| *queue);
            (reader.1.clone(), numbers.map(|number| self.queue_progress(reader, number)).collect())
        };
        its_own.map(show).collect()
    }

    fn queue_progress(&self, reader: &Reader, number: u32) -> Progress {
        let queue = &self.topics[&reader.1].queues[number as usize];
        let cursor = &self.subscriptions[reader].cursors[&number];
        let committed = cursor.floor().max(queue.start);
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
        if self.is_fifo(reader) {
            let of_queue = self.keys(reader).into_iter().filter(|((queue, _), _)| *queue == number);
            for (_, rows) in of_queue {
                let visible = rows.iter().filter(|(_, row)| row.visible_at_ms <= self.now_ms).count();
                progress.blocked += if visible < rows.len() { visible as u64 } else { 0 };
            }
        }
        progress
    }

    pub(super) fn cursor(&mut self, reader: &Reader, queue: u32) -> &mut Cursor {
        let subscription = self.subscriptions.get_mut(reader).expect("it reads");
        subscription.cursors.get_mut(&queue).expect("it has a place there")
    }
}

impl Cursor {
    /// Everything before it is finished.
    pub fn floor(&self) -> u64 {
        self.rows.keys().next().copied().unwrap_or(self.fetch)
    }
}

/// Offsets from `fetch` on that match.
pub(super) fn fresh(queue: &Queue, fetch: u64, matches: &dyn Fn(&Message) -> bool) -> Vec<u64> {
    let wanted = queue.kept().filter(|(offset, message)| *offset >= fetch && matches(message));
    wanted.map(|(offset, _)| offset).collect()
}
