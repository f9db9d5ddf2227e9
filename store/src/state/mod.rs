//! What the log means: state computed by applying confirmed records in order. It may be thrown
//! away and rebuilt; it knows no clock, no network and, except for the index, no files.

pub mod cursors;
pub mod index;
pub mod lite;
pub mod offsets;
pub mod pop;
pub mod redriven;
pub mod select;
pub mod snapshot;
pub mod snapshot_file;
pub mod timers;
pub mod topics;
pub mod transactions;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use centaur_apis::{
    log::{self, Control, Released, control::Event},
    units::Lsn,
};

use crate::log::record::{Message, Place, Record};

use index::{Index, QueueKey, TimerPlace};
use lite::Lite;
use pop::{Pop, Reader, Rules};
use redriven::RedrivenOffsets;
use timers::Timers;
use topics::{Groups, Topics};
use transactions::Transactions;

/// Everything a store group knows, at one place of its log.
#[derive(Default)]
pub struct State {
    pub topics: Topics,
    pub groups: Groups,
    pub pop: Pop,
    /// Messages that wait for their time.
    pub timers: Timers,
    /// Messages that wait for the outcome of their transaction.
    pub transactions: Transactions,
    pub lite: Lite,
    /// Dead letters that were sent again.
    pub redriven: RedrivenOffsets,
    /// Keys of receipt handles and tickets; the last one makes new ones.
    handle_keys: BTreeMap<u8, HandleKey>,
    /// First segment that is not retired.
    pub start: Lsn,
    /// Where messages are. Files of its own; not part of a snapshot.
    pub index: Index,
}

/// A key, and the place of its record in the log. A key comes when the store before may have lost its
/// last moments, so that what was made with an older one says nothing of what came behind that place.
#[derive(Clone, Copy)]
struct HandleKey {
    key: [u8; 32],
    since: Lsn,
}

/// What applying a record did that is worth counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Messages that retention took before some group finished them.
    pub expired_unconsumed: u64,
}

impl State {
    /// Applies one record. `indexed` says that an index run already covers it.
    pub fn apply(&mut self, lsn: Lsn, length: u32, record: &Record, indexed: bool) -> Applied {
        match record {
            Record::Message(message) => {
                self.apply_message(lsn, length, message, indexed);
                Applied::default()
            }
            Record::Control(Control { event: Some(event) }) => self.apply_event(lsn, event, indexed),
            Record::Control(Control { event: None }) => Applied::default(),
        }
    }

    /// Applies a message: it is in its queue, or waits for its time or its transaction; it is
    /// findable by id and keys.
    pub fn apply_message(&mut self, lsn: Lsn, length: u32, message: &Message, indexed: bool) {
        // Messages of a deleted topic stay in the log until retention; nobody can ask for them. Their
        // topic may be one that a salvage without snapshot lost: no other ever gets its id.
        if self.topics.get(message.topic).is_none() {
            self.topics.reserve_ids(message.topic);
            return;
        }
        match message.place {
            Place::Queued(offset) => {
                if !self.enqueue(message.topic, message.queue, offset, message.stored_ms) {
                    return;
                }
            }
            Place::Scheduled(_) => self.timers.schedule(message.topic),
            Place::Half(_) => self.transactions.begin(lsn, length, message),
        }
        if !indexed {
            self.index.push_message(lsn, length, message);
        }
    }

    /// Gives a message that was stored before its place.
    fn release(&mut self, released: &Released, at_ms: u64, indexed: bool) {
        if self.enqueue(released.topic, released.queue, released.offset, at_ms) && !indexed {
            self.index.push_released(released, at_ms);
        }
    }

    /// Puts the end of a queue behind a message; whether there is such a queue.
    fn enqueue(&mut self, topic: u32, queue: u32, offset: u64, stored_ms: u64) -> bool {
        let Some(topic) = self.topics.get_mut(topic) else { return false };
        let Some(ends) = topic.queues.get_mut(queue as usize) else { return false };
        ends.end = offset + 1;
        ends.last_stored_ms = stored_ms;
        topic.arrivals.add(queue);
        true
    }

    /// Puts what a record says of messages into the open segment's index and nowhere else: the rest
    /// of the state knows it.
    pub fn index_record(&mut self, lsn: Lsn, length: u32, record: &Record) {
        let knows = |topic: u32| self.topics.get(topic).is_some();
        match record {
            Record::Message(message) if !knows(message.topic) => {}
            record => self.index.push_record(lsn, length, record),
        }
    }

    /// Applies what is not a message, from the record at `lsn`. `indexed` says that an index run
    /// already covers it.
    pub fn apply_event(&mut self, lsn: Lsn, event: &Event, indexed: bool) -> Applied {
        match event {
            Event::TopicSet(topic) => self.set_topic(topic),
            Event::TopicDeleted(deleted) => self.delete_topic(deleted.id),
            Event::GroupSet(group) => self.set_group(group),
            Event::GroupDeleted(deleted) => self.delete_group(deleted.id),
            Event::CursorsSet(set) => self.set_cursors(set),
            Event::Leased(leased) => self.pop.lease(leased),
            Event::Acked(acked) => self.pop.ack(acked),
            Event::VisibilityChanged(changed) => self.pop.change_visibility(changed),
            Event::SessionEnded(ended) => self.pop.end_session(ended),
            Event::DeadLettered(moved) => self.pop.dead_letter(moved),
            Event::SegmentRetired(retired) => return self.retire(retired),
            Event::HandleKey(key) => self.set_handle_key(key, lsn),
            Event::TimersFired(fired) => {
                self.timers.fire(fired);
                fired.released.iter().for_each(|released| self.release(released, fired.at_ms, indexed));
            }
            Event::TimerRecalled(recalled) => {
                self.timers.recall(recalled);
                if !indexed {
                    self.index.push_recalled(TimerPlace::of_recalled(recalled), lsn);
                }
            }
            Event::TransactionEnded(ended) => {
                self.transactions.end(ended);
                if !indexed {
                    self.index.push_decided(Lsn(ended.lsn), lsn);
                }
                ended.released.iter().for_each(|released| self.release(released, ended.at_ms, indexed));
            }
            Event::TransactionChecked(checked) => self.transactions.check(checked),
            Event::LiteTopicSet(set) => self.set_lite_topic(set),
            Event::LiteTopicDeleted(deleted) => self.delete_lite_topic(deleted),
            Event::LiteSubscribed(subscribed) => self.lite.subscribe(subscribed),
            Event::Redriven(redriven) => self.redriven.add(redriven),
        }
        Applied::default()
    }

    /// The key new receipt handles are made with, and its id.
    pub fn newest_handle_key(&self) -> Option<(u8, &[u8; 32])> {
        self.handle_keys.last_key_value().map(|(id, HandleKey { key, .. })| (*id, key))
    }

    /// The key of this id.
    pub fn handle_key(&self, id: u8) -> Option<&[u8; 32]> {
        self.handle_keys.get(&id).map(|HandleKey { key, .. }| key)
    }

    /// Where the records end that tickets made with a key may name; none for the newest.
    pub fn handle_key_end(&self, id: u8) -> Option<Lsn> {
        self.handle_keys.range((Bound::Excluded(id), Bound::Unbounded)).next().map(|(_, next)| next.since)
    }

    fn set_topic(&mut self, topic: &log::Topic) {
        self.topics.set(topic);
        let Some(topic) = self.topics.get(topic.id) else { return };
        for group in &topic.readers {
            if !topic.is_lite() {
                self.pop.grow(Reader { group: *group, topic: topic.settings.id }, topic.queues.len());
            }
        }
    }

    /// Puts the ends of queues behind every offset that anything says was given: after a salvage
    /// without a snapshot, the records of messages alone may not say it.
    pub fn raise_ends(&mut self) {
        for (reader, subscription) in self.pop.all() {
            let Some(topic) = self.topics.get_mut(reader.topic) else { continue };
            for (queue, cursor) in subscription.cursors.iter() {
                if let Some(ends) = topic.queues.get_mut(queue as usize) {
                    ends.end = ends.end.max(cursor.fetch);
                }
            }
        }
        for topic in self.topics.all_mut() {
            let id = topic.settings.id;
            let is_lite = topic.is_lite();
            for (queue, ends) in (0..).zip(&mut topic.queues) {
                ends.end = ends.end.max(self.index.end(QueueKey { topic: id, queue })).max(ends.start);
                // What is left of a lite topic whose name is lost is of no other one.
                if is_lite && self.lite.names(id).is_none_or(|names| names.get(queue).is_none()) {
                    ends.start = ends.end;
                }
            }
        }
    }

    fn delete_topic(&mut self, id: u32) {
        let Some(topic) = self.topics.delete(id) else { return };
        self.transactions.delete_topic(id);
        self.redriven.delete_topic(id);
        self.timers.delete_topic(id);
        if topic.is_lite() {
            self.forget_lite_topics(&topic);
        }
        for group in topic.readers {
            self.pop.delete(Reader { group, topic: id });
        }
    }

    fn set_group(&mut self, group: &log::Group) {
        self.groups.set(group);
        self.pop.set_rules(group.id, Rules::of(group));
    }

    fn delete_group(&mut self, id: u32) {
        if self.groups.delete(id).is_none() {
            return;
        }
        self.lite.delete_group(id);
        let readers: Vec<Reader> = self.pop.of_group(id).map(|(reader, _)| reader).collect();
        for reader in readers {
            self.pop.delete(reader);
            if let Some(topic) = self.topics.get_mut(reader.topic) {
                topic.readers.remove(&id);
            }
        }
    }

    fn set_cursors(&mut self, event: &log::CursorsSet) {
        // A topic or group that is gone by now has no cursors; the record was late.
        let Some(rules) = self.groups.get(event.group).map(Rules::of) else { return };
        let Some(topic) = self.topics.get_mut(event.topic) else { return };
        topic.readers.insert(event.group);
        let queues = (!topic.is_lite()).then_some(topic.queues.len());
        self.pop.set_cursors(event, queues, rules);
    }

    fn retire(&mut self, event: &log::SegmentRetired) -> Applied {
        let mut applied = Applied::default();
        self.start = self.start.max(Lsn(event.end_lsn));
        for start in &event.starts {
            let Some(topic) = self.topics.get_mut(start.topic) else { continue };
            let Some(queue) = topic.queues.get_mut(start.queue as usize) else { continue };
            queue.start = queue.start.max(start.offset);
            // Without a snapshot, nothing else may be left that says how far the queue went.
            queue.end = queue.end.max(queue.start);
            self.redriven.retire(start.topic, start.queue, start.offset);
            let readers: &BTreeSet<u32> = &topic.readers;
            applied.expired_unconsumed += self.pop.retire(start.topic, start.queue, start.offset, readers);
        }
        applied
    }

    fn set_handle_key(&mut self, event: &log::HandleKey, since: Lsn) {
        if let (Ok(id), Ok(key)) = (u8::try_from(event.id), <[u8; 32]>::try_from(event.key.as_ref())) {
            // Ids begin anew when there are no more of them.
            self.handle_keys.retain(|known, _| *known < id);
            self.handle_keys.insert(id, HandleKey { key, since });
        }
    }
}
