//! Messages on their way in: each batch entirely or not at all.

use centaur_apis::{
    fields::{self, system},
    store::{Batch, BatchResult, Error, NewMessage, Reason},
    ticket::{Purpose, Ticket},
    units::Lsn,
};

use super::{Machine, duplicates::Earlier};
use crate::{
    log::record::{Message, Place},
    metrics,
    state::topics::Topic,
};

/// Bytes of one message with its properties. The public limits are the proxy's; this one protects
/// the log.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Bytes of one batch: it becomes one block.
pub const BATCH_BYTES_MAX: usize = 32 << 20;
/// Keys of one message, its id included.
const KEYS_MAX: usize = 4096;
/// What a record takes beside the message's own bytes, with a few keys.
const RECORD_OVERHEAD: usize = 256;

/// Bytes a batch may take in the log, generously.
pub fn batch_bytes(batch: &Batch) -> usize {
    batch.messages.iter().map(message_bytes).sum()
}

fn message_bytes(message: &NewMessage) -> usize {
    // Each key adds an eight-byte hash; it takes at least two bytes in the properties itself.
    let lite = if message.lite_topic.is_empty() { 0 } else { message.lite_topic.len() + RECORD_OVERHEAD };
    message.head.len() + 5 * message.properties.len() + message.body.len() + RECORD_OVERHEAD + lite
}

impl Machine {
    /// Stores batches; one that is refused leaves the others alone.
    pub fn append_batches(&mut self, batches: Vec<Batch>) -> Vec<BatchResult> {
        let refused = |error| BatchResult { error: Some(error), ..Default::default() };
        batches.into_iter().map(|batch| self.append_batch(batch).unwrap_or_else(refused)).collect()
    }

    fn append_batch(&mut self, batch: Batch) -> Result<BatchResult, Error> {
        self.check_alive()?;
        self.check_space()?;
        let bytes = check_size(&batch)?;
        let topic = self.state.topics.named(&batch.topic).ok_or_else(|| topic_not_found(&batch.topic))?;
        if !topic.is_writable() {
            let sentence = format!(
                "topic {:?} does not take messages; its permission is {}",
                batch.topic,
                topic.settings.permission().as_str_name()
            );
            return Err(Error::new(Reason::Forbidden, sentence));
        }
        let id = topic.settings.id;
        check_kind(topic, &batch.messages)?;
        match topic.is_lite() {
            true => self.check_lite(topic, &batch.messages)?,
            false => batch.messages.iter().try_for_each(|message| check_queue(topic, message))?,
        }
        self.check_halves(&batch)?;
        let earlier = self.find_earlier(id, &batch.messages)?;
        // Nothing is refused from here on, and all of it is one block.
        self.reserve(bytes);
        metrics::stored(batch.messages.len() as u64, bytes as u64);
        let mut result = BatchResult { offsets: Vec::with_capacity(batch.messages.len()), ..Default::default() };
        for (at, new) in batch.messages.into_iter().enumerate() {
            let (offset, ticket) = match earlier.get(at).and_then(Option::as_ref) {
                None => self.store_message(id, new),
                Some(Earlier::Stored { offset, ticket }) => (*offset, ticket.clone()),
                Some(Earlier::InBatch(first)) => (result.offsets[*first], result.tickets.get(*first).cloned()),
            };
            result.offsets.push(offset);
            if let Some(ticket) = ticket {
                result.tickets.resize(at, String::new());
                result.tickets.push(ticket);
            }
        }
        if !result.tickets.is_empty() {
            result.tickets.resize(result.offsets.len(), String::new());
        }
        Ok(result)
    }

    /// Gives the message's offset, if it has one yet, and its ticket, if it has one.
    fn store_message(&mut self, topic: u32, new: NewMessage) -> (u64, Option<String>) {
        let queue = if new.lite_topic.is_empty() { new.queue } else { self.lite_queue(topic, &new.lite_topic) };
        let place = self.place_of(topic, queue, &new);
        let message = Message::new(topic, queue, place, self.now_ms, new.head, new.properties, new.body);
        let mut message = Message { ttl_ms: new.ttl_ms, ..message };
        if !new.lite_topic.is_empty() {
            message.group_hash = 0; // all of a lite topic is in order
        }
        self.mark_id(&mut message);
        let lsn = self.commit_message(&message);
        (message.offset().unwrap_or_default(), self.ticket(topic, lsn, place))
    }

    /// Where a message stands when it is stored now.
    fn place_of(&self, topic: u32, queue: u32, new: &NewMessage) -> Place {
        if let Some(half) = &new.half {
            let wait_ms =
                if half.first_check_ms == 0 { self.config.transaction_timeout_ms } else { half.first_check_ms };
            return Place::Half(self.now_ms.saturating_add(wait_ms));
        }
        if new.due_ms > self.now_ms {
            return Place::Scheduled(new.due_ms);
        }
        let queue = self.state.topics.get(topic).and_then(|topic| topic.queues.get(queue as usize));
        Place::Queued(queue.map_or(0, |queue| queue.end))
    }

    /// What a producer keeps for a message that is not in its queue yet.
    pub(super) fn ticket(&self, topic: u32, lsn: Lsn, place: Place) -> Option<String> {
        let (purpose, due_ms) = match place {
            Place::Queued(_) => return None,
            Place::Scheduled(due_ms) => (Purpose::Recall, due_ms),
            Place::Half(_) => (Purpose::Transaction, 0),
        };
        let (key_id, key) = self.state.newest_handle_key()?;
        let ticket = Ticket { key_id, purpose, store_group: self.store_group, topic, lsn, due_ms };
        Some(ticket.seal(key))
    }
}

/// Messages to a LITE topic name their lite topic; others have none.
fn check_kind(topic: &Topic, messages: &[NewMessage]) -> Result<(), Error> {
    let name = &topic.settings.name;
    let sentence = match topic.is_lite() {
        true if messages.iter().any(|message| message.lite_topic.is_empty()) => {
            format!("topic {name:?} has type LITE; a message to it needs a lite topic")
        }
        false if messages.iter().any(|message| !message.lite_topic.is_empty()) => {
            format!("topic {name:?} is not of type LITE; a message to it has no lite topic")
        }
        _ => return Ok(()),
    };
    Err(Error::new(Reason::TypeConflict, sentence))
}

fn check_queue(topic: &Topic, message: &NewMessage) -> Result<(), Error> {
    if (message.queue as usize) < topic.queues.len() {
        return Ok(());
    }
    let (name, queues) = (&topic.settings.name, topic.queues.len());
    let sentence = format!("topic {name:?} has {queues} queues, and no queue {}", message.queue);
    Err(Error::new(Reason::Invalid, sentence))
}

fn check_size(batch: &Batch) -> Result<usize, Error> {
    let invalid = |sentence: String| Err(Error::new(Reason::Invalid, sentence));
    if batch.messages.is_empty() {
        return invalid("batch has no messages".to_owned());
    }
    let bytes = batch_bytes(batch);
    if bytes > BATCH_BYTES_MAX {
        return invalid(format!("batch takes {bytes} bytes; at most {BATCH_BYTES_MAX} are allowed"));
    }
    for message in &batch.messages {
        let bytes = message.head.len() + message.properties.len() + message.body.len();
        if bytes > MESSAGE_BYTES_MAX {
            return invalid(format!("message takes {bytes} bytes; at most {MESSAGE_BYTES_MAX} are allowed"));
        }
        // A key takes two bytes at least, so only long properties can have too many.
        if message.properties.len() > 2 * KEYS_MAX
            && fields::texts(&message.properties, system::KEYS).count() >= KEYS_MAX
        {
            return invalid(format!("message has too many keys; fewer than {KEYS_MAX} are allowed"));
        }
    }
    Ok(bytes)
}

pub(super) fn topic_not_found(name: &str) -> Error {
    Error::new(
        Reason::TopicNotFound,
        format!("topic {name:?} does not exist; create it with: centaur topic create {name}"),
    )
}
