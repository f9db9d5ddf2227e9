//! Where messages are: from (queue, offset), a time or a key to places in the log.
//!
//! The log is indexed in parts, one per segment. The part of the open segment is in memory and
//! grows ([`Open`]); the part of a sealed segment is an immutable file beside it ([`Run`]), and
//! leaves with it. [`Index`] is all parts of one log. Nothing here reads the log: an index run that
//! is missing or damaged is said to be so, and whoever owns the log pushes its segment again.
//! Bytes of a run: docs/format.md.

mod decided;
mod foreign;
mod log_index;
mod open;
mod pages;
mod recalled;
mod run;
mod run_writer;
#[cfg(test)]
mod tests;
mod timer;
#[cfg(test)]
mod timer_tests;

use centaur_apis::units::Lsn;

pub use foreign::Foreign;
pub use log_index::Index;
pub use open::Open;
pub use run::{Run, RunError, Source};
pub use timer::{Scheduled, Timer, TimerPlace, TimerScan};

/// A queue of a topic; sorts by topic, then queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey {
    pub topic: u32,
    pub queue: u32,
}

/// Where one message is, and what can be said about it without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub lsn: Lsn,
    /// Bytes of the record.
    pub length: u32,
    /// 0 without a tag.
    pub tag_hash: u64,
    /// 0 without a message group.
    pub group_hash: u64,
    /// Store time, ms: when it came into its queue.
    pub stored_ms: u64,
    /// The message itself says how long it may wait in its queue.
    pub has_ttl: bool,
}

/// The messages of one queue in one segment: `count` of them, offsets without a gap. Those that
/// are gone from a thinned segment count as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub queue: QueueKey,
    /// Offset of the first one.
    pub first: u64,
    pub count: u32,
    /// Store time of the first and of the last one, ms.
    pub first_ms: u64,
    pub last_ms: u64,
}

impl Stretch {
    /// The offset after the last one.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// Bytes of an entry in memory and in a run.
const ENTRY_BYTES: usize = 32;
/// Bytes that hold a place or a time in a packed entry.
const SHORT_BYTES: usize = 6;
/// The bit of a packed length that says that the message has a time to live of its own.
const TTL_BIT: u32 = 1 << 31;
/// Distances and times below this fit a packed entry: 128 TiB, four thousand years.
const SHORT_MAX: u64 = 1 << 47;

/// An entry in the form it has in memory and in a run; its place counts from its segment's origin.
#[derive(Clone, Copy)]
struct Packed([u8; ENTRY_BYTES]);

impl Entry {
    /// Packs the entry. Its place may be before `origin`: what was delayed is in an older segment.
    fn pack(&self, origin: Lsn) -> Packed {
        let distance = self.lsn.0.wrapping_sub(origin.0);
        assert!(distance.wrapping_add(SHORT_MAX) < 2 * SHORT_MAX, "a log is shorter than 128 TiB");
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..6].copy_from_slice(&distance.to_le_bytes()[..SHORT_BYTES]);
        bytes[6..12].copy_from_slice(&self.stored_ms.min(SHORT_MAX - 1).to_le_bytes()[..SHORT_BYTES]);
        let length = self.length | if self.has_ttl { TTL_BIT } else { 0 };
        bytes[12..16].copy_from_slice(&length.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.tag_hash.to_le_bytes());
        bytes[24..].copy_from_slice(&self.group_hash.to_le_bytes());
        Packed(bytes)
    }
}

impl Packed {
    fn unpack(&self, origin: Lsn) -> Entry {
        let Self(bytes) = self;
        let distance = short_at(bytes, 0);
        // The sign is in the 48th bit.
        let distance = (distance ^ SHORT_MAX).wrapping_sub(SHORT_MAX);
        Entry {
            lsn: Lsn(origin.0.wrapping_add(distance)),
            length: u32_at(bytes, 12) & !TTL_BIT,
            tag_hash: u64_at(bytes, 16),
            group_hash: u64_at(bytes, 24),
            stored_ms: self.stored_ms(),
            has_ttl: u32_at(bytes, 12) & TTL_BIT != 0,
        }
    }

    fn stored_ms(&self) -> u64 {
        short_at(&self.0, 6)
    }

    /// What stands for a message that is gone, behind this one in its queue. It has this one's time,
    /// so that a queue stays sorted by time.
    fn gone(&self) -> Self {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[6..12].copy_from_slice(&self.0[6..12]);
        Self(bytes)
    }

    /// No record is without bytes.
    fn is_gone(&self) -> bool {
        u32_at(&self.0, 12) == 0
    }
}

/// A number of six bytes; callers pass places inside what they have measured.
fn short_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(bytes[at + 4]) << 32 | u64::from(bytes[at + 5]) << 40
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
