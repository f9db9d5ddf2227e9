//! Dead letters on their way out, and back to their topics.

use std::collections::BTreeSet;

use super::{LITE, Message, Origin, Queue, Reference};

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Exhausted,
    Forwarded,
}

/// A message that died, as it was, and where.
#[derive(Clone, Debug)]
pub struct Dead {
    pub message: Message,
    pub topic: String,
    pub queue: u32,
    pub offset: u64,
    pub attempts: u32,
    pub cause: Cause,
}

/// What sending a dead letter again has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// It goes to the end of this queue of that topic.
    Sent(String, u32, u64),
    Already(String),
    /// There is no such message.
    Nothing,
    NoDeadLetter,
    NoTopic,
}

/// Topic, queue and offset of those sent again.
#[derive(Debug, Default)]
pub(super) struct RedrivenPlaces(BTreeSet<(String, u32, u64)>);

impl RedrivenPlaces {
    pub fn forget_topic(&mut self, topic: &str) {
        self.0.retain(|(of_topic, ..)| of_topic != topic);
    }
}

impl Reference {
    /// What becomes of a dead letter that is sent again. `chosen` is the queue that a lite topic has
    /// in the store, if it comes into being by that.
    pub fn redrive(&self, grave: &str, queue: u32, offset: u64, chosen: u32) -> Redriven {
        let Some(kept) = self.topics[grave].queues.get(queue as usize) else { return Redriven::Nothing };
        if !(kept.start..kept.end()).contains(&offset) {
            return Redriven::Nothing;
        }
        let Some(Origin { topic, queue: origin, .. }) = kept.get(offset).origin.clone() else {
            return Redriven::NoDeadLetter;
        };
        if self.redriven.0.contains(&(grave.to_owned(), queue, offset)) {
            return Redriven::Already(topic);
        }
        let Some(known) = self.topics.get(&topic) else { return Redriven::NoTopic };
        let to = if topic == LITE {
            known.lite_topics.get(&kept.get(offset).lite_topic).map_or(chosen, |lite| lite.queue)
        } else {
            origin % u32::try_from(known.queues.len()).expect("few")
        };
        Redriven::Sent(topic, to, known.queues.get(to as usize).map_or(0, Queue::end))
    }

    /// A dead letter was sent again, with these bytes.
    pub fn note_redriven(&mut self, grave: &str, (queue, offset): (u32, u64), to: u32, again: Message) {
        let Redriven::Sent(topic, to, _) = self.redrive(grave, queue, offset, to) else {
            panic!("it was not to be sent")
        };
        self.redriven.0.insert((grave.to_owned(), queue, offset));
        if topic == LITE {
            self.lite_queue(&again.lite_topic, &[(again.lite_topic.clone(), to)].into());
        }
        self.append(&topic, to, vec![again]);
    }
}
