//! The reading half of a log: cheap to clone, used by every thread.

use std::{
    collections::VecDeque,
    hint, io,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use centaur_apis::units::Lsn;

use super::{
    block::{BLOCK_HEADER_BYTES, BlockView},
    error::{ReadError, Stop},
    metrics,
    part::Part,
    record::{self, ALIGNMENT, HEADER_BYTES},
    segment::{Home, Segment},
    tail::Tail,
    thin,
    walk::Walk,
};

/// The newest segments are read through a mapping; older ones by call, where an unreadable sector
/// is an error and not the end of the process.
const MAPPED_SEGMENTS: usize = 16;
/// What this process wrote within these newest bytes is taken to be in the page cache still.
const RECENT_BYTES: u64 = 64 << 20;
/// Bytes read by call of a record of which all but the body is wanted: enough for most.
const TEXT_BYTES: usize = 4096;
/// Bytes brought into the page cache ahead of whoever reads old messages one after the other.
const WARM_BYTES: u64 = 2 << 20;
/// Ranges that are remembered as being there; several groups read old messages at a time.
const WARM_RANGES: usize = 64;
/// Bytes of a page of memory.
const MEMORY_PAGE: usize = 4096;

/// Reads records and blocks. Clones read the same log.
#[derive(Clone, Debug)]
pub struct Reader(pub(super) Arc<Shared>);

/// What the writer tells the readers.
#[derive(Debug)]
pub(super) struct Shared {
    pub home: Home,
    /// Oldest first; never empty.
    pub segments: RwLock<Vec<Part>>,
    pub tail: RwLock<Tail>,
    /// Older ranges that were read from the disk lately, the latest last.
    pub warm: RwLock<VecDeque<Range<Lsn>>>,
    pub written: AtomicU64,
    pub confirmed: AtomicU64,
    /// Where the log ended when this process opened it.
    pub opened_at: Lsn,
    /// Held by who thins a segment.
    pub thinning: Mutex<()>,
    /// Held while a thinned file gets its name, and while the files of a segment are removed.
    pub names: Mutex<()>,
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
    /// Errors: `Beyond` the confirmed end; `Gone` with its segment; `Retired` from it; `Damaged`,
    /// never wrong bytes.
    pub fn read(&self, at: Lsn, length: u32) -> Result<Bytes, ReadError> {
        let length = length as usize;
        self.check_confirmed(at, length)?;
        if let Some(bytes) = self.0.tail().get(at, length) {
            return if record::has_its_length(&bytes) { Ok(bytes) } else { Err(self.damaged(at)) };
        }
        let bytes = self.read_file(at, length)?;
        if record::is_whole(&bytes) { Ok(bytes) } else { Err(self.damaged(at)) }
    }

    /// The first bytes of one message record, verified: all that comes before its body, and maybe more.
    /// A large body is not read for it.
    ///
    /// Units and errors: as [`Self::read`].
    pub fn read_text(&self, at: Lsn, length: u32) -> Result<Bytes, ReadError> {
        let length = length as usize;
        self.check_confirmed(at, length)?;
        if let Some(bytes) = self.0.tail().get(at, length) {
            return if record::has_its_length(&bytes) { Ok(bytes) } else { Err(self.damaged(at)) };
        }
        let (part, end) = self.part_of(at)?;
        if (length as u64) > end.0 - at.0 {
            return Err(self.damaged(at));
        }
        let is_mapped = matches!(&part, Part::Whole(segment) if self.is_mapped(segment));
        let read = |bytes: usize| self.read_part(&part, at, bytes);
        let mut bytes = read(if is_mapped { length } else { length.min(TEXT_BYTES) })?;
        match record::text_bytes(&bytes).map_err(|_| self.damaged(at))? {
            Some(text_bytes) if text_bytes <= length => {
                if bytes.len() < text_bytes {
                    bytes = read(text_bytes)?;
                }
                if record::is_text_whole(&bytes[..text_bytes]) { Ok(bytes) } else { Err(self.damaged(at)) }
            }
            Some(_) => Err(self.damaged(at)),
            None => self.read(at, u32::try_from(length).expect("it was one")),
        }
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
        let Ok((part, end)) = self.part_of(at) else { return };
        let end = match &part {
            Part::Whole(_) => self.warm_whole(at, end.min(self.confirmed())),
            Part::Thinned(thin) => thin.warm(at, WARM_BYTES).ok(),
        };
        let Some(end) = end else { return };
        let mut warm = self.0.warm.write().unwrap_or_else(PoisonError::into_inner);
        warm.push_back(at..end);
        if warm.len() > WARM_RANGES {
            warm.pop_front();
        }
    }

    fn warm_whole(&self, at: Lsn, end: Lsn) -> Option<Lsn> {
        let end = end.min(at.plus(WARM_BYTES));
        let length = usize::try_from(end.0.saturating_sub(at.0)).unwrap_or_default();
        let bytes = self.read_file(at, length).ok()?;
        bytes.iter().step_by(MEMORY_PAGE).for_each(|byte| {
            hint::black_box(*byte);
        });
        Some(end)
    }

    fn is_warm(&self, at: Lsn) -> bool {
        let warm = self.0.warm.read().unwrap_or_else(PoisonError::into_inner);
        warm.iter().rev().any(|range| range.contains(&at))
    }

    /// Gives every block from `from` to `to`, verified, in order; says where it ended. Blocks that
    /// are written but not yet confirmed are among them: this is for replay and for index runs.
    ///
    /// Units: `from` is where a block begins; blocks that begin before `to` are given.
    /// Errors: `Damaged` where a block should be and is not; `Thinned` where none are any more.
    pub fn scan(
        &self,
        from: Lsn,
        to: Lsn,
        each: &mut dyn FnMut(BlockView) -> Result<(), Stop>,
    ) -> Result<Lsn, ReadError> {
        let to = to.min(self.0.written());
        let mut at = from;
        while at < to {
            let (part, end) = self.part_of(at)?;
            let Part::Whole(segment) = &part else {
                return Err(ReadError::Thinned { at, path: part.path().to_owned() });
            };
            let stop = to.min(end);
            let walk = Walk::from(Arc::clone(segment), at, end);
            let mut walk = walk.map_err(|error| self.failed(&part, at, error))?;
            while at < stop {
                let block = walk.next().map_err(|error| self.failed(&part, at, error))?;
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

    /// Gives every record that is left of a thinned segment, verified, in order, with its padding.
    ///
    /// Units: `base` is where the segment begins.
    /// Errors: `NotThinned`; `Damaged`, with the segment's base if it is not known which record is.
    pub fn live_records(
        &self,
        base: Lsn,
        each: &mut dyn FnMut(Lsn, Bytes) -> Result<(), Stop>,
    ) -> Result<(), ReadError> {
        let (part, _) = self.part_of(base)?;
        let Part::Thinned(thin) = &part else { return Err(ReadError::NotThinned { path: part.path().to_owned() }) };
        let mut damaged = None;
        let read = thin.each(&mut |at, bytes| {
            if record::is_whole(&bytes) {
                return each(at, bytes);
            }
            damaged = Some(at);
            Err(Stop)
        });
        read.map_err(|error| self.failed(&part, base, error))?;
        damaged.map_or(Ok(()), |at| Err(self.damaged(at)))
    }

    pub(super) fn confirmed(&self) -> Lsn {
        Lsn(self.0.confirmed.load(Ordering::Acquire))
    }

    fn check_confirmed(&self, at: Lsn, length: usize) -> Result<(), ReadError> {
        let end = self.confirmed();
        let is_below = at.0.checked_add(length as u64).is_some_and(|read_end| read_end <= end.0);
        if is_below { Ok(()) } else { Err(ReadError::Beyond { at, end }) }
    }

    fn read_file(&self, at: Lsn, length: usize) -> Result<Bytes, ReadError> {
        let (part, end) = self.part_of(at)?;
        if (length as u64) > end.0 - at.0 {
            return Err(self.damaged(at));
        }
        self.read_part(&part, at, length)
    }

    /// Bytes of a segment that was looked up a moment ago.
    pub(super) fn read_part(&self, part: &Part, at: Lsn, length: usize) -> Result<Bytes, ReadError> {
        let read = match part {
            Part::Whole(segment) if self.is_mapped(segment) => segment.read_mapped(at, length).map(Some),
            Part::Whole(segment) => segment.read(at, length).map(Some),
            Part::Thinned(thin) => thin.read(at, length),
        };
        match read {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(ReadError::Retired { at, path: part.path().to_owned() }),
            // Its file went because it was thinned since: that happens once.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_thinned_since(part) => {
                self.read_file(at, length)
            }
            Err(error) => Err(self.failed(part, at, error)),
        }
    }

    /// The segment that holds a place, and where it ends.
    pub(super) fn part_of(&self, at: Lsn) -> Result<(Part, Lsn), ReadError> {
        let written = self.0.written();
        let segments = self.0.segments();
        let after = segments.partition_point(|part| part.base() <= at);
        let start = segments.first().map_or(written, Part::base);
        let part = after.checked_sub(1).and_then(|i| segments.get(i)).ok_or(ReadError::Gone { at, start })?;
        let end = segments.get(after).map_or(written, Part::base);
        if at < end { Ok((part.clone(), end)) } else { Err(ReadError::Beyond { at, end }) }
    }

    fn is_mapped(&self, segment: &Segment) -> bool {
        let segments = self.0.segments();
        let newest = segments.len().saturating_sub(MAPPED_SEGMENTS);
        segments.get(newest).is_some_and(|first| segment.base() >= first.base())
    }

    fn is_thinned_since(&self, part: &Part) -> bool {
        !part.is_thinned() && self.part_of(part.base()).is_ok_and(|(now, _)| now.is_thinned())
    }

    pub(super) fn failed(&self, part: &Part, at: Lsn, error: io::Error) -> ReadError {
        let start = self.0.segments().first().map_or(at, Part::base);
        if error.kind() == io::ErrorKind::NotFound && start > part.base() {
            return ReadError::Gone { at, start };
        }
        if part.is_thinned() && thin::is_damage(&error) {
            return self.damaged(at);
        }
        metrics::failed("read");
        ReadError::Io { path: part.path().to_owned(), error }
    }

    pub(super) fn damaged(&self, at: Lsn) -> ReadError {
        metrics::damaged();
        let path = self.part_of(at).map(|(part, _)| part.path().to_owned()).unwrap_or_default();
        ReadError::Damaged { at, path }
    }
}

impl Shared {
    pub(super) fn written(&self) -> Lsn {
        Lsn(self.written.load(Ordering::Acquire))
    }

    /// Adds a segment behind the others; the one that is no longer among the newest is unmapped.
    pub(super) fn add_segment(&self, segment: Part) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.push(segment);
        let old = segments.len().checked_sub(MAPPED_SEGMENTS + 1);
        if let Some(Part::Whole(old)) = old.and_then(|old| segments.get(old)) {
            old.unmap();
        }
    }

    /// Has another form of a segment take its place.
    pub(super) fn replace(&self, part: Part) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(i) = segments.binary_search_by_key(&part.base(), Part::base) {
            segments[i] = part;
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

    pub(super) fn segments(&self) -> RwLockReadGuard<'_, Vec<Part>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }
}
