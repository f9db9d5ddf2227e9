//! Scheduled messages that were taken back. Each part of the index has those whose recall is recorded
//! in its segment, sorted by the time they would have come due; the messages may be in older parts.

use std::{collections::HashSet, ops::RangeInclusive};

use centaur_apis::{hash64, units::Lsn};

use super::{Index, RunError, Timer, TimerPlace, u64_at};

/// Bytes of a recall in a run.
pub(super) const RECALL_BYTES: usize = 16;

impl TimerPlace {
    pub(super) fn encode(&self) -> [u8; RECALL_BYTES] {
        let mut out = [0; RECALL_BYTES];
        out[..8].copy_from_slice(&self.due_ms.to_le_bytes());
        out[8..].copy_from_slice(&self.lsn.0.to_le_bytes());
        out
    }

    /// Reads what `encode` wrote at `at` of a page; callers pass places inside of it.
    pub(super) fn decode(page: &[u8], at: usize) -> Self {
        Self { due_ms: u64_at(page, at), lsn: Lsn(u64_at(page, at + 8)) }
    }

    /// The look-up hash of its recall: the filter of a run tells that there is none with one page. No
    /// text that users give has this beginning.
    pub(super) fn recall_key(&self) -> u64 {
        let mut text = *b"\xffrecall\0........";
        text[8..].copy_from_slice(&self.lsn.0.to_le_bytes());
        hash64(&text)
    }
}

impl Index {
    /// Notes in the open segment that the scheduled message at a place was taken back, by the record
    /// at `lsn`.
    pub fn push_recalled(&mut self, place: TimerPlace, lsn: Lsn) {
        self.open_mut().push_recalled(place, lsn);
    }

    /// Whether the scheduled message at a place was taken back.
    pub fn is_recalled(&self, place: TimerPlace) -> Result<bool, RunError> {
        if self.in_memory().any(|open| open.recalled().contains(&place)) {
            return Ok(true);
        }
        // A recall is recorded behind the message.
        for run in self.runs().filter(|run| run.end() > place.lsn) {
            if run.is_recalled(place)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Leaves out of `timers`, which are in the order they come due, from number `first` on those that
    /// were taken back.
    pub(super) fn leave_out_recalled(&self, timers: &mut Vec<Timer>, first: usize) -> Result<(), RunError> {
        let Some(places) = range_of(&timers[first..]) else { return Ok(()) };
        let mut recalled = HashSet::new();
        for open in self.in_memory() {
            recalled.extend(open.recalled().range(places.clone()));
        }
        for run in self.runs() {
            run.recalled_in(&places, &mut recalled)?;
        }
        if !recalled.is_empty() {
            let kept = timers.split_off(first).into_iter().filter(|timer| !recalled.contains(&timer.place));
            timers.extend(kept);
        }
        Ok(())
    }
}

fn range_of(timers: &[Timer]) -> Option<RangeInclusive<TimerPlace>> {
    Some(timers.first()?.place..=timers.last()?.place)
}
