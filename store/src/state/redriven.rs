//! Dead letters that were sent to their topics again: so that none is sent twice.

use std::collections::{BTreeMap, btree_map};

use centaur_apis::log::{Redriven, RedrivenState};

use super::offsets;

/// Ranges of offsets by dead-letter topic and queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedrivenOffsets {
    queues: BTreeMap<(u32, u32), Ranges>,
}

/// Ranges that neither overlap nor touch: first offset, and the one behind the last.
type Ranges = BTreeMap<u64, u64>;

impl RedrivenOffsets {
    pub fn add(&mut self, event: &Redriven) {
        let ranges = self.queues.entry((event.topic, event.queue)).or_default();
        for offset in offsets::unpack(&event.offsets) {
            insert(ranges, offset, offset.saturating_add(1));
        }
    }

    /// Whether a dead letter was sent again.
    pub fn contains(&self, topic: u32, queue: u32, offset: u64) -> bool {
        let ranges = self.queues.get(&(topic, queue));
        ranges.and_then(|ranges| ranges.range(..=offset).next_back()).is_some_and(|(_, end)| offset < *end)
    }

    /// Forgets what lies before the first offset left in a queue.
    pub fn retire(&mut self, topic: u32, queue: u32, start: u64) {
        let btree_map::Entry::Occupied(mut slot) = self.queues.entry((topic, queue)) else { return };
        let mut kept = slot.get_mut().split_off(&start);
        if let Some((_, end)) = slot.get().last_key_value().filter(|(_, end)| **end > start) {
            kept.insert(start, *end);
        }
        if kept.is_empty() {
            slot.remove();
        } else {
            slot.insert(kept);
        }
    }

    /// Forgets a topic that is gone.
    pub fn delete_topic(&mut self, topic: u32) {
        self.queues.retain(|(of, _), _| *of != topic);
    }

    /// As a snapshot has it.
    pub fn to_snapshot(&self) -> Vec<RedrivenState> {
        let saved = |((topic, queue), ranges): (&(u32, u32), &Ranges)| RedrivenState {
            topic: *topic,
            queue: *queue,
            starts: ranges.keys().copied().collect(),
            ends: ranges.values().copied().collect(),
        };
        self.queues.iter().map(saved).collect()
    }

    pub fn from_snapshot(saved: &[RedrivenState]) -> Self {
        let ranges = |saved: &RedrivenState| saved.starts.iter().copied().zip(saved.ends.iter().copied()).collect();
        Self { queues: saved.iter().map(|saved| ((saved.topic, saved.queue), ranges(saved))).collect() }
    }
}

/// Adds a range, which becomes one with those that it overlaps or touches.
fn insert(ranges: &mut Ranges, start: u64, end: u64) {
    let (mut start, mut end) = (start, end);
    while let Some((&first, &behind)) = ranges.range(..=end).next_back().filter(|(_, behind)| **behind >= start) {
        ranges.remove(&first);
        start = start.min(first);
        end = end.max(behind);
    }
    ranges.insert(start, end);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const END: u64 = 40;

    fn redriven(offsets: &[u64]) -> RedrivenOffsets {
        let mut redriven = RedrivenOffsets::default();
        for &offset in offsets {
            redriven.add(&Redriven { topic: 1, queue: 0, offsets: offsets::pack([offset]) });
        }
        redriven
    }

    fn contained(redriven: &RedrivenOffsets) -> Vec<u64> {
        (0..END).filter(|offset| redriven.contains(1, 0, *offset)).collect()
    }

    proptest! {
        #[test]
        fn ranges_hold_what_a_set_holds(added in proptest::collection::vec(0..END, 0..40), start in 0..END) {
            let mut redriven = redriven(&added);
            let set: BTreeSet<u64> = added.into_iter().collect();
            prop_assert_eq!(contained(&redriven), set.iter().copied().collect::<Vec<_>>());
            let gaps = set.iter().filter(|offset| **offset == 0 || !set.contains(&(**offset - 1))).count();
            prop_assert_eq!(redriven.queues.values().map(BTreeMap::len).sum::<usize>(), gaps);
            redriven.retire(1, 0, start);
            prop_assert_eq!(contained(&redriven), set.range(start..).copied().collect::<Vec<_>>());
            prop_assert_eq!(&RedrivenOffsets::from_snapshot(&redriven.to_snapshot()), &redriven);
        }
    }

    #[test]
    fn queues_and_topics_are_kept_apart() {
        let mut redriven = redriven(&[3]);
        assert!(!redriven.contains(1, 1, 3) && !redriven.contains(2, 0, 3));
        redriven.delete_topic(2);
        assert!(redriven.contains(1, 0, 3));
        redriven.delete_topic(1);
        assert_eq!(redriven, RedrivenOffsets::default());
    }
}
