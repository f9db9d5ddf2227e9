//! The reading half of a log: cheap to clone, used by every thread.

use std::{
    collections::VecDeque,
    hint, io,
    ops::Range,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use centaur_apis::units::Lsn;

use super::{
    block::{BLOCK_HEADER_BYTES, BlockView},
    error::{ReadError, Stop},
    metrics,
    record::{self, ALIGNMENT, HEADER_BYTES},
    segment::Segment,
    tail::Tail,
    walk::Walk,
};

/// The newest segments are read through a mapping; older ones by call, where an unreadable sector
/// is an error and not the end of the process.
const MAPPED_SEGMENTS: usize = 16;
/// What this process wrote within these newest bytes is taken to be in the page cache still.
const RECENT_BYTES: u64 = 64 << 20;

/// Bytes brought into the page cache ahead of whoever reads old messages one after the other.
const WARM_BYTES: u64 = 2 << 20;
/// Ranges that are remembered as being there; several groups read old messages at a time.
const WARM_RANGES: usize = 64;
/// Bytes of a page of memory.
const MEMORY_PAGE: usize = 4096;

/// Reads records and blocks. Clones read the same log.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Shared>);

/// What the writer tells the readers.
#[derive(Debug)]
pub(super) struct Shared {
    /// Oldest first; never empty.
    pub segments: RwLock<Vec<Arc<Segment>>>,
    pub tail: RwLock<Tail>,
    /// Older ranges that were read from the disk lately, the latest last.
    pub warm: RwLock<VecDeque<Range<Lsn>>>,
    pub written: AtomicU64,
    pub confirmed: AtomicU64,
    /// Where the log ended when this process opened it.
    pub opened_at: Lsn,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The bytes of one record, header included, its checksum verified.
    ///
    /// Units: `length` as [`super::records`] tells it, padding included.
    /// Shape: a slice of a block in memory or of the mapping; nothing is copied, and what it lies in
    /// is kept while the slice is.
    /// Errors: `Beyond` the confirmed end; `Gone` with its segment; `Damaged`, never wrong bytes.
    pub fn read(&self, at: Lsn, length: u32) -> Result<Bytes, ReadError> {
        let length = length as usize;
        self.check_confirmed(at, length)?;
        if let Some(bytes) = self.0.tail().get(at, length) {
            return if is_record(&bytes) { Ok(bytes) } else { Err(self.damaged(at)) };
        }
        let bytes = self.read_file(at, length)?;
        let is_whole = is_record(&bytes) && record::verify(&bytes).is_ok();
        if is_whole { Ok(bytes) } else { Err(self.damaged(at)) }
    }

    /// The bytes the record at `at` takes, padding included, by its own header.
    ///
    /// Errors: as [`Self::read`]. `at` must be where a record begins: elsewhere the answer is
    /// without meaning, though reading it is harmless.
    pub fn record_length(&self, at: Lsn) -> Result<u32, ReadError> {
        self.check_confirmed(at, HEADER_BYTES)?;
        let tail = self.0.tail().get(at, HEADER_BYTES);
        let header = tail.map_or_else(|| self.read_file(at, HEADER_BYTES), Ok)?;
        let length = record::length(&header).map_err(|_| self.damaged(at))?;
        Ok(u32::try_from(length.next_multiple_of(ALIGNMENT)).expect("a record is shorter than 4 GiB"))
    }

    /// Whether `read` would be served without waiting for the disk.
    pub fn is_hot(&self, at: Lsn) -> bool {
        let recent = self.0.written().0.saturating_sub(RECENT_BYTES);
        (at >= self.0.opened_at && at.0 >= recent) || self.is_warm(at) || self.0.tail().get(at, 1).is_some()
    }

    /// Brings what lies at and behind `at` into the page cache, so that the next messages are read
    /// without waiting. Blocking; a failure is met again, and told, by whoever reads there.
    pub fn warm(&self, at: Lsn) {
        if self.is_warm(at) {
            return;
        }
        let Ok((_, end)) = self.segment_of(at) else { return };
        let end = end.0.min(self.0.confirmed.load(Ordering::Acquire)).min(at.0 + WARM_BYTES);
        let length = usize::try_from(end.saturating_sub(at.0)).unwrap_or_default();
        let Ok(bytes) = self.read_file(at, length) else { return };
        bytes.iter().step_by(MEMORY_PAGE).for_each(|byte| {
            hint::black_box(*byte);
        });
        let mut warm = self.0.warm.write().unwrap_or_else(PoisonError::into_inner);
        warm.push_back(at..Lsn(end));
        if warm.len() > WARM_RANGES {
            warm.pop_front();
        }
    }

    fn is_warm(&self, at: Lsn) -> bool {
        let warm = self.0.warm.read().unwrap_or_else(PoisonError::into_inner);
        warm.iter().rev().any(|range| range.contains(&at))
    }

    /// Gives every block from `from` to `to`, verified, in order; says where it ended. Blocks that
    /// are written but not yet confirmed are among them: this is for replay and for index runs.
    ///
    /// Units: `from` is where a block begins; blocks that begin before `to` are given.
    /// Errors: `Damaged` where a block should be and is not.
    pub fn scan(
        &self,
        from: Lsn,
        to: Lsn,
        each: &mut dyn FnMut(BlockView) -> Result<(), Stop>,
    ) -> Result<Lsn, ReadError> {
        let to = to.min(self.0.written());
        let mut at = from;
        while at < to {
            let (segment, end) = self.segment_of(at)?;
            let stop = to.min(end);
            let walk = Walk::from(Arc::clone(&segment), at, end);
            let mut walk = walk.map_err(|error| self.failed(&segment, at, error))?;
            while at < stop {
                let block = walk.next().map_err(|error| self.failed(&segment, at, error))?;
                let Some(block) = block else { return Err(self.damaged(at)) };
                let (lsn, first_record) = (at, at.plus(BLOCK_HEADER_BYTES));
                let (term, store_ms) = (block.header.term, block.header.store_ms);
                at = block.tip.lsn;
                if each(BlockView { lsn, first_record, term, store_ms, body: block.body }) == Err(Stop) {
                    return Ok(at);
                }
            }
        }
        Ok(at)
    }

    fn check_confirmed(&self, at: Lsn, length: usize) -> Result<(), ReadError> {
        let end = Lsn(self.0.confirmed.load(Ordering::Acquire));
        let is_below = at.0.checked_add(length as u64).is_some_and(|read_end| read_end <= end.0);
        if is_below { Ok(()) } else { Err(ReadError::Beyond { at, end }) }
    }

    fn read_file(&self, at: Lsn, length: usize) -> Result<Bytes, ReadError> {
        let (segment, end) = self.segment_of(at)?;
        if (length as u64) > end.0 - at.0 {
            return Err(self.damaged(at));
        }
        let is_mapped = self.is_mapped(&segment);
        let read = if is_mapped { segment.read_mapped(at, length) } else { segment.read(at, length) };
        read.map_err(|error| self.failed(&segment, at, error))
    }

    /// The segment that holds a place, and where it ends.
    fn segment_of(&self, at: Lsn) -> Result<(Arc<Segment>, Lsn), ReadError> {
        let written = self.0.written();
        let segments = self.0.segments();
        let after = segments.partition_point(|segment| segment.base() <= at);
        let start = segments.first().map_or(written, |segment| segment.base());
        let segment = after.checked_sub(1).and_then(|i| segments.get(i)).ok_or(ReadError::Gone { at, start })?;
        let end = segments.get(after).map_or(written, |next| next.base());
        if at < end { Ok((Arc::clone(segment), end)) } else { Err(ReadError::Beyond { at, end }) }
    }

    fn is_mapped(&self, segment: &Segment) -> bool {
        let segments = self.0.segments();
        let newest = segments.len().saturating_sub(MAPPED_SEGMENTS);
        segments.get(newest).is_some_and(|first| segment.base() >= first.base())
    }

    fn failed(&self, segment: &Segment, at: Lsn, error: io::Error) -> ReadError {
        let start = self.0.segments().first().map_or(at, |oldest| oldest.base());
        if error.kind() == io::ErrorKind::NotFound && start > segment.base() {
            return ReadError::Gone { at, start };
        }
        metrics::failed("read");
        ReadError::Io { path: segment.path.clone(), error }
    }

    fn damaged(&self, at: Lsn) -> ReadError {
        metrics::damaged();
        let path = self.segment_of(at).map(|(segment, _)| segment.path.clone()).unwrap_or_default();
        ReadError::Damaged { at, path }
    }
}

impl Shared {
    pub(super) fn written(&self) -> Lsn {
        Lsn(self.written.load(Ordering::Acquire))
    }

    /// Adds a segment behind the others; the one that is no longer among the newest is unmapped.
    pub(super) fn add_segment(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.push(segment);
        if let Some(old) = segments.len().checked_sub(MAPPED_SEGMENTS + 1) {
            segments[old].unmap();
        }
    }

    /// Forgets the oldest segment.
    pub(super) fn forget_oldest(&self) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).remove(0);
    }

    /// Publishes a block.
    pub(super) fn publish(&self, first_record: Lsn, body: Bytes, written: Lsn) {
        self.tail.write().unwrap_or_else(PoisonError::into_inner).push(first_record, body);
        self.written.store(written.0, Ordering::Release);
    }

    fn segments(&self) -> RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the bytes have exactly the length their header claims.
fn is_record(bytes: &[u8]) -> bool {
    record::length(bytes).is_ok_and(|length| length <= bytes.len() && bytes.len() - length < ALIGNMENT)
}
