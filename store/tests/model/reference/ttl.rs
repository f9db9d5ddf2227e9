//! Messages that are of use for a while only, and those that no group gets because the while is over.

use super::{Ask, LITE, Message, Reader, Reference, Topic};

/// Messages settled for one answer because they are of no use any more.
const SETTLED_MAX: usize = 128;

impl Topic {
    /// Whether a message that came into its queue is still of use.
    pub(super) fn is_of_use(&self, message: &Message, now_ms: u64) -> bool {
        let ttl_ms = if message.ttl_ms > 0 { message.ttl_ms } else { self.ttl_ms };
        ttl_ms == 0 || message.stored_ms.saturating_add(ttl_ms) > now_ms
    }

    /// Whether a poll gets a message that its group never had.
    pub(super) fn wanted<'a>(&'a self, ask: &'a Ask, now_ms: u64) -> impl Fn(&Message) -> bool + 'a {
        move |message| ask.matches(message) && self.is_of_use(message, now_ms)
    }
}

impl Reference {
    /// Whether a message that a group had, or passed over, is delivered to it again.
    pub(super) fn is_of_use(&self, reader: &Reader, (queue, offset): (u32, u64)) -> bool {
        let topic = &self.topics[&reader.1];
        topic.is_of_use(topic.queues[queue as usize].get(offset), self.now_ms)
    }

    /// Settles what has outlived its time, among what is looked at for one answer: by the time that
    /// it is due, until there is enough to redeliver. Whether that was all one answer settles: more
    /// may be left.
    pub(super) fn settle_expired(&mut self, ask: &Ask) -> bool {
        let (mut found, mut expired) = (0, Vec::new());
        for place in self.due_for(ask) {
            if found == ask.messages || expired.len() == SETTLED_MAX {
                break;
            }
            if self.is_of_use(&ask.reader, place) {
                found += 1;
            } else {
                expired.push(place);
            }
        }
        for (queue, offset) in &expired {
            self.cursor(&ask.reader, *queue).rows.remove(offset);
        }
        expired.len() == SETTLED_MAX
    }

    /// Whether the model can tell what an answer settles: which message group is looked at first is
    /// the store's choice, so all have to be looked at.
    pub fn foresees(&self, ask: &Ask) -> bool {
        if !self.subscriptions.contains_key(&ask.reader) {
            return true;
        }
        let due = self.due_for(ask);
        let expired = due.iter().filter(|place| !self.is_of_use(&ask.reader, **place)).count();
        let looks_at_all = if ask.reader.1 == LITE {
            ask.bytes == u64::MAX && self.available(ask) < ask.messages
        } else {
            due.len() <= ask.messages
        };
        expired == 0 || !self.is_fifo(&ask.reader) || (looks_at_all && expired < SETTLED_MAX)
    }

    /// What is due of all that a poll may get.
    fn due_for(&self, ask: &Ask) -> Vec<(u32, u64)> {
        let mut due = self.due(&ask.reader);
        if let Some(offered) = self.offered(ask) {
            due.retain(|(queue, _)| offered.contains(queue));
        }
        due
    }
}
