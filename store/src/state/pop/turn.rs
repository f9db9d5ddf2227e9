//! Whose turn it is. Scheduling of the leader, not derived state: fair again after any restart.

use std::collections::BTreeSet;

/// The order in which a subscription's queues and redeliveries are served.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// Queues that may have something fresh.
    fresh: BTreeSet<u32>,
    /// Turns go round: the next queue is the first from here on.
    next: u32,
    /// Messages delivered while redeliveries waited; a share of them is owed to these.
    pub owed: u32,
    /// Arrivals of the topic that the turns know; none before the first look.
    pub seen: Option<u64>,
    /// Percent of an answer that is owed to all priorities alike.
    pub shared: u32,
}

impl Turn {
    /// Notes that a queue may have something fresh.
    pub fn add(&mut self, queue: u32) {
        self.fresh.insert(queue);
    }

    /// Takes the queue whose turn it is.
    pub fn take(&mut self) -> Option<u32> {
        let queue = self.fresh.range(self.next..).next().or(self.fresh.first()).copied()?;
        self.next = queue.wrapping_add(1);
        self.fresh.remove(&queue);
        Some(queue)
    }

    /// Takes the highest queue below a bound, in or out of turn.
    pub fn take_below(&mut self, bound: u32) -> Option<u32> {
        let queue = self.fresh.range(..bound).next_back().copied()?;
        self.fresh.remove(&queue);
        Some(queue)
    }

    /// Queues that may have something fresh.
    pub fn len(&self) -> usize {
        self.fresh.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_its_turn_before_any_has_another() {
        let mut turn = Turn::default();
        (0..4).for_each(|queue| turn.add(queue));
        let mut served = Vec::new();
        for _ in 0..8 {
            let queue = turn.take().expect("one of four");
            turn.add(queue);
            served.push(queue);
        }
        assert_eq!(served, [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn the_highest_comes_first_and_takes_no_turn() {
        let mut turn = Turn::default();
        [1, 5, 3].into_iter().for_each(|queue| turn.add(queue));
        assert_eq!(turn.take_below(u32::MAX), Some(5));
        turn.add(5);
        assert_eq!((turn.take_below(5), turn.take_below(3), turn.take_below(1)), (Some(3), Some(1), None));
        assert_eq!((turn.take(), turn.take()), (Some(5), None));
    }
}
