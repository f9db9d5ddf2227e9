//! One file of the log, mapped for reading where that pays. Nothing is written through a mapping.

use std::{
    fmt,
    io::{self, IoSlice},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use centaur_apis::units::Lsn;
use memmap2::MmapRaw;

use super::{
    block::{self, BLOCK_HEADER_BYTES},
    io::{File, Io},
    page::{self, PAGE, PAGE_BYTES},
    thin,
};

pub(super) const SUFFIX: &str = ".seg";
/// A file this small holds no block worth having.
pub(super) const FILE_BYTES_MIN: u64 = 64 << 10;

/// Where the files of one log are, and whose they are.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub io: Arc<dyn Io>,
    /// The data directory.
    pub dir: PathBuf,
    pub log_id: [u8; 16],
}

/// One segment. It holds no open file: a long log has more segments than a process may have
/// descriptors.
pub(super) struct Segment {
    pub path: PathBuf,
    pub header: page::Header,
    /// What the header checksums of its blocks start from.
    pub seed: u64,
    io: Arc<dyn Io>,
    map: RwLock<Option<Arc<Map>>>,
}

/// A file mapped for reading.
struct Map(MmapRaw);

/// A range of a mapped file that is never written again.
struct Slice {
    map: Arc<Map>,
    range: Range<usize>,
}

impl Segment {
    pub(super) fn new(home: &Home, header: page::Header) -> Self {
        let base = header.start.lsn;
        let (path, seed) = (path(&home.dir, base), block::seed(&home.log_id, base));
        Self { path, header, seed, io: Arc::clone(&home.io), map: RwLock::new(None) }
    }

    /// Reads the first page of a file; none if that is not one of this log with this base.
    pub(super) fn load(home: &Home, base: Lsn) -> io::Result<Option<Self>> {
        let file = home.io.open(&path(&home.dir, base))?;
        let file_bytes = file.bytes()?;
        if file_bytes < FILE_BYTES_MIN {
            return Ok(None);
        }
        let mut bytes = [0; PAGE];
        file.read_exact_at(&mut bytes, 0)?;
        let header = page::Header::decode(&bytes, &home.log_id);
        let header = header.filter(|header| header.start.lsn == base && header.file_bytes == file_bytes);
        Ok(header.map(|header| Self::new(home, header)))
    }

    /// Opens the file.
    pub(super) fn file(&self) -> io::Result<Arc<dyn File>> {
        self.io.open(&self.path)
    }

    /// Where its first block begins.
    pub(super) fn base(&self) -> Lsn {
        self.header.start.lsn
    }

    /// Behind the last place a block may take.
    pub(super) fn limit(&self) -> Lsn {
        self.base().plus(self.header.file_bytes - 2 * PAGE_BYTES)
    }

    /// Bytes a block body may have that begins at `next`.
    pub(super) fn room(&self, next: Lsn) -> u64 {
        self.limit().0.saturating_sub(next.0).saturating_sub(BLOCK_HEADER_BYTES)
    }

    /// Where a place of the log is in the file.
    pub(super) fn position(&self, at: Lsn) -> u64 {
        at.0 - self.base().0 + PAGE_BYTES
    }

    pub(super) fn read_footer(&self, log_id: &[u8; 16]) -> io::Result<Option<page::Footer>> {
        let mut bytes = [0; PAGE];
        self.file()?.read_exact_at(&mut bytes, self.footer_position())?;
        Ok(page::Footer::decode(&bytes, log_id).filter(|f| f.base == self.base() && f.end.lsn <= self.limit()))
    }

    /// Writes the footer and makes it durable. The blocks are durable already.
    pub(super) fn write_footer(&self, footer: &page::Footer, log_id: &[u8; 16]) -> io::Result<()> {
        let file = self.file()?;
        file.write_all_at(&mut [IoSlice::new(&footer.encode(log_id))], self.footer_position())?;
        file.sync()
    }

    pub(super) fn footer_position(&self) -> u64 {
        self.header.file_bytes - PAGE_BYTES
    }

    /// Bytes of the file from `at` on, from a mapping if the file has one.
    ///
    /// The caller has made sure that they are confirmed: no one writes there again.
    pub(super) fn read_mapped(&self, at: Lsn, length: usize) -> io::Result<Bytes> {
        let start = usize::try_from(self.position(at)).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let range = start..start + length;
        match self.map()? {
            Some(map) if range.end <= map.0.len() => Ok(Bytes::from_owner(Slice { map, range })),
            Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            None => self.read(at, length),
        }
    }

    /// A copy of bytes of the file, read by call: an unreadable sector is an error, not a signal.
    pub(super) fn read(&self, at: Lsn, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.file()?.read_exact_at(&mut bytes, self.position(at))?;
        Ok(bytes.into())
    }

    /// Lets the mapping go; slices already given out keep it.
    pub(super) fn unmap(&self) {
        *self.map.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn map(&self) -> io::Result<Option<Arc<Map>>> {
        if let Some(map) = &*self.map.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Some(Arc::clone(map)));
        }
        let mut slot = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = self.file()?.map()?.map(|raw| Arc::new(Map(raw)));
        }
        Ok(slot.clone())
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        assert!(self.range.start <= self.range.end && self.range.end <= self.map.0.len());
        // SAFETY: the range lies within the mapping, which lives as long as `self.map`. The file
        // never shrinks, and `read_mapped` is given confirmed ranges only: they were written before
        // the slice was made and no one, this process or another, writes there again (the directory
        // is locked; cuts happen before there are readers).
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.map.0.as_ptr().add(self.range.start), self.range.len())
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("path", &self.path).field("header", &self.header).finish_non_exhaustive()
    }
}

/// The file of a segment.
pub(super) fn path(dir: &Path, base: Lsn) -> PathBuf {
    dir.join("log").join(format!("{:020}{SUFFIX}", base.0))
}

/// Ending of an index run that is being written.
pub(super) const RUN_UNFINISHED: &str = ".idx.tmp";

/// The index run that belongs to a segment; written by others, removed with it.
pub(super) fn run_path(dir: &Path, base: Lsn) -> PathBuf {
    dir.join("log").join(format!("{:020}.idx", base.0))
}

/// Every file a segment may have, in the order in which they are removed.
pub(super) fn paths(dir: &Path, base: Lsn) -> [PathBuf; 3] {
    [run_path(dir, base), path(dir, base), thin::path(dir, base)]
}

/// The base in the name of a file with this ending; none if the name is not one.
pub(super) fn base_of(name: &str, suffix: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(suffix).filter(|digits| digits.len() == 20)?;
    digits.parse().ok().map(Lsn)
}
