//! Messages that wait for their time. Which ones there are, and which of them were recalled, is in
//! the index; here is how far they are done with, and how many wait.

use std::collections::BTreeMap;

use centaur_apis::{
    log::{PendingState, TimerRecalled, TimersFired, TimersState},
    units::Lsn,
};

use super::index::TimerPlace;

/// What is known of scheduled messages besides the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// Everything up to here is delivered, or never will be.
    done: TimerPlace,
    /// Messages that wait and were not recalled, by topic.
    pending: BTreeMap<u32, u64>,
}

impl Timers {
    /// One more message of a topic waits for its time.
    pub fn schedule(&mut self, topic: u32) {
        *self.pending.entry(topic).or_default() += 1;
    }

    /// Messages came due: some of them are in their queues now, none of them waits.
    pub fn fire(&mut self, event: &TimersFired) {
        self.done = self.done.max(TimerPlace { due_ms: event.due_ms, lsn: Lsn(event.lsn) });
        for released in &event.released {
            self.forget_one(released.topic);
        }
    }

    /// A message will not be delivered. Each is recalled once: whoever records it has looked.
    pub fn recall(&mut self, event: &TimerRecalled) {
        if TimerPlace::of_recalled(event) > self.done {
            self.forget_one(event.topic);
        }
    }

    /// Messages of a deleted topic wait for nothing any more.
    pub fn delete_topic(&mut self, topic: u32) {
        self.pending.remove(&topic);
    }

    /// Everything up to here is done with.
    pub fn done(&self) -> TimerPlace {
        self.done
    }

    /// Messages of a topic that wait for their time.
    pub fn pending(&self, topic: u32) -> u64 {
        self.pending.get(&topic).copied().unwrap_or_default()
    }

    /// Messages of all topics that wait for their time.
    pub fn pending_total(&self) -> u64 {
        self.pending.values().sum()
    }

    pub fn to_snapshot(&self) -> TimersState {
        let pending = |(topic, count): (&u32, &u64)| PendingState { topic: *topic, count: *count };
        TimersState {
            due_ms: self.done.due_ms,
            lsn: self.done.lsn.0,
            pending: self.pending.iter().map(pending).collect(),
        }
    }

    pub fn from_snapshot(saved: &TimersState) -> Self {
        Self {
            done: TimerPlace { due_ms: saved.due_ms, lsn: Lsn(saved.lsn) },
            pending: saved.pending.iter().map(|pending| (pending.topic, pending.count)).collect(),
        }
    }

    fn forget_one(&mut self, topic: u32) {
        let Some(count) = self.pending.get_mut(&topic) else { return };
        *count -= 1;
        if *count == 0 {
            self.pending.remove(&topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use centaur_apis::log::Released;

    use super::*;

    fn fired(due_ms: u64, lsn: u64, topics: &[u32]) -> TimersFired {
        let released = topics.iter().map(|topic| Released { topic: *topic, ..Default::default() }).collect();
        TimersFired { due_ms, lsn, at_ms: due_ms, released, done: 0 }
    }

    fn recalled(due_ms: u64, lsn: u64) -> TimerRecalled {
        TimerRecalled { topic: 1, due_ms, lsn }
    }

    #[test]
    fn what_waits_is_counted_once() {
        let mut timers = Timers::default();
        [1, 1, 1, 1, 2].into_iter().for_each(|topic| timers.schedule(topic));
        timers.recall(&recalled(50, 8));
        assert_eq!((timers.pending(1), timers.pending(2), timers.pending_total()), (3, 1, 4));
        timers.fire(&fired(60, 16, &[1, 2]));
        timers.recall(&recalled(55, 24)); // too late
        assert_eq!((timers.pending(1), timers.pending(2), timers.pending_total()), (2, 0, 2));
        timers.delete_topic(1);
        timers.fire(&fired(70, 0, &[]));
        assert_eq!(timers.pending_total(), 0);
        assert_eq!(Timers::from_snapshot(&timers.to_snapshot()), timers);
    }
}
