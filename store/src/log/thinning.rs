//! Thinning a sealed segment: its live records are written to a file of their own, which then takes
//! its place. Which records are live is not known here.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use centaur_apis::units::Lsn;
use thiserror::Error;

use super::{
    block,
    error::{ReadError, Stop},
    forward::Forward,
    io::{File, is_full},
    page,
    part::Part,
    reader::Reader,
    record,
    segment::Segment,
    thin::{self, Thin},
};

/// Bytes written at a time.
const STEP: usize = 1 << 20;

/// A sealed segment that is to keep only some of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thinning {
    /// Where the segment begins.
    pub base: Lsn,
    /// The records to keep: where each begins, and its bytes as [`super::records`] tells them,
    /// padding included. Sorted, each once; of a segment that was thinned before, records it has.
    pub live: Vec<(Lsn, u32)>,
}

/// A segment's thinned file, durable and ready for [`super::Log::adopt_thinned`].
#[derive(Clone, Debug)]
pub struct Thinned {
    pub(super) thin: Arc<Thin>,
}

/// Why a segment was not thinned. It is as it was.
#[derive(Debug, Error)]
pub enum ThinError {
    /// It was removed, is still open, or holds what is not confirmed.
    #[error("no sealed and confirmed segment begins at LSN {base}")]
    Unfit { base: Lsn },
    /// There is no room; later there may be.
    #[error("disk is full")]
    Full,
    /// A record to keep is damaged, or gone already: what is left of the segment must not be lost.
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{} cannot be written: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl Thinned {
    /// Where the segment begins.
    pub fn base(&self) -> Lsn {
        self.thin.start.lsn
    }

    /// Bytes of the file.
    pub fn bytes_on_disk(&self) -> u64 {
        self.thin.file_bytes()
    }
}

impl Reader {
    /// Writes the thinned file of a sealed segment. Blocking, for a background thread; one at a time,
    /// others wait.
    ///
    /// Shape: the file holds exactly the live records, verified, byte for byte. Readers go on with
    /// what they have until it is adopted; if it never is, the next start adopts it.
    /// Errors: see [`ThinError`]; trying again is harmless.
    pub fn thin(&self, thinning: &Thinning) -> Result<Thinned, ThinError> {
        let Thinning { base, live } = thinning;
        let ends = live.iter().map(|(at, length)| at.plus(u64::from(*length)));
        assert!(ends.zip(live.iter().skip(1)).all(|(end, (next, _))| end <= *next), "live records are in order");
        let _one_at_a_time = self.0.thinning.lock().unwrap_or_else(PoisonError::into_inner);
        let part = self.fit_to_thin(*base)?;
        let header = self.header_of(&part, live)?;
        let home = &self.0.home;
        let unfinished = thin::unfinished_path(&home.dir, *base);
        let written = self.write(&unfinished, &part, &header, live).and_then(|()| self.give_name(&unfinished, *base));
        if written.is_err() {
            // If that fails as well, the next start does it.
            let _ = home.io.remove(&unfinished);
        }
        written.map(|()| Thinned { thin: Arc::new(Thin::made(home, header, live)) })
    }

    fn fit_to_thin(&self, base: Lsn) -> Result<Part, ThinError> {
        let (part, end) = self.part_of(base).map_err(|_| ThinError::Unfit { base })?;
        let is_sealed = self.0.segments().last().is_some_and(|open| open.base() != base);
        let is_fit = part.base() == base && is_sealed && end <= self.confirmed();
        if is_fit { Ok(part) } else { Err(ThinError::Unfit { base }) }
    }

    /// The first page of the file to be. Live records outside the segment are refused.
    fn header_of(&self, part: &Part, live: &[(Lsn, u32)]) -> Result<page::Thin, ThinError> {
        let (start, contents) = match part {
            Part::Whole(segment) => {
                let footer = segment.read_footer(&self.0.home.log_id);
                let footer = footer.map_err(|error| self.failed(part, segment.base(), error))?;
                (segment.header.start, footer.ok_or_else(|| self.damaged(segment.base()))?)
            }
            Part::Thinned(thin) => (thin.start, thin.contents),
        };
        let is_inside = |(at, length): &(Lsn, u32)| *at >= start.lsn && at.plus(u64::from(*length)) <= contents.end.lsn;
        if let Some((at, _)) = live.iter().find(|record| !is_inside(record)) {
            return Err(self.damaged(*at).into());
        }
        let record_bytes: u64 = live.iter().map(|(_, length)| u64::from(*length)).sum();
        let count = live.len() as u64;
        Ok(page::Thin { file_bytes: thin::thinned_bytes(count, record_bytes), start, contents, live: count })
    }

    fn write(&self, path: &Path, part: &Part, header: &page::Thin, live: &[(Lsn, u32)]) -> Result<(), ThinError> {
        let home = &self.0.home;
        let failed = |error| not_written(path, error);
        let file = home.io.create(path, header.file_bytes).map_err(failed)?;
        let mut out = Output { file, at: 0, buffer: Vec::new(), path };
        out.put(&header.encode(&home.log_id))?;
        let base = header.start.lsn;
        for page in thin::table_pages(base, block::seed(&home.log_id, base), live) {
            out.put(&page)?;
        }
        match part {
            Part::Whole(segment) => self.copy_whole(part, segment, header, live, &mut out)?,
            Part::Thinned(thin) => self.copy_thinned(part, thin, live, &mut out)?,
        }
        out.flush()?;
        out.file.sync().map_err(failed)
    }

    fn copy_whole(
        &self,
        part: &Part,
        segment: &Segment,
        header: &page::Thin,
        live: &[(Lsn, u32)],
        out: &mut Output<'_>,
    ) -> Result<(), ThinError> {
        let failed = |at, error| self.failed(part, at, error);
        let mut forward = Forward::new(segment.file().map_err(|error| failed(segment.base(), error))?);
        let end = segment.position(header.contents.end.lsn);
        for &(at, length) in live {
            let bytes = forward.bytes(segment.position(at), length as usize, end).map_err(|error| failed(at, error))?;
            if !record::is_whole(&bytes) {
                return Err(self.damaged(at).into());
            }
            out.put(&bytes)?;
        }
        Ok(())
    }

    fn copy_thinned(
        &self,
        part: &Part,
        thin: &Thin,
        live: &[(Lsn, u32)],
        out: &mut Output<'_>,
    ) -> Result<(), ThinError> {
        let mut wanted = live.iter().peekable();
        let mut outcome = Ok(());
        let read = thin.each(&mut |at, bytes| {
            let is_live = |&&(live_at, length): &&(Lsn, u32)| live_at == at && length as usize == bytes.len();
            if wanted.next_if(is_live).is_some() {
                let is_whole = record::is_whole(&bytes);
                outcome = if is_whole { out.put(&bytes) } else { Err(self.damaged(at).into()) };
            }
            outcome.as_ref().map_err(|_| Stop).copied()
        });
        outcome?;
        read.map_err(|error| self.failed(part, part.base(), error))?;
        let retired = |(at, _): &(Lsn, u32)| ReadError::Retired { at: *at, path: thin.path.clone() };
        wanted.next().map_or(Ok(()), |missed| Err(retired(missed).into()))
    }

    /// Gives the finished file its name, unless the segment was removed meanwhile.
    fn give_name(&self, unfinished: &Path, base: Lsn) -> Result<(), ThinError> {
        let home = &self.0.home;
        let path = thin::path(&home.dir, base);
        {
            let _names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
            self.fit_to_thin(base)?;
            home.io.rename(unfinished, &path).map_err(|error| not_written(&path, error))?;
        }
        let log_dir = home.dir.join("log");
        home.io.sync_dir(&log_dir).map_err(|error| not_written(&log_dir, error))
    }
}

/// Writes a file front to back in large steps.
struct Output<'a> {
    file: Arc<dyn File>,
    at: u64,
    buffer: Vec<u8>,
    path: &'a Path,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), ThinError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < STEP { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), ThinError> {
        let written = self.file.write_all_at(&mut [IoSlice::new(&self.buffer)], self.at);
        written.map_err(|error| not_written(self.path, error))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn not_written(path: &Path, error: io::Error) -> ThinError {
    if is_full(&error) { ThinError::Full } else { ThinError::Io { path: path.to_owned(), error } }
}
