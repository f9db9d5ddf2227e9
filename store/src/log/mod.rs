//! The commit log: the one truth of a store group, from which everything else is computed.
//!
//! [`open`] locks a directory, recovers it and gives a [`Log`] to the one thread that writes and a
//! [`Reader`] to everybody else. What records mean is not known here; where they lie, that they
//! are whole, and what is left of them after a crash, is. Formats: docs/format.md.

mod block;
mod error;
mod forward;
mod identity;
pub mod io;
mod metrics;
mod page;
mod part;
mod position;
mod reader;
pub mod record;
mod recovery;
mod segment;
mod space;
mod survey;
mod tail;
mod thin;
mod thinning;
mod walk;
mod writer;

#[cfg(any(test, feature = "faults"))]
pub mod faulty;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use centaur_apis::{names::StoreGroupName, units::Lsn};

pub use block::{BLOCK_HEADER_BYTES, BlockView, records};
pub use error::{Failure, OpenError, ReadError, Stop};
pub use identity::random_bytes;
pub use io::{Disk, Io};
pub use reader::Reader;
pub use recovery::open;
pub use space::DiskStage;
pub use thin::thinned_bytes;
pub use thinning::{ThinError, Thinned, Thinning};
pub use writer::{Appended, Log};

/// Settings of a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store's data directory; made if missing.
    pub dir: PathBuf,
    pub store_group: StoreGroupName,
    /// Bytes of a segment's file, from 64 KiB; smaller on a file system with no room for eight.
    pub segment_bytes: u64,
    /// Bytes of recent blocks kept in memory.
    pub tail_bytes: usize,
    /// Cut the log where synced data is damaged instead of refusing to open it.
    pub salvage: bool,
}

/// A log ready for use.
#[derive(Debug)]
pub struct Opened {
    pub log: Log,
    pub reader: Reader,
    pub recovery: Recovery,
}

/// What opening found and did.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The last process closed the log in order.
    pub was_clean: bool,
    /// Where the log was cut, and how many bytes of files were dropped behind that place.
    pub cut: Option<(Lsn, u64)>,
    /// Store time of the last block, ms; 0 in an empty log.
    pub last_store_ms: u64,
    /// Every segment, oldest first; the last one is open.
    pub segments: Vec<SegmentInfo>,
}

/// One file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Where its first block begins.
    pub base: Lsn,
    /// Where its last block ends, and the next segment begins.
    pub end: Lsn,
    /// Nothing is appended to it any more.
    pub sealed: bool,
    /// Store time of its first block, ms; 0 without blocks.
    pub first_store_ms: u64,
    /// Store time of its last block, ms; that of the block before it without blocks.
    pub last_store_ms: u64,
    /// Only some of its records are left.
    pub thinned: bool,
    /// Bytes of its file.
    pub bytes_on_disk: u64,
}
