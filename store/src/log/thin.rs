//! A thinned segment: of one that was sealed, the records that outlive it, at the LSNs they had,
//! and a sorted table that says where in the file they are. Layout: docs/format.md.
//!
//! The file of a segment is replaced when it is thinned again, always by one with fewer of the same
//! records: its length tells which one it is.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use bytes::Bytes;
use centaur_apis::units::Lsn;

use super::{
    block::{self, Tip},
    error::Stop,
    forward::Forward,
    io::{File, Io},
    page::{self, PAGE, PAGE_BYTES},
    record::{self, checksum},
    segment::Home,
};

pub(super) const SUFFIX: &str = ".thin";
/// Ending of a file that is being written.
pub(super) const UNFINISHED: &str = ".thin.tmp";

/// Bytes of an entry of the table, and how many a page has before its trailer.
const ENTRY: usize = 12;
const ENTRIES: usize = 340;
const SEED_AT: usize = ENTRIES * ENTRY;
const NUMBER_AT: usize = SEED_AT + 8;
const CRC_AT: usize = PAGE - 4;

/// A record that was kept, and where it is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub at: Lsn,
    /// Bytes, padding included.
    pub length: u32,
    pub position: u64,
}

/// A thinned segment. It holds no open file, as [`super::segment::Segment`] holds none.
pub(super) struct Thin {
    pub path: PathBuf,
    /// Where the segment begins.
    pub start: Tip,
    /// What it held before it was thinned.
    pub contents: page::Footer,
    io: Arc<dyn Io>,
    log_id: [u8; 16],
    layout: RwLock<Arc<Layout>>,
}

/// What is known of the file.
#[derive(Debug)]
struct Layout {
    header: page::Thin,
    /// The first LSN in each page of the table; read when it is first needed.
    firsts: OnceLock<Vec<Lsn>>,
}

/// The file, and what is known of this very one.
struct Opened {
    file: Arc<dyn File>,
    layout: Arc<Layout>,
    seed: u64,
}

impl Thin {
    /// The file that was just written with these records.
    pub(super) fn made(home: &Home, header: page::Thin, live: &[(Lsn, u32)]) -> Self {
        let firsts = live.chunks(ENTRIES).filter_map(|records| Some(records.first()?.0));
        Self::new(home, header, OnceLock::from(firsts.collect::<Vec<_>>()))
    }

    fn new(home: &Home, header: page::Thin, firsts: OnceLock<Vec<Lsn>>) -> Self {
        Self {
            path: path(&home.dir, header.start.lsn),
            start: header.start,
            contents: header.contents,
            io: Arc::clone(&home.io),
            log_id: home.log_id,
            layout: RwLock::new(Arc::new(Layout { header, firsts })),
        }
    }

    /// Reads the first page of a file; none if that is not one of this log with this base.
    pub(super) fn load(home: &Home, base: Lsn) -> io::Result<Option<Self>> {
        let file = home.io.open(&path(&home.dir, base))?;
        let header = read_header(&*file, &home.log_id)?.filter(|header| header.start.lsn == base);
        Ok(header.map(|header| Self::new(home, header, OnceLock::new())))
    }

    /// Bytes of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.layout().header.file_bytes
    }

    /// The first bytes of the record at `at`, or all, not yet verified; none if it was not kept.
    ///
    /// Errors: `InvalidData` for what is damaged, here and below.
    pub(super) fn read(&self, at: Lsn, length: usize) -> io::Result<Option<Bytes>> {
        let opened = self.open()?;
        let Some(kept) = opened.find(at)? else { return Ok(None) };
        if length > kept.length as usize {
            return Err(damaged("the record is shorter"));
        }
        let mut bytes = vec![0; length];
        opened.file.read_exact_at(&mut bytes, kept.position)?;
        Ok(Some(bytes.into()))
    }

    /// Reads about `bytes_max` bytes of the records at and behind `at`; says up to where.
    pub(super) fn warm(&self, at: Lsn, bytes_max: u64) -> io::Result<Lsn> {
        let opened = self.open()?;
        let firsts = opened.firsts()?;
        let number = firsts.partition_point(|first| *first <= at).saturating_sub(1);
        let table = if firsts.is_empty() { Vec::new() } else { opened.table(number)? };
        let table = &table[table.partition_point(|kept| kept.at < at)..];
        let next = firsts.get(number + 1).copied().unwrap_or(opened.layout.header.contents.end.lsn);
        let Some(first) = table.first() else { return Ok(next) };
        let fitting = table.iter().take_while(|kept| kept.end() - first.position <= bytes_max).count().max(1);
        let last = table[fitting - 1];
        let mut bytes = vec![0; usize::try_from(last.end() - first.position).unwrap_or_default()];
        opened.file.read_exact_at(&mut bytes, first.position)?;
        Ok(table.get(fitting).map_or(next, |kept| kept.at))
    }

    /// Gives every record that was kept, not yet verified, in order.
    pub(super) fn each(&self, each: &mut dyn FnMut(Lsn, Bytes) -> Result<(), Stop>) -> io::Result<()> {
        let opened = self.open()?;
        let header = opened.layout.header;
        let mut forward = Forward::new(Arc::clone(&opened.file));
        let (mut at, mut position) = (header.start.lsn, opened.layout.records_at());
        for number in 0..opened.layout.pages() {
            for kept in opened.table(number)? {
                if kept.at < at || kept.position != position {
                    return Err(damaged("the table is out of order"));
                }
                (at, position) = (kept.at.plus(u64::from(kept.length)), kept.end());
                let bytes = forward.bytes(kept.position, kept.length as usize, header.file_bytes)?;
                if each(kept.at, bytes) == Err(Stop) {
                    return Ok(());
                }
            }
        }
        if position == header.file_bytes { Ok(()) } else { Err(damaged("the table misses records")) }
    }

    /// Whether everything in it is as it was written. Reads all of it.
    pub(super) fn is_whole(&self) -> io::Result<bool> {
        let mut is_whole = true;
        let read = self.each(&mut |_, bytes| {
            is_whole = record::is_whole(&bytes);
            if is_whole { Ok(()) } else { Err(Stop) }
        });
        match read {
            Err(error) if !is_damage(&error) => Err(error),
            read => Ok(read.is_ok() && is_whole),
        }
    }

    /// The file as it is now: the segment may have been thinned again.
    fn open(&self) -> io::Result<Opened> {
        let file = self.io.open(&self.path)?;
        let mut layout = self.layout();
        let base = self.start.lsn;
        if file.bytes()? != layout.header.file_bytes {
            let header = read_header(&*file, &self.log_id)?.filter(|header| header.start.lsn == base);
            let header = header.ok_or_else(|| damaged("the first page is damaged"))?;
            layout = Arc::new(Layout { header, firsts: OnceLock::new() });
            *self.layout.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&layout);
        }
        Ok(Opened { file, layout, seed: block::seed(&self.log_id, base) })
    }

    fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layout.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Layout {
    /// Pages of the table.
    fn pages(&self) -> usize {
        usize::try_from(pages(self.header.live)).unwrap_or(usize::MAX)
    }

    fn records_at(&self) -> u64 {
        records_at(self.header.live)
    }
}

impl Opened {
    fn find(&self, at: Lsn) -> io::Result<Option<Kept>> {
        let after = self.firsts()?.partition_point(|first| *first <= at);
        let Some(number) = after.checked_sub(1) else { return Ok(None) };
        let table = self.table(number)?;
        Ok(table.binary_search_by_key(&at, |kept| kept.at).ok().map(|i| table[i]))
    }

    fn firsts(&self) -> io::Result<&[Lsn]> {
        if let Some(firsts) = self.layout.firsts.get() {
            return Ok(firsts);
        }
        let first = |number| Ok(self.table(number)?.first().map_or(Lsn(0), |kept| kept.at));
        let firsts = (0..self.layout.pages()).map(first).collect::<io::Result<Vec<_>>>()?;
        Ok(self.layout.firsts.get_or_init(|| firsts))
    }

    /// One page of the table, verified.
    fn table(&self, number: usize) -> io::Result<Vec<Kept>> {
        let header = &self.layout.header;
        let mut page = [0; PAGE];
        self.file.read_exact_at(&mut page, PAGE_BYTES * (1 + number as u64))?;
        if finished(&page, self.seed, number) != page {
            return Err(damaged("a page of the table is damaged"));
        }
        let left = header.live.saturating_sub((number * ENTRIES) as u64);
        let count = usize::try_from(left).map_or(ENTRIES, |left| left.min(ENTRIES));
        let entries = page[..SEED_AT].chunks_exact(ENTRY).take(count).map(|entry| self.kept(entry));
        let table: Vec<Kept> = entries.collect();
        let fits = |kept: &Kept| kept.end() <= header.file_bytes;
        if table.iter().all(fits) { Ok(table) } else { Err(damaged("an entry of the table cannot be")) }
    }

    fn kept(&self, entry: &[u8]) -> Kept {
        let number = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().expect("four bytes"));
        Kept {
            at: self.layout.header.start.lsn.plus(u64::from(number(0))),
            position: self.layout.records_at() + u64::from(number(4)),
            length: number(8),
        }
    }
}

impl Kept {
    /// Where in the file it ends.
    fn end(&self) -> u64 {
        self.position + u64::from(self.length)
    }
}

impl fmt::Debug for Thin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thin").field("path", &self.path).field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// The file of a thinned segment.
pub(super) fn path(dir: &Path, base: Lsn) -> PathBuf {
    dir.join("log").join(format!("{:020}{SUFFIX}", base.0))
}

/// The same while it is written.
pub(super) fn unfinished_path(dir: &Path, base: Lsn) -> PathBuf {
    dir.join("log").join(format!("{:020}{UNFINISHED}", base.0))
}

/// Bytes of the file of a thinned segment with that many records, which take `bytes` together.
pub fn thinned_bytes(records: u64, bytes: u64) -> u64 {
    records_at(records) + bytes
}

/// Where the first record is in a file with that many of them.
pub(super) fn records_at(live: u64) -> u64 {
    PAGE_BYTES * (1 + pages(live))
}

/// The pages of a table, one after the other; `live` as in [`super::Thinning`], all in the segment.
pub(super) fn table_pages(base: Lsn, seed: u64, live: &[(Lsn, u32)]) -> impl Iterator<Item = [u8; PAGE]> {
    let mut position = 0;
    live.chunks(ENTRIES).enumerate().map(move |(number, records)| {
        let mut page = [0; PAGE];
        for ((at, length), entry) in records.iter().zip(page.chunks_exact_mut(ENTRY)) {
            let distance = u32::try_from(at.0 - base.0).expect("a segment is smaller than 4 GiB");
            for (value, into) in [distance, position, *length].iter().zip(entry.chunks_exact_mut(4)) {
                into.copy_from_slice(&value.to_le_bytes());
            }
            position += length;
        }
        finished(&page, seed, number)
    })
}

/// Whether an error of this file says that its bytes are not what was written.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn pages(live: u64) -> u64 {
    live.div_ceil(ENTRIES as u64)
}

/// The page with the trailer it should have.
fn finished(page: &[u8; PAGE], seed: u64, number: usize) -> [u8; PAGE] {
    let mut page = *page;
    page[SEED_AT..NUMBER_AT].copy_from_slice(&seed.to_le_bytes());
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    page[NUMBER_AT..CRC_AT].copy_from_slice(&number.to_le_bytes());
    let crc = checksum(&page[..CRC_AT]);
    page[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    page
}

/// Reads and checks the first page; none if it is not one, or is of a file of another length.
fn read_header(file: &dyn File, log_id: &[u8; 16]) -> io::Result<Option<page::Thin>> {
    let file_bytes = file.bytes()?;
    if file_bytes < PAGE_BYTES {
        return Ok(None);
    }
    let mut bytes = [0; PAGE];
    file.read_exact_at(&mut bytes, 0)?;
    let header = page::Thin::decode(&bytes, log_id);
    // Every page of the table is in the file; so a number of records is no cause to allocate much.
    let fits = |header: &page::Thin| {
        header.file_bytes == file_bytes
            && header.live / ENTRIES as u64 <= file_bytes
            && records_at(header.live) <= file_bytes
    };
    Ok(header.filter(fits))
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
