//! Messages that wait for their time, and those that were taken back before.

use super::{Message, Reference};

/// A scheduled message that is not done with, or was recalled.
#[derive(Clone, Debug)]
pub struct Timer {
    pub topic: String,
    pub queue: u32,
    pub due_ms: u64,
    /// Of the message, in the order of all.
    pub order: u64,
    pub ticket: String,
    pub is_recalled: bool,
}

/// What a recall has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// The id of the message.
    Done(String),
    TooLate,
}

#[derive(Debug, Default)]
pub(super) struct Timers(Vec<Timer>);

impl Timers {
    pub fn forget_topic(&mut self, topic: &str) {
        self.0.retain(|timer| timer.topic != topic);
    }

    pub fn is_recalled(&self, ticket: &str) -> bool {
        self.0.iter().any(|timer| timer.ticket == ticket && timer.is_recalled)
    }
}

impl Reference {
    /// A message was scheduled.
    pub fn schedule(&mut self, topic: &str, queue: u32, due_ms: u64, ticket: String, message: Message) {
        assert!(due_ms > self.now_ms);
        let message = self.record(message);
        let order = message.order;
        self.topics.get_mut(topic).expect("a topic").apart.push(message);
        let topic = topic.to_owned();
        self.timers.0.push(Timer { topic, queue, due_ms, order, ticket, is_recalled: false });
    }

    /// What is due comes into its queue, the earliest first, and of one time the one sent first.
    pub(super) fn fire_due(&mut self) {
        let now_ms = self.now_ms;
        let is_due = |timer: &Timer| timer.due_ms <= now_ms;
        let comes = |timer: &mut Timer| is_due(timer) && !timer.is_recalled;
        let mut due: Vec<Timer> = self.timers.0.extract_if(.., comes).collect();
        due.sort_by_key(|timer| (timer.due_ms, timer.order));
        for timer in due {
            self.release(&timer.topic, timer.queue, timer.order);
        }
    }

    /// Whether a ticket is of a message that was recalled, and whose time is over: retention may have
    /// taken the memory of it.
    pub fn may_be_forgotten(&self, ticket: &str) -> bool {
        let is_over = |timer: &Timer| timer.ticket == ticket && timer.is_recalled && timer.due_ms <= self.now_ms;
        self.timers.0.iter().any(is_over)
    }

    /// Takes back the message of a ticket that was made for this topic.
    pub fn recall(&mut self, topic: &str, ticket: &str) -> Recalled {
        let Some(timer) = self.timers.0.iter_mut().find(|timer| timer.ticket == ticket) else {
            return Recalled::TooLate;
        };
        assert_eq!(timer.topic, topic);
        timer.is_recalled = true;
        let apart = &self.topics[topic].apart;
        Recalled::Done(apart.iter().find(|message| message.order == timer.order).expect("it waits").id.clone())
    }

    /// What waits, of one topic or of all, the next due first.
    pub fn scheduled(&self, topic: Option<&str>) -> Vec<(&Timer, &Message)> {
        let waits = |timer: &&Timer| !timer.is_recalled && topic.is_none_or(|topic| topic == timer.topic);
        let mut waiting: Vec<&Timer> = self.timers.0.iter().filter(waits).collect();
        waiting.sort_by_key(|timer| (timer.due_ms, timer.order));
        let message = |timer: &Timer| {
            let apart = &self.topics[&timer.topic].apart;
            apart.iter().find(|message| message.order == timer.order).expect("it waits")
        };
        waiting.into_iter().map(|timer| (timer, message(timer))).collect()
    }
}
