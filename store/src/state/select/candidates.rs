//! Which queues a poll is served from, and in which order.

use crate::state::pop::{Due, Subscription, Turn};

/// The candidates of one answer.
pub trait Candidates {
    /// What is due of them, in the order it is delivered.
    fn due<'a>(&self, subscription: &'a Subscription, now_ms: u64) -> Box<dyn Iterator<Item = Due> + 'a> {
        Box::new(subscription.due(now_ms))
    }

    /// Takes the next queue to look at for fresh messages, each at most once. It is added to the
    /// turns again if it has more.
    fn next(&mut self, turn: &mut Turn) -> Option<u32>;
}

/// All queues, the next one in turn first.
#[derive(Debug, Default)]
pub struct InTurn {
    /// Queues to look at; not known before the first.
    left: Option<usize>,
}

/// All queues, the highest first.
#[derive(Debug)]
pub struct HighestFirst {
    below: u32,
}

impl Candidates for InTurn {
    fn next(&mut self, turn: &mut Turn) -> Option<u32> {
        self.left = self.left.unwrap_or(turn.len()).checked_sub(1);
        self.left.and_then(|_| turn.take())
    }
}

impl Default for HighestFirst {
    fn default() -> Self {
        Self { below: u32::MAX }
    }
}

impl Candidates for HighestFirst {
    fn next(&mut self, turn: &mut Turn) -> Option<u32> {
        self.below = turn.take_below(self.below)?;
        Some(self.below)
    }
}
