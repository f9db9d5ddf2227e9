//! Messages that wait for their time. Which ones there are is in the index; here is how far they
//! are done with, and which of those to come were recalled.

use std::collections::BTreeMap;

use centaur_apis::{
    log::{PendingState, TimerRecalled, TimersFired, TimersState},
    units::Lsn,
};

use super::index::TimerPlace;

/// What was recalled is remembered for as long after it would have come due, ms: whoever recalls it
/// again, because no answer came, gets the same one.
const RECALLED_KEPT_MS: u64 = 60_000;

/// What is known of scheduled messages besides the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// Everything up to here is delivered, or never will be.
    done: TimerPlace,
    /// Recalled messages and their topics.
    recalled: BTreeMap<TimerPlace, u32>,
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
        let kept_from_ms = self.done.due_ms.saturating_sub(RECALLED_KEPT_MS);
        self.recalled = self.recalled.split_off(&TimerPlace { due_ms: kept_from_ms, lsn: Lsn(0) });
    }

    /// A message will not be delivered.
    pub fn recall(&mut self, event: &TimerRecalled) {
        let place = TimerPlace { due_ms: event.due_ms, lsn: Lsn(event.lsn) };
        if place > self.done && self.recalled.insert(place, event.topic).is_none() {
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

    pub fn is_recalled(&self, place: TimerPlace) -> bool {
        self.recalled.contains_key(&place)
    }

    /// Messages of a topic that wait for their time.
    pub fn pending(&self, topic: u32) -> u64 {
        self.pending.get(&topic).copied().unwrap_or_default()
    }

    /// Messages of all topics that wait for their time.
    pub fn pending_total(&self) -> u64 {
        self.pending.values().sum()
    }

    /// Recalled messages that would have come due, and are remembered.
    pub fn recalled_and_done(&self) -> impl Iterator<Item = TimerPlace> {
        self.recalled.range(..=self.done).map(|(place, _)| *place)
    }

    /// Messages that wait for their time, and recalled ones that are remembered.
    pub fn remembered(&self) -> u64 {
        self.pending_total() + self.recalled.len() as u64
    }

    pub fn to_snapshot(&self) -> TimersState {
        let recalled = |(place, topic): (&TimerPlace, &u32)| TimerRecalled {
            topic: *topic,
            due_ms: place.due_ms,
            lsn: place.lsn.0,
        };
        let pending = |(topic, count): (&u32, &u64)| PendingState { topic: *topic, count: *count };
        TimersState {
            due_ms: self.done.due_ms,
            lsn: self.done.lsn.0,
            recalled: self.recalled.iter().map(recalled).collect(),
            pending: self.pending.iter().map(pending).collect(),
        }
    }

    pub fn from_snapshot(saved: &TimersState) -> Self {
        let recalled =
            |recalled: &TimerRecalled| (TimerPlace { due_ms: recalled.due_ms, lsn: Lsn(recalled.lsn) }, recalled.topic);
        Self {
            done: TimerPlace { due_ms: saved.due_ms, lsn: Lsn(saved.lsn) },
            recalled: saved.recalled.iter().map(recalled).collect(),
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

    const MINUTE_MS: u64 = 60_000;

    fn fired(due_ms: u64, lsn: u64, topics: &[u32]) -> TimersFired {
        let released = topics.iter().map(|topic| Released { topic: *topic, ..Default::default() }).collect();
        TimersFired { due_ms, lsn, at_ms: due_ms, released, done: 0 }
    }

    fn recalled(due_ms: u64, lsn: u64) -> TimerRecalled {
        TimerRecalled { topic: 1, due_ms, lsn }
    }

    fn place(due_ms: u64, lsn: u64) -> TimerPlace {
        TimerPlace { due_ms, lsn: Lsn(lsn) }
    }

    #[test]
    fn what_waits_is_counted_once() {
        let mut timers = Timers::default();
        [1, 1, 1, 1, 2].into_iter().for_each(|topic| timers.schedule(topic));
        timers.recall(&recalled(50, 8));
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

    #[test]
    fn a_recall_is_remembered_for_a_while() {
        let mut timers = Timers::default();
        timers.schedule(1);
        timers.recall(&recalled(MINUTE_MS, 8));
        timers.fire(&fired(2 * MINUTE_MS, 0, &[]));
        assert!(timers.is_recalled(place(MINUTE_MS, 8)));
        assert_eq!(Timers::from_snapshot(&timers.to_snapshot()), timers);
        timers.fire(&fired(2 * MINUTE_MS + 1, 0, &[]));
        assert!(!timers.is_recalled(place(MINUTE_MS, 8)));
    }
}
