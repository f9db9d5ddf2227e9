//! What the log means: state computed by applying confirmed records in order. It may be thrown
//! away and rebuilt; it knows no clock, no network and, except for the index, no files.

pub mod index;
pub mod offsets;
pub mod pop;
pub mod select;
pub mod snapshot;
pub mod snapshot_file;
pub mod topics;

use std::collections::{BTreeMap, BTreeSet};

use centaur_apis::{
    log::{self, Control, control::Event},
    units::Lsn,
};

use crate::log::record::{Message, Record};

use index::{Entry, Index, QueueKey};
use pop::{Pop, Reader};
use topics::{Groups, Topics};

/// Everything a store group knows, at one place of its log.
#[derive(Default)]
pub struct State {
    pub topics: Topics,
    pub groups: Groups,
    pub pop: Pop,
    /// Keys of receipt handles; the last one makes new handles.
    pub handle_keys: BTreeMap<u8, [u8; 32]>,
    /// First segment that is not retired.
    pub start: Lsn,
    /// Where messages are. Files of its own; not part of a snapshot.
    pub index: Index,
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
            Record::Control(Control { event: Some(event) }) => self.apply_event(event),
            Record::Control(Control { event: None }) => Applied::default(),
        }
    }

    /// Applies a message: it is in its queue, findable by id and keys.
    pub fn apply_message(&mut self, lsn: Lsn, length: u32, message: &Message, indexed: bool) {
        // Messages of a deleted topic stay in the log until retention; nobody can ask for them. Their
        // topic may be one that a salvage without snapshot lost: no other ever gets its id.
        let Some(topic) = self.topics.get_mut(message.topic) else {
            self.topics.reserve_ids(message.topic);
            return;
        };
        let Some(queue) = topic.queues.get_mut(message.queue as usize) else { return };
        queue.end = message.offset + 1;
        queue.last_stored_ms = message.stored_ms;
        topic.arrivals.add(message.queue);
        if !indexed {
            self.index_message(lsn, length, message);
        }
    }

    /// Puts a message into the open segment's index and nowhere else: the rest of the state knows it.
    pub fn index_message(&mut self, lsn: Lsn, length: u32, message: &Message) {
        let entry = Entry {
            lsn,
            length,
            tag_hash: message.tag_hash,
            group_hash: message.group_hash,
            stored_ms: message.stored_ms,
        };
        let key = QueueKey { topic: message.topic, queue: message.queue };
        self.index.push(key, message.offset, entry, &message.key_hashes);
    }

    /// Applies what is not a message.
    pub fn apply_event(&mut self, event: &Event) -> Applied {
        match event {
            Event::TopicSet(topic) => self.set_topic(topic),
            Event::TopicDeleted(deleted) => self.delete_topic(deleted.id),
            Event::GroupSet(group) => self.groups.set(group),
            Event::GroupDeleted(deleted) => self.delete_group(deleted.id),
            Event::CursorsSet(set) => self.set_cursors(set),
            Event::Leased(leased) => self.pop.lease(leased),
            Event::Acked(acked) => self.pop.ack(acked),
            Event::VisibilityChanged(changed) => self.pop.change_visibility(changed),
            Event::SessionEnded(ended) => self.pop.end_session(ended),
            Event::DeadLettered(moved) => self.pop.dead_letter(moved),
            Event::SegmentRetired(retired) => return self.retire(retired),
            Event::HandleKey(key) => self.set_handle_key(key),
        }
        Applied::default()
    }

    /// The key new receipt handles are made with, and its id.
    pub fn newest_handle_key(&self) -> Option<(u8, &[u8; 32])> {
        self.handle_keys.last_key_value().map(|(id, key)| (*id, key))
    }

    fn set_topic(&mut self, topic: &log::Topic) {
        self.topics.set(topic);
        let Some(topic) = self.topics.get(topic.id) else { return };
        for group in &topic.readers {
            self.pop.grow(Reader { group: *group, topic: topic.settings.id }, topic.queues.len());
        }
    }

    fn delete_topic(&mut self, id: u32) {
        let Some(topic) = self.topics.delete(id) else { return };
        for group in topic.readers {
            self.pop.delete(Reader { group, topic: id });
        }
    }

    fn delete_group(&mut self, id: u32) {
        if self.groups.delete(id).is_none() {
            return;
        }
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
        if self.groups.get(event.group).is_none() {
            return;
        }
        let Some(topic) = self.topics.get_mut(event.topic) else { return };
        topic.readers.insert(event.group);
        self.pop.set_cursors(event, topic.queues.len());
    }

    fn retire(&mut self, event: &log::SegmentRetired) -> Applied {
        let mut applied = Applied::default();
        self.start = self.start.max(Lsn(event.end_lsn));
        for start in &event.starts {
            let Some(topic) = self.topics.get_mut(start.topic) else { continue };
            let Some(queue) = topic.queues.get_mut(start.queue as usize) else { continue };
            queue.start = queue.start.max(start.offset);
            let readers: &BTreeSet<u32> = &topic.readers;
            applied.expired_unconsumed += self.pop.retire(start.topic, start.queue, start.offset, readers);
        }
        applied
    }

    fn set_handle_key(&mut self, event: &log::HandleKey) {
        if let (Ok(id), Ok(key)) = (u8::try_from(event.id), <[u8; 32]>::try_from(event.key.as_ref())) {
            self.handle_keys.insert(id, key);
        }
    }
}
