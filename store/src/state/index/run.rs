//! The index of a sealed segment: an immutable file beside it, read page by page.

use std::{
    collections::HashSet,
    io, mem,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    sync::Arc,
};

use centaur_apis::units::Lsn;
use thiserror::Error;

use super::{
    ENTRY_BYTES, Entry, Foreign, Packed, QueueKey, Stretch, Timer, TimerPlace,
    foreign::FOREIGN_BYTES,
    open::push_newest,
    pages::{Cache, PAYLOAD_BYTES, PageFile},
    recalled::RECALL_BYTES,
    timer::TIMER_BYTES,
    u32_at, u64_at,
};

pub(super) const MAGIC: [u8; 8] = *b"CNTRINDX";
pub(super) const VERSION: u32 = 4;

pub(super) const DIRECTORY_ROW_BYTES: usize = 40;
pub(super) const KEY_BYTES: usize = 16;
const ROWS_IN_PAGE: u32 = (PAYLOAD_BYTES / DIRECTORY_ROW_BYTES) as u32;
const ENTRIES_IN_PAGE: u32 = (PAYLOAD_BYTES / ENTRY_BYTES) as u32;
const KEYS_IN_PAGE: u32 = (PAYLOAD_BYTES / KEY_BYTES) as u32;
const TIMERS_IN_PAGE: u32 = (PAYLOAD_BYTES / TIMER_BYTES) as u32;
const RECALLS_IN_PAGE: u32 = (PAYLOAD_BYTES / RECALL_BYTES) as u32;
const FOREIGN_IN_PAGE: u32 = (PAYLOAD_BYTES / FOREIGN_BYTES) as u32;

/// Bits of the filter for each key, and how many of them a key sets: one absent key in a hundred
/// looks present (Bloom 1970, optimum for ten bits).
const FILTER_BITS_FOR_KEY: u64 = 10;
const FILTER_PROBES: u32 = 7;
const FILTER_BITS_IN_PAGE: u32 = PAYLOAD_BYTES as u32 * 8;

/// Why an index run cannot be used. In all cases it can be made again from its segment.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("index run {path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("index run {path} is damaged in page {page}: {what}", path = path.display())]
    Damaged { path: PathBuf, page: u32, what: &'static str },
    #[error("index run {path} has format version {version}, which this version does not know", path = path.display())]
    Version { path: PathBuf, version: u32 },
}

/// What a run is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where the segment begins.
    pub base: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// Store time that nothing in it is later than, ms, whether it has messages or not.
    pub last_ms: u64,
    /// Bytes of its file if it is thinned, which tell what is left of it; 0 of a whole segment.
    pub thinned_bytes: u64,
}

/// What the first page of a run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source: Source,
    pub(super) origin: Lsn,
    pub(super) queues: u32,
    pub(super) entries: u32,
    pub(super) keys: u32,
    pub(super) timers: u32,
    pub(super) foreign: u32,
    pub(super) recalled: u32,
    /// When the last scheduled message is due, ms; 0 without.
    pub(super) last_due_ms: u64,
}

/// Where the sections are: pages, each section after the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sections {
    directory: Range<u64>,
    entries: Range<u64>,
    keys: Range<u64>,
    filter: Range<u64>,
    timers: Range<u64>,
    foreign: Range<u64>,
    recalled: Range<u64>,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(84);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        for number in [self.queues, self.entries, self.keys] {
            out.extend(number.to_le_bytes());
        }
        let Source { base, end, last_ms, thinned_bytes } = self.source;
        for number in [base.0, end.0, self.origin.0, last_ms, self.last_due_ms, thinned_bytes] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.timers.to_le_bytes());
        out.extend(self.foreign.to_le_bytes());
        out.extend(self.recalled.to_le_bytes());
        out
    }

    fn decode(page: &[u8], file: &PageFile) -> Result<Self, RunError> {
        if page[..8] != MAGIC {
            return Err(file.damaged(0, "it does not begin as an index run does"));
        }
        let version = u32_at(page, 8);
        if version != VERSION {
            return Err(RunError::Version { path: file.path().to_owned(), version });
        }
        let header = Self {
            queues: u32_at(page, 12),
            entries: u32_at(page, 16),
            keys: u32_at(page, 20),
            source: Source {
                base: Lsn(u64_at(page, 24)),
                end: Lsn(u64_at(page, 32)),
                last_ms: u64_at(page, 48),
                thinned_bytes: u64_at(page, 64),
            },
            origin: Lsn(u64_at(page, 40)),
            last_due_ms: u64_at(page, 56),
            timers: u32_at(page, 72),
            foreign: u32_at(page, 76),
            recalled: u32_at(page, 80),
        };
        let Source { base, end, .. } = header.source;
        if base != file.base() || base > end || header.sections().recalled.end != file.pages() {
            return Err(file.damaged(0, "header and file do not fit together"));
        }
        Ok(header)
    }

    pub(super) fn sections(&self) -> Sections {
        let after = |start: u64, items: u32, in_page: u32| start..start + u64::from(items.div_ceil(in_page));
        let directory = after(1, self.queues, ROWS_IN_PAGE);
        let entries = after(directory.end, self.entries, ENTRIES_IN_PAGE);
        let keys = after(entries.end, self.keys, KEYS_IN_PAGE);
        let filter = keys.end..keys.end + filter_pages(self.keys);
        let timers = after(filter.end, self.timers, TIMERS_IN_PAGE);
        let foreign = after(timers.end, self.foreign, FOREIGN_IN_PAGE);
        let recalled = after(foreign.end, self.recalled, RECALLS_IN_PAGE);
        Sections { directory, entries, keys, filter, timers, foreign, recalled }
    }
}

impl Sections {
    /// The page of an item, and where in it the item begins.
    fn place(section: &Range<u64>, item: u32, in_page: u32, item_bytes: usize) -> (u32, usize) {
        let page = section.start + u64::from(item / in_page);
        (u32::try_from(page).unwrap_or(u32::MAX), (item % in_page) as usize * item_bytes)
    }
}

/// A queue's row in the directory of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) stretch: Stretch,
    /// Number of its first entry among the run's entries.
    pub(super) position: u32,
}

impl Row {
    pub(super) fn encode(&self) -> [u8; DIRECTORY_ROW_BYTES] {
        let Stretch { queue, first, count, first_ms, last_ms } = self.stretch;
        let mut out = [0; DIRECTORY_ROW_BYTES];
        out[..4].copy_from_slice(&queue.topic.to_le_bytes());
        out[4..8].copy_from_slice(&queue.queue.to_le_bytes());
        out[8..16].copy_from_slice(&first.to_le_bytes());
        out[16..20].copy_from_slice(&count.to_le_bytes());
        out[20..24].copy_from_slice(&self.position.to_le_bytes());
        out[24..32].copy_from_slice(&first_ms.to_le_bytes());
        out[32..].copy_from_slice(&last_ms.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Self {
        let queue = QueueKey { topic: u32_at(bytes, 0), queue: u32_at(bytes, 4) };
        let stretch = Stretch {
            queue,
            first: u64_at(bytes, 8),
            count: u32_at(bytes, 16),
            first_ms: u64_at(bytes, 24),
            last_ms: u64_at(bytes, 32),
        };
        Self { stretch, position: u32_at(bytes, 20) }
    }
}

/// The index of a sealed segment. Its directory was verified when it was opened; every other page
/// is when it is read.
pub struct Run {
    file: PageFile,
    header: Header,
    sections: Sections,
    /// Handed to the index when it takes the run.
    directory: Vec<Row>,
}

impl Run {
    /// Opens a run and verifies its header and directory.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let (file, page) = PageFile::open(path)?;
        let header = Header::decode(&page, &file)?;
        let sections = header.sections();
        let mut run = Self { file, header, sections, directory: Vec::new() };
        run.directory = run.read_directory()?;
        Ok(run)
    }

    /// What it was made from.
    pub fn source(&self) -> &Source {
        &self.header.source
    }

    /// Where its segment begins.
    pub fn base(&self) -> Lsn {
        self.source().base
    }

    /// Where its segment ends.
    pub fn end(&self) -> Lsn {
        self.source().end
    }

    /// Store time that nothing in its segment is later than, ms.
    pub fn last_ms(&self) -> u64 {
        self.source().last_ms
    }

    /// What it has of each queue, sorted by queue.
    pub fn stretches(&self) -> Result<Vec<Stretch>, RunError> {
        Ok(self.read_directory()?.into_iter().map(|row| row.stretch).collect())
    }

    /// Gives the directory away, once.
    pub(super) fn take_directory(&mut self) -> Vec<Row> {
        mem::take(&mut self.directory)
    }

    pub(super) fn set_cache(&mut self, cache: &Arc<Cache>) {
        self.file.set_cache(cache);
    }

    /// The entry at a position; none if its message is gone.
    pub(super) fn entry(&self, position: u32) -> Result<Option<Entry>, RunError> {
        let (page, at) = self.entry_place(position);
        let packed = packed(&self.file.page(page)?, at);
        Ok((!packed.is_gone()).then(|| packed.unpack(self.header.origin)))
    }

    /// Appends the entries at `positions`, the first of which has `offset`, without those that are
    /// gone.
    pub(super) fn entries(
        &self,
        positions: Range<u32>,
        offset: u64,
        out: &mut Vec<(u64, Entry)>,
    ) -> Result<(), RunError> {
        let Range { mut start, end } = positions;
        let mut offsets = offset..;
        while start < end {
            let (number, first) = self.entry_place(start);
            let page = self.file.page(number)?;
            let count = (ENTRIES_IN_PAGE - start % ENTRIES_IN_PAGE).min(end - start);
            let places = (first..).step_by(ENTRY_BYTES).take(count as usize);
            let entries = offsets.by_ref().take(count as usize).zip(places.map(|at| packed(&page, at)));
            let there = entries.filter(|(_, packed)| !packed.is_gone());
            out.extend(there.map(|(offset, packed)| (offset, packed.unpack(self.header.origin))));
            start += count;
        }
        Ok(())
    }

    /// The first of the positions whose store time is `ms` or later; their end when there is none.
    pub(super) fn first_at_or_after(&self, positions: Range<u32>, ms: u64) -> Result<u32, RunError> {
        partition(positions, |position| {
            let (page, at) = self.entry_place(position);
            Ok(packed(&self.file.page(page)?, at).stored_ms() < ms)
        })
    }

    /// Appends up to `max` places of messages with this key hash, from the newest one before
    /// `before` backwards.
    pub fn keys(&self, hash: u64, before: Lsn, max: usize, out: &mut Vec<Lsn>) -> Result<(), RunError> {
        if !self.may_have(hash)? {
            return Ok(());
        }
        let wanted = out.len().saturating_add(max);
        let mut end = partition(0..self.header.keys, |item| Ok(self.key(item)? < (hash, before)))?;
        while end > 0 && out.len() < wanted {
            end -= 1;
            let (found, lsn) = self.key(end)?;
            if found != hash {
                break;
            }
            push_newest([lsn].into_iter(), wanted, out);
        }
        Ok(())
    }

    /// Scheduled messages whose records are in its segment.
    pub(super) fn timers(&self) -> u32 {
        self.header.timers
    }

    /// When the last of them is due, ms; 0 without.
    pub(super) fn last_due_ms(&self) -> u64 {
        self.header.last_due_ms
    }

    /// One of its scheduled messages, numbered in the order they come due.
    pub(super) fn timer(&self, number: u32) -> Result<Timer, RunError> {
        let (page, at) = Sections::place(&self.sections.timers, number, TIMERS_IN_PAGE, TIMER_BYTES);
        Ok(Timer::decode(&self.file.page(page)?, at))
    }

    /// The number of the first scheduled message behind a place.
    pub(super) fn timer_after(&self, place: TimerPlace) -> Result<u32, RunError> {
        partition(0..self.header.timers, |number| Ok(self.timer(number)?.place <= place))
    }

    /// Whether the recall of the scheduled message at a place is recorded in its segment.
    pub(super) fn is_recalled(&self, place: TimerPlace) -> Result<bool, RunError> {
        if self.header.recalled == 0 || !self.may_have(place.recall_key())? {
            return Ok(false);
        }
        let number = partition(0..self.header.recalled, |number| Ok(self.recalled(number)? < place))?;
        Ok(number < self.header.recalled && self.recalled(number)? == place)
    }

    /// Adds the places within a range of scheduled messages whose recall is recorded in its segment.
    pub(super) fn recalled_in(
        &self,
        places: &RangeInclusive<TimerPlace>,
        out: &mut HashSet<TimerPlace>,
    ) -> Result<(), RunError> {
        let first = partition(0..self.header.recalled, |number| Ok(self.recalled(number)? < *places.start()))?;
        for number in first..self.header.recalled {
            let place = self.recalled(number)?;
            if place > *places.end() {
                break;
            }
            out.insert(place);
        }
        Ok(())
    }

    fn recalled(&self, number: u32) -> Result<TimerPlace, RunError> {
        let (page, at) = Sections::place(&self.sections.recalled, number, RECALLS_IN_PAGE, RECALL_BYTES);
        Ok(TimerPlace::decode(&self.file.page(page)?, at))
    }

    /// Appends the messages whose records lie in `lsns`, which is before its segment.
    pub(super) fn foreign_into(&self, lsns: &Range<Lsn>, out: &mut Vec<Foreign>) -> Result<(), RunError> {
        let first = partition(0..self.header.foreign, |number| Ok(self.foreign(number)?.lsn < lsns.start))?;
        for number in first..self.header.foreign {
            let foreign = self.foreign(number)?;
            if foreign.lsn >= lsns.end {
                break;
            }
            out.push(foreign);
        }
        Ok(())
    }

    fn foreign(&self, number: u32) -> Result<Foreign, RunError> {
        let (page, at) = Sections::place(&self.sections.foreign, number, FOREIGN_IN_PAGE, FOREIGN_BYTES);
        Ok(Foreign::decode(&self.file.page(page)?, at))
    }

    fn may_have(&self, hash: u64) -> Result<bool, RunError> {
        let Some((page, bits)) = filter_place(hash, self.header.keys) else { return Ok(false) };
        let number = u32::try_from(self.sections.filter.start + u64::from(page)).unwrap_or(u32::MAX);
        let page = self.file.page(number)?;
        Ok(bits.into_iter().all(|bit| page[bit as usize / 8] & (1 << (bit % 8)) != 0))
    }

    fn key(&self, item: u32) -> Result<(u64, Lsn), RunError> {
        let (page, at) = Sections::place(&self.sections.keys, item, KEYS_IN_PAGE, KEY_BYTES);
        let page = self.file.page(page)?;
        Ok((u64_at(&page, at), Lsn(u64_at(&page, at + 8))))
    }

    fn entry_place(&self, position: u32) -> (u32, usize) {
        Sections::place(&self.sections.entries, position, ENTRIES_IN_PAGE, ENTRY_BYTES)
    }

    /// Reads the directory: sorted by queue, and its stretches are all entries, one after another.
    fn read_directory(&self) -> Result<Vec<Row>, RunError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut position = 0u32;
        let mut left = self.header.queues;
        for number in self.sections.directory.clone() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let page = self.file.page(number)?;
            let count = left.min(ROWS_IN_PAGE);
            for bytes in page.chunks_exact(DIRECTORY_ROW_BYTES).take(count as usize) {
                let row = Row::decode(bytes);
                let sorted = rows.last().is_none_or(|before| before.stretch.queue < row.stretch.queue);
                let fits = row.stretch.first.checked_add(u64::from(row.stretch.count)).is_some();
                let end = position.checked_add(row.stretch.count).filter(|end| *end <= self.header.entries);
                match end {
                    Some(end) if sorted && fits && row.stretch.count > 0 && row.position == position => position = end,
                    _ => return Err(self.file.damaged(number, "a row of the directory cannot be")),
                }
                rows.push(row);
            }
            left -= count;
        }
        if position != self.header.entries {
            return Err(self.file.damaged(0, "directory and header do not fit together"));
        }
        Ok(rows)
    }
}

fn packed(page: &[u8], at: usize) -> Packed {
    Packed(page[at..at + ENTRY_BYTES].try_into().expect("an entry's bytes"))
}

/// The first number of the range for which `is_before` is false; its end when there is none.
fn partition(range: Range<u32>, is_before: impl Fn(u32) -> Result<bool, RunError>) -> Result<u32, RunError> {
    let Range { start: mut low, end: mut high } = range;
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// Pages of the filter for that many keys.
pub(super) fn filter_pages(keys: u32) -> u64 {
    (u64::from(keys) * FILTER_BITS_FOR_KEY).div_ceil(u64::from(FILTER_BITS_IN_PAGE))
}

/// The filter's page for a key hash, counted from its first, and the bits in it; none without keys.
pub(super) fn filter_place(hash: u64, keys: u32) -> Option<(u32, [u32; FILTER_PROBES as usize])> {
    let pages = filter_pages(keys);
    if pages == 0 {
        return None;
    }
    // The upper half of the product: the hash as a fraction of the pages, below `pages`.
    let page = u32::try_from((u128::from(hash) * u128::from(pages)) >> 64).unwrap_or(u32::MAX);
    let (first, step) = (hash as u32, (hash >> 32) as u32 | 1);
    let mut probe = first;
    let bits = [(); FILTER_PROBES as usize].map(|()| {
        probe = probe.wrapping_add(step);
        probe % FILTER_BITS_IN_PAGE
    });
    Some((page, bits))
}
