//! Answers that a repeated attempt gets again: each is kept as long as one of its leases stands.

use std::collections::{BTreeMap, HashMap};

use super::Granted;

/// Answers of one subscription; the oldest goes first.
const ATTEMPTS_MAX: usize = 1024;

/// Remembered answers of one subscription.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    answers: HashMap<u64, Answer>,
    /// Attempts by number, oldest first.
    order: BTreeMap<u64, u64>,
    next: u64,
    /// The attempt that got a lease, by queue and offset.
    of: HashMap<(u32, u64), u64>,
}

#[derive(Clone, Debug)]
struct Answer {
    number: u64,
    granted: Vec<Granted>,
}

impl Attempts {
    /// What is left of the answer to an attempt.
    pub fn get(&self, attempt: u64) -> Option<&[Granted]> {
        self.answers.get(&attempt).map(|answer| answer.granted.as_slice())
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[Granted])> {
        self.order.values().filter_map(|attempt| Some((*attempt, self.get(*attempt)?)))
    }

    /// Adds to an answer: one from several queues, or with redeliveries, comes in several records.
    pub fn remember(&mut self, attempt: u64, granted: &[Granted]) {
        for &lease in granted {
            self.end(lease.queue, lease.offset);
            self.of.insert((lease.queue, lease.offset), attempt);
            let (order, next) = (&mut self.order, &mut self.next);
            let new = || {
                *next += 1;
                order.insert(*next, attempt);
                Answer { number: *next, granted: Vec::new() }
            };
            self.answers.entry(attempt).or_insert_with(new).granted.push(lease);
        }
        if self.order.len() > ATTEMPTS_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            for lease in self.answers.remove(&oldest).into_iter().flat_map(|answer| answer.granted) {
                self.of.remove(&(lease.queue, lease.offset));
            }
        }
    }

    /// A lease has ended: the message is settled, or has another handle.
    pub fn end(&mut self, queue: u32, offset: u64) {
        let Some(attempt) = self.of.remove(&(queue, offset)) else { return };
        let Some(answer) = self.answers.get_mut(&attempt) else { return };
        answer.granted.retain(|lease| (lease.queue, lease.offset) != (queue, offset));
        if answer.granted.is_empty() {
            self.order.remove(&answer.number);
            self.answers.remove(&attempt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(queue: u32, offset: u64) -> Granted {
        Granted { queue, offset, generation: 1 }
    }

    fn all(attempts: &Attempts) -> Vec<(u64, Vec<(u32, u64)>)> {
        let places = |granted: &[Granted]| granted.iter().map(|lease| (lease.queue, lease.offset)).collect();
        attempts.iter().map(|(attempt, granted)| (attempt, places(granted))).collect()
    }

    #[test]
    fn an_answer_goes_with_its_last_lease() {
        let mut attempts = Attempts::default();
        attempts.remember(7, &[lease(0, 1), lease(0, 2)]);
        attempts.remember(8, &[lease(1, 1)]);
        attempts.remember(7, &[lease(2, 5)]);
        attempts.remember(9, &[]);
        assert_eq!(all(&attempts), [(7, vec![(0, 1), (0, 2), (2, 5)]), (8, vec![(1, 1)])]);
        attempts.end(0, 1);
        attempts.end(1, 1);
        attempts.end(1, 1);
        assert_eq!(all(&attempts), [(7, vec![(0, 2), (2, 5)])]);
        attempts.remember(8, &[lease(2, 5)]); // delivered again
        attempts.end(0, 2);
        assert_eq!(all(&attempts), [(8, vec![(2, 5)])]);
        attempts.end(2, 5);
        assert!(attempts.answers.is_empty() && attempts.order.is_empty() && attempts.of.is_empty());
    }

    #[test]
    fn the_oldest_makes_way() {
        let mut attempts = Attempts::default();
        (0..=ATTEMPTS_MAX as u64).for_each(|attempt| attempts.remember(attempt + 1, &[lease(0, attempt)]));
        assert_eq!((attempts.get(1), attempts.get(2)), (None, Some(&[lease(0, 1)][..])));
        assert_eq!((attempts.answers.len(), attempts.of.len()), (ATTEMPTS_MAX, ATTEMPTS_MAX));
    }
}
