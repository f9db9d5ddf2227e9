//! Messages that nobody could consume: moved to the dead-letter topic of their group, in the block
//! that ends their lease.

use bytes::{Bytes, BytesMut};
use centaur_apis::{
    fields::{self, Value, message, system},
    hash64,
    log::{self, DeadLettered, Permission, TopicType, VisibilityChanged, control::Event},
    names::DEAD_LETTER_PREFIX,
    store::{DeadLetterRequest, Error, Reason},
    v2,
};

use super::{
    Machine, catalog,
    consume::{Found, Lease},
    produce::topic_not_found,
};
use crate::{
    log::record::{Message, Place},
    metrics,
    state::{index::QueueKey, pop::Reader},
};

/// Dead messages moved in one turn of one subscription.
const BURIED_MAX: usize = 32;
/// A dead message that cannot be moved now is looked at again after this.
const BURY_RETRY_MS: u64 = 60_000;
/// Messages with one id that are read to find the one that is leased.
const SAME_ID_MAX: usize = 64;

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
        self.bury(lease).then_some(()).ok_or_else(|| {
            Error::new(Reason::Failed, "message cannot be read, so it cannot be moved to the dead-letter topic")
        })
    }

    /// A lease of a client, found by the message's id: some clients forget their handle.
    fn find_by_message_id(&mut self, request: &DeadLetterRequest) -> Result<Option<Lease>, Error> {
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?.settings.id;
        let group = self.state.groups.named(&request.group).ok_or_else(|| catalog::group_not_found(&request.group))?.id;
        let reader = Reader { group, topic };
        let client = hash64(request.client.as_bytes());
        for message in self.messages_with_key(topic, &request.message_id, SAME_ID_MAX)? {
            if fields::text(&message.properties, system::MESSAGE_ID) != Some(&request.message_id) {
                continue;
            }
            let Some(offset) = message.offset() else { continue };
            let row = self.state.pop.get(reader).and_then(|s| s.row(message.queue, offset));
            if row.is_some_and(|row| row.client == client && row.visible_at_ms > self.now_ms) {
                return Ok(Some(Lease { reader, queue: message.queue, offset }));
            }
        }
        Ok(None)
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
            if self.check_space().is_err() || !self.bury(lease) {
                if self.check_alive().is_err() {
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

    /// Moves one message to the dead-letter topic, in one block. `false`: it cannot be read, or
    /// there is no room for it.
    fn bury(&mut self, lease: Lease) -> bool {
        let Lease { reader, queue, offset } = lease;
        let key = QueueKey { topic: reader.topic, queue };
        let Ok(Some(entry)) = self.state.index.get(key, offset) else { return false };
        let Some(original) = self.read_message(entry.lsn, entry.length) else { return false };
        let names = self.state.topics.get(reader.topic).zip(self.state.groups.get(reader.group));
        let Some((topic, group)) = names.map(|(topic, group)| (topic.settings.name.clone(), group.name.clone())) else {
            return false;
        };
        let grave = format!("{DEAD_LETTER_PREFIX}{group}");
        let id = self.dead_letter_topic(&grave);
        if self.make_room(original.encoded_len() + grave.len() + topic.len() + 1024).is_err() {
            return false;
        }
        let next = self.state.topics.get(id).and_then(|topic| topic.queues.first()).map_or(0, |queue| queue.end);
        let head = rename(&original.head, &grave);
        let properties = with_origin(&original, &topic);
        self.commit(Event::DeadLettered(DeadLettered { group: reader.group, topic: reader.topic, queue, offset }));
        let place = Place::Queued(next);
        self.commit_message(&Message::new(id, 0, place, self.now_ms, head, properties, original.body));
        tracing::info!(
            topic,
            group,
            queue,
            offset,
            dead_letter_topic = grave,
            "message moved to the dead-letter topic"
        );
        metrics::dead_lettered();
        true
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

/// The encoded head of a message under another topic; its user properties stay as they are.
fn rename(head: &[u8], topic: &str) -> Bytes {
    let topic = v2::Resource { name: topic.to_owned(), ..Default::default() };
    let mut renamed = BytesMut::new();
    prost::encoding::message::encode(message::TOPIC, &topic, &mut renamed);
    for (number, value) in fields::Fields::new(head) {
        if let (message::USER_PROPERTIES, Value::Bytes(entry)) = (number, value) {
            prost::encoding::bytes::encode(number, &entry.to_vec(), &mut renamed);
        }
    }
    renamed.freeze()
}

/// Encoded system properties that also say where a dead message came from.
fn with_origin(original: &Message, topic: &str) -> Bytes {
    let message_id = fields::text(&original.properties, system::MESSAGE_ID).unwrap_or_default().to_owned();
    let origin = v2::DeadLetterQueue { topic: topic.to_owned(), message_id };
    let mut properties = BytesMut::from(original.properties.as_ref());
    prost::encoding::message::encode(system::DEAD_LETTER_QUEUE, &origin, &mut properties);
    properties.freeze()
}
