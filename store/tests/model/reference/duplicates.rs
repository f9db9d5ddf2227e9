//! Messages that a topic stores once within a time.

use super::{Message, Reference, Topic};

/// A message that was stored in a topic that wanted each id once.
#[derive(Clone, Debug)]
pub(super) struct Marked {
    pub topic: String,
    id: String,
    recorded_ms: u64,
    /// Where it came to at once; none of one that was stored apart.
    place: Option<(u32, u64)>,
    ticket: String,
}

impl Reference {
    /// The offset and ticket of a message with this id that the topic has seen lately, unless it was
    /// taken back.
    pub fn earlier(&self, topic: &str, id: &str) -> Option<(u64, String)> {
        let known = &self.topics[topic];
        let since_ms = self.now_ms.saturating_sub(known.dedupe_ms);
        let is_it =
            |m: &&Marked| m.topic == topic && m.id == id && m.recorded_ms >= since_ms && is_kept(known, m.place);
        let is_coming =
            |m: &&Marked| !self.timers.is_recalled(&m.ticket) && !self.transactions.was_rolled_back(&m.ticket);
        let found = self.marked.iter().filter(is_it).rfind(is_coming).filter(|_| known.dedupe_ms > 0)?;
        Some((found.place.map_or(0, |(_, offset)| offset), found.ticket.clone()))
    }

    /// Notes a message that was stored just now.
    pub fn mark(&mut self, topic: &str, message: &Message, place: Option<(u32, u64)>, ticket: &str) {
        if self.topics[topic].dedupe_ms > 0 {
            let (topic, id, ticket) = (topic.to_owned(), message.id.clone(), ticket.to_owned());
            self.marked.push(Marked { topic, id, recorded_ms: self.now_ms, place, ticket });
        }
    }
}

fn is_kept(topic: &Topic, place: Option<(u32, u64)>) -> bool {
    place.is_none_or(|(queue, offset)| offset >= topic.queues[queue as usize].start)
}
