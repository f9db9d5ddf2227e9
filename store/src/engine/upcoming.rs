//! The scheduled messages that come due next, read ahead from the index.

use std::collections::BTreeMap;

use crate::{
    metrics,
    state::index::{Index, Scheduled, Timer, TimerPlace, TimerScan},
};

/// Messages read ahead at a time; twice as many are held.
const AHEAD: usize = 4096;
/// How long nothing is read after the index could not be, ms.
const RETRY_MS: u64 = 5_000;

/// The messages that come due next. Scheduling of the leader, not derived state.
pub(super) struct Upcoming {
    /// Everything that is not done with up to where the scan is; everything at all if complete.
    timers: BTreeMap<TimerPlace, Scheduled>,
    scan: TimerScan,
    is_complete: bool,
    /// The index is not read before.
    retry_ms: u64,
}

impl Upcoming {
    /// Begins with the first message behind `done`.
    pub(super) fn new(done: TimerPlace) -> Self {
        Self { timers: BTreeMap::new(), scan: TimerScan::new(done), is_complete: false, retry_ms: 0 }
    }

    /// When the thread has to look again, store time; none if nothing is scheduled.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let looks_again = (!self.is_complete).then_some(self.retry_ms);
        self.first_due_ms().or(looks_again)
    }

    /// When the first of them is due, store time.
    pub(super) fn first_due_ms(&self) -> Option<u64> {
        self.timers.first_key_value().map(|(place, _)| place.due_ms)
    }

    /// A message was scheduled: the index has it.
    pub(super) fn add(&mut self, timer: Timer) {
        if !self.is_complete && timer.place > self.scan.after() {
            return;
        }
        self.timers.insert(timer.place, timer.message);
        if self.timers.len() > 2 * AHEAD
            && let Some(later) = self.timers.keys().nth(AHEAD).copied()
        {
            drop(self.timers.split_off(&later));
            let last = self.timers.last_key_value().map(|(place, _)| *place).unwrap_or_default();
            self.scan.set_after(last);
            self.is_complete = false;
        }
    }

    /// Reads ahead when there is nothing left.
    pub(super) fn refill(&mut self, index: &Index, now_ms: u64) {
        if self.is_complete || !self.timers.is_empty() || now_ms < self.retry_ms {
            return;
        }
        let mut found = Vec::new();
        match index.timers_after(&mut self.scan, AHEAD, &mut found) {
            Ok(has_more) => self.is_complete = !has_more,
            // Going on behind what cannot be read would lose it.
            Err(error) => {
                tracing::error!(%error, "scheduled messages wait: the index cannot be read; remove the run and start again");
                metrics::damaged();
                self.retry_ms = now_ms + RETRY_MS;
            }
        }
        self.timers.extend(found.into_iter().map(|timer| (timer.place, timer.message)));
    }

    /// Whether nothing that waits is due by now, for certain.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.first_due_ms().map_or(self.is_complete, |due_ms| due_ms > now_ms)
    }

    /// A message was taken back: the index knows.
    pub(super) fn forget(&mut self, place: TimerPlace) {
        self.timers.remove(&place);
    }

    /// The first messages that are due, up to `max`.
    pub(super) fn due(&self, now_ms: u64, max: usize) -> Vec<Timer> {
        let due = self.timers.iter().take_while(|(place, _)| place.due_ms <= now_ms).take(max);
        due.map(|(place, message)| Timer { place: *place, message: *message }).collect()
    }

    /// Everything up to `last` is done with.
    pub(super) fn forget_to(&mut self, last: TimerPlace) {
        while self.timers.first_key_value().is_some_and(|(place, _)| *place <= last) {
            self.timers.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use centaur_apis::units::Lsn;

    use super::*;
    use crate::{
        log::record::{Message, Place},
        state::index::QueueKey,
    };

    fn timer(due_ms: u64, lsn: u64) -> Timer {
        let queue = QueueKey { topic: 1, queue: 0 };
        let message = Scheduled { length: 96, queue, has_ttl: false, tag_hash: 0, group_hash: 0 };
        Timer { place: TimerPlace { due_ms, lsn: Lsn(lsn) }, message }
    }

    fn schedule(upcoming: &mut Upcoming, index: &mut Index, timer: Timer) {
        let place = Place::Scheduled(timer.place.due_ms);
        let message = Message::new(1, 0, place, 0, "".into(), "".into(), "".into());
        index.push_message(timer.place.lsn, timer.message.length, &message);
        upcoming.add(timer);
    }

    /// Times in no order, some of them equal, some scheduled while others come due.
    #[test]
    fn all_come_in_order_however_many_there_are() {
        let (mut upcoming, mut index) = (Upcoming::new(TimerPlace::default()), Index::new());
        let mut expected = Vec::new();
        let (mut fired, mut now_ms) = (Vec::new(), 0);
        for lsn in 1..60_000u64 {
            let due_ms = now_ms + 1 + lsn.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 20_000;
            expected.push(TimerPlace { due_ms, lsn: Lsn(lsn) });
            schedule(&mut upcoming, &mut index, timer(due_ms, lsn));
            assert!(upcoming.timers.len() <= 2 * AHEAD, "memory is bounded");
            if lsn % 7 == 0 {
                now_ms += 1;
                fire(&mut upcoming, &index, now_ms, &mut fired);
            }
        }
        while upcoming.next_ms().is_some() {
            now_ms += 1_000;
            fire(&mut upcoming, &index, now_ms, &mut fired);
        }
        expected.sort_unstable();
        assert_eq!(fired, expected);
    }

    fn fire(upcoming: &mut Upcoming, index: &Index, now_ms: u64, fired: &mut Vec<TimerPlace>) {
        loop {
            upcoming.refill(index, now_ms);
            let due = upcoming.due(now_ms, 300);
            let Some(last) = due.last() else { return };
            upcoming.forget_to(last.place);
            fired.extend(due.iter().map(|timer| timer.place));
        }
    }
}
