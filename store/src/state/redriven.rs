//! Dead letters that were sent to their topics again: so that none is sent twice.

use centaur_apis::log::Redriven;

/// Ranges of offsets by queue.
#[derive(Clone, Debug, Default)]
pub struct RedrivenOffsets {}

impl RedrivenOffsets {
    pub fn add(&mut self, _event: &Redriven) {}
}
