//! Messages on their way in: each batch entirely or not at all.

use centaur_apis::{
    fields::{self, system},
    store::{Batch, BatchResult, Error, NewMessage, Reason},
};

use super::Machine;
use crate::{log::record::Message, metrics};

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
    message.head.len() + 5 * message.properties.len() + message.body.len() + RECORD_OVERHEAD
}

impl Machine {
    /// Stores batches; one that is refused leaves the others alone.
    pub fn append_batches(&mut self, batches: Vec<Batch>) -> Vec<BatchResult> {
        let outcome = |batch| match self.append_batch(batch) {
            Ok(first_offset) => BatchResult { error: None, first_offset },
            Err(error) => BatchResult { error: Some(error), first_offset: 0 },
        };
        batches.into_iter().map(outcome).collect()
    }

    fn append_batch(&mut self, batch: Batch) -> Result<u64, Error> {
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
        let queue = topic.queues.get(batch.queue as usize).ok_or_else(|| {
            let sentence =
                format!("topic {:?} has {} queues, and no queue {}", batch.topic, topic.queues.len(), batch.queue);
            Error::new(Reason::Invalid, sentence)
        })?;
        let first = queue.end;
        self.reserve(bytes);
        metrics::stored(batch.messages.len() as u64, bytes as u64);
        for (offset, new) in (first..).zip(batch.messages) {
            let message = Message::new(id, batch.queue, offset, self.now_ms, new.head, new.properties, new.body);
            self.commit_message(&message);
        }
        Ok(first)
    }
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
