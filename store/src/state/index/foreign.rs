//! Messages of a part of the index whose records are in older segments: those that were scheduled or
//! half when they were stored, and came into their queues later. Their records have to outlive the
//! segment they are in for as long as their queues have them.

use std::ops::Range;

use centaur_apis::units::Lsn;

use super::{Index, QueueKey, RunError, u32_at, u64_at};

/// Bytes of such a message in a run.
pub(super) const FOREIGN_BYTES: usize = 24;

/// A message in its queue, and where its record is; sorts by that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Foreign {
    pub lsn: Lsn,
    pub queue: QueueKey,
    pub offset: u64,
}

impl Foreign {
    pub(super) fn encode(&self) -> [u8; FOREIGN_BYTES] {
        let mut out = [0; FOREIGN_BYTES];
        out[..8].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[8..12].copy_from_slice(&self.queue.topic.to_le_bytes());
        out[12..16].copy_from_slice(&self.queue.queue.to_le_bytes());
        out[16..].copy_from_slice(&self.offset.to_le_bytes());
        out
    }

    /// Reads what `encode` wrote at `at` of a page; callers pass places inside of it.
    pub(super) fn decode(page: &[u8], at: usize) -> Self {
        Self {
            lsn: Lsn(u64_at(page, at)),
            queue: QueueKey { topic: u32_at(page, at + 8), queue: u32_at(page, at + 12) },
            offset: u64_at(page, at + 16),
        }
    }
}

impl Index {
    /// Appends the messages in later segments whose records lie in `lsns`: one sealed segment, or
    /// several. No order.
    pub fn foreign_into(&self, lsns: Range<Lsn>, out: &mut Vec<Foreign>) -> Result<(), RunError> {
        for run in self.runs().filter(|run| run.base() >= lsns.end) {
            run.foreign_into(&lsns, out)?;
        }
        for open in self.memory_from(lsns.end) {
            out.extend(open.foreign().filter(|foreign| lsns.contains(&foreign.lsn)));
        }
        Ok(())
    }
}
