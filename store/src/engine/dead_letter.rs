//! Messages that nobody could consume: moved to the dead-letter topic of their group, in the block
//! that ends their lease.

use centaur_apis::{
    fields::{self, system},
    hash64,
    log::{self, DeadLettered, Permission, TopicType, VisibilityChanged, control::Event},
    names::DEAD_LETTER_PREFIX,
    store::{DeadLetterRequest, Error, Reason},
    units::Lsn,
};

use super::{
    Machine, catalog,
    consume::{Found, Lease},
    origin::{Cause, Origin},
    produce::topic_not_found,
};
use crate::{
    log::record::{Message, Place},
    metrics,
    state::{
        index::QueueKey,
        pop::{Reader, Row},
    },
};

/// Dead messages moved in one turn of one subscription.
const BURIED_MAX: usize = 32;
/// A dead message that cannot be moved now is looked at again after this.
const BURY_RETRY_MS: u64 = 60_000;
/// Messages with one id that are read to find the one that is leased.
const SAME_ID_MAX: usize = 64;
/// Messages in a client's hands that are looked through for one without an offset of its own.
const HELD_MAX: usize = 10_000;

impl Machine {
    /// Moves one leased message to its group's dead-letter topic; once, however often it is asked.
    pub fn dead_letter(&mut self, request: &DeadLetterRequest) -> Result<(), Error> {
        let lease = if request.handle.is_empty() {
            self.find_by_message_id(request)?
        } else {
            match self.find_lease(&request.group, &request.topic, &request.handle)? {
                Found::Held(lease, _) => Some(lease),
                Found::Finished => None,
            }
        };
        let Some(lease) = lease else { return Ok(()) };
        self.check_space()?;
        self.bury(lease, Cause::Forwarded)
    }

    /// A lease of a client, found by the message's id: some clients forget their handle.
    fn find_by_message_id(&mut self, request: &DeadLetterRequest) -> Result<Option<Lease>, Error> {
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?.settings.id;
        let group = self.state.groups.named(&request.group).ok_or_else(|| catalog::group_not_found(&request.group))?.id;
        let reader = Reader { group, topic };
        let client = hash64(request.client.as_bytes());
        for (lsn, message) in self.messages_with_key(topic, &request.message_id, SAME_ID_MAX)? {
            if fields::text(&message.properties, system::MESSAGE_ID) != Some(&request.message_id) {
                continue;
            }
            if let Some(offset) = self.offset_held(reader, client, lsn, &message) {
                return Ok(Some(Lease { reader, queue: message.queue, offset }));
            }
        }
        Ok(None)
    }

    /// The offset of a message, if this client holds it. One that waited for its time or its
    /// transaction has none in its record: it is among those held that lies at the same place.
    fn offset_held(&mut self, reader: Reader, client: u64, lsn: Lsn, message: &Message) -> Option<u64> {
        let is_held = |row: &Row| row.client == client && row.visible_at_ms > self.now_ms;
        let cursor = self.state.pop.get(reader)?.cursors.get(message.queue)?;
        if let Some(offset) = message.offset() {
            return cursor.rows.get(&offset).is_some_and(is_held).then_some(offset);
        }
        let held = cursor.rows.iter().filter(|(_, row)| is_held(row)).map(|(offset, _)| *offset);
        let key = QueueKey { topic: reader.topic, queue: message.queue };
        let mut held = held.take(HELD_MAX);
        held.find(|offset| self.state.index.get(key, *offset).is_ok_and(|entry| entry.is_some_and(|e| e.lsn == lsn)))
    }

    /// Moves messages that were delivered as often as allowed, and are due again, to the
    /// dead-letter topic; the rest of a long list has its turn later.
    pub(super) fn bury_dead(&mut self, reader: Reader) {
        let Some(subscription) = self.state.pop.get(reader) else { return };
        let dead = subscription.dead(self.now_ms).take(BURIED_MAX);
        let is_ordered = subscription.is_ordered();
        let dead: Vec<Lease> = dead.map(|(queue, offset)| Lease { reader, queue, offset }).collect();
        if dead.len() == BURIED_MAX {
            self.runnable.insert(reader);
        }
        for lease in dead {
            if self.block_is_full() {
                self.runnable.insert(reader);
                return;
            }
            if self.check_space().and_then(|()| self.bury(lease, Cause::AttemptsExhausted)).is_err() {
                if self.check_alive().is_err() {
                    self.runnable.insert(reader);
                    return;
                }
                self.commit(Event::VisibilityChanged(VisibilityChanged {
                    group: reader.group,
                    topic: reader.topic,
                    queue: lease.queue,
                    offset: lease.offset,
                    visible_at_ms: self.now_ms + BURY_RETRY_MS,
                    uncounted: false,
                    keeps_handle: true,
                }));
                // What follows in its message group waits with it; others have another turn.
                if is_ordered {
                    self.runnable.insert(reader);
                    return;
                }
            }
        }
    }

    /// Moves one message to the dead-letter topic, in one block.
    ///
    /// Errors: it cannot be read, or there is no room for it.
    pub(super) fn bury(&mut self, lease: Lease, cause: Cause) -> Result<(), Error> {
        let Lease { reader, queue, offset } = lease;
        let key = QueueKey { topic: reader.topic, queue };
        let entry = self.state.index.get(key, offset).ok().flatten().ok_or_else(unreadable)?;
        let original = self.read_message(entry.lsn, entry.length).ok_or_else(unreadable)?;
        let names = self.state.topics.get(reader.topic).zip(self.state.groups.get(reader.group));
        let names = names.map(|(topic, group)| (topic.settings.name.clone(), group.name.clone()));
        let (topic, group) = names.ok_or_else(unreadable)?;
        let attempts = self.state.pop.get(reader).and_then(|s| s.row(queue, offset)).map_or(0, |row| row.deliveries);
        let origin = Origin { topic: &topic, queue, offset, group: &group, attempts, cause, at_ms: self.now_ms };
        let grave = format!("{DEAD_LETTER_PREFIX}{group}");
        let (head, properties) = origin.write_into(&original, &grave);
        let id = self.dead_letter_topic(&grave);
        self.make_room(head.len() + properties.len() + original.encoded_len() + 1024)?;
        let next = self.state.topics.get(id).and_then(|topic| topic.queues.first()).map_or(0, |queue| queue.end);
        self.commit(Event::DeadLettered(DeadLettered { group: reader.group, topic: reader.topic, queue, offset }));
        let place = Place::Queued(next);
        self.commit_message(&Message::new(id, 0, place, self.now_ms, head, properties, original.body));
        tracing::info!(
            topic,
            group,
            queue,
            offset,
            attempts,
            dead_letter_topic = grave,
            "message moved to the dead-letter topic"
        );
        metrics::dead_lettered();
        Ok(())
    }

    fn dead_letter_topic(&mut self, name: &str) -> u32 {
        if let Some(topic) = self.state.topics.named(name) {
            return topic.settings.id;
        }
        let id = self.state.topics.next_id();
        self.commit(Event::TopicSet(log::Topic {
            id,
            name: name.to_owned(),
            r#type: TopicType::Mixed.into(),
            queues: 1,
            permission: Permission::ReadWrite.into(),
            created_ms: self.now_ms,
            version: 1,
            ..Default::default()
        }));
        id
    }
}

fn unreadable() -> Error {
    Error::new(Reason::Failed, "message cannot be read, so it cannot be moved to the dead-letter topic")
}
