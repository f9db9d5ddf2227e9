//! Messages that wait for their time. Which ones there are is in the index; here is how far they
//! are done with, and which of those to come were recalled.

use centaur_apis::log::{TimerRecalled, TimersFired};

/// What is known of scheduled messages besides the index.
#[derive(Clone, Debug, Default)]
pub struct Timers {}

impl Timers {
    /// One more message of a topic waits for its time.
    pub fn schedule(&mut self, _topic: u32) {}

    pub fn fire(&mut self, _event: &TimersFired) {}

    pub fn recall(&mut self, _event: &TimerRecalled) {}
}
