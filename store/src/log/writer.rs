//! The writing half of a log, owned by the one thread that decides the order.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use centaur_apis::units::{Lsn, Term};

use super::{
    SegmentInfo,
    block::{BLOCK_HEADER_BYTES, Header, Tip, is_aligned},
    error::{Context as _, Failure, OpenError},
    io::{File, LockGuard, is_full},
    metrics,
    page::{self, Footer},
    part::Part,
    position::{Position, PositionFile},
    reader::{Reader, Shared},
    record::checksum,
    segment::{self, Home, Segment},
    space::{DiskStage, Space, Spare},
    survey::{Survey, Surveyed},
    tail::Tail,
    thinning::Thinned,
};

/// Says that the log was closed in order.
pub(super) const CLEAN: &str = "CLEAN";
/// The SYNC file is synced after this much store time, ms: for so long could damage of synced data
/// be taken for a torn tail.
const POSITION_SYNC_MS: u64 = 1000;

/// Where a block went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub block: Lsn,
    pub first_record: Lsn,
    pub end: Lsn,
}

/// The writing half: blocks in, positions out. Everything blocks.
#[derive(Debug)]
pub struct Log {
    home: Home,
    shared: Arc<Shared>,
    /// The open segment, and what it holds so far.
    open: Arc<Segment>,
    file: Arc<dyn File>,
    contents: Footer,
    sealed: VecDeque<SegmentInfo>,
    durable: Lsn,
    slots: PositionFile,
    /// Store time when the slots were last synced, ms.
    slots_synced_ms: u64,
    space: Space,
    poisoned: Option<Failure>,
    // Dropped last: the directory is ours until everything else has ended.
    _lock: Box<dyn LockGuard>,
}

/// A recovered directory.
pub(super) struct Recovered {
    pub home: Home,
    pub found: Survey,
    pub slots: PositionFile,
    pub space: Space,
    pub lock: Box<dyn LockGuard>,
    /// The last segment found is to be open, whatever it was.
    pub was_cut: bool,
}

impl Log {
    /// Goes on where a recovered log ends.
    pub(super) fn start(recovered: Recovered, tail_bytes: usize) -> Result<(Self, Reader), OpenError> {
        let Recovered { home, mut found, slots, space, lock, was_cut } = recovered;
        let tip = found.tip;
        // Nothing is appended to what is thinned.
        let is_open = |last: &mut Surveyed| !last.part.is_thinned() && (!last.sealed || was_cut);
        let (open, file, contents) = match found.segments.pop_if(is_open) {
            Some(Surveyed { part: Part::Whole(segment), contents, .. }) => {
                let file = segment.file().context("open", &segment.path)?;
                (segment, file, contents)
            }
            _ => {
                let made = space.take().and_then(|spare| make_segment(&home, spare, tip));
                let (open, file) = made.map_err(|error| no_segment(&home.dir, space.segment_bytes(), error))?;
                (open, file, empty(tip))
            }
        };
        let sealed: VecDeque<_> = found.segments.iter().map(|one| one.info(true)).collect();
        let segments = found.segments.into_iter().map(|one| one.part).chain([Part::Whole(Arc::clone(&open))]).collect();
        let shared = Arc::new(Shared {
            home: home.clone(),
            segments: RwLock::new(segments),
            tail: RwLock::new(Tail::new(tail_bytes)),
            written: AtomicU64::new(tip.lsn.0),
            confirmed: AtomicU64::new(tip.lsn.0),
            opened_at: tip.lsn,
            warm: RwLock::default(),
            thinning: Mutex::default(),
            names: Mutex::default(),
        });
        let log = Self {
            home,
            shared: Arc::clone(&shared),
            open,
            file,
            contents,
            sealed,
            durable: tip.lsn,
            slots,
            slots_synced_ms: tip.store_ms,
            space,
            poisoned: None,
            _lock: lock,
        };
        Ok((log, Reader::new(shared)))
    }

    /// Bytes a block body may still have in the open segment.
    pub fn room(&self) -> u64 {
        self.open.room(self.next())
    }

    /// Whether the open segment is a small one, begun when there was no room for a whole one, and there
    /// is room again.
    pub fn has_outlived_reserve(&self) -> bool {
        let is_small = self.open.header.file_bytes < self.space.segment_bytes();
        is_small && self.space.stage() != DiskStage::Full
    }

    /// Where the next block begins.
    pub fn next(&self) -> Lsn {
        self.contents.end.lsn
    }

    /// Everything before it was handed to the operating system.
    pub fn written(&self) -> Lsn {
        self.next()
    }

    /// Everything before it is on the disk.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Every segment, oldest first; the last one is open.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.sealed.iter().copied().chain([self.open_info(false)]).collect()
    }

    /// How full the disk is.
    pub fn stage(&self) -> DiskStage {
        self.space.stage()
    }

    pub(super) fn last_store_ms(&self) -> u64 {
        self.contents.end.store_ms
    }

    /// Says that everything before `confirmed` is agreed: readers may see it, and the next block
    /// will tell. It never goes back.
    pub fn set_confirmed(&mut self, confirmed: Lsn) {
        self.shared.confirmed.fetch_max(confirmed.min(self.written()).0, Ordering::AcqRel);
    }

    /// Writes one block at [`Self::next`], with one call. Does not sync.
    ///
    /// Units: `body` is records back to back, at most [`Self::room`] bytes; `store_ms` is store
    /// time in ms, and that of the last block stands if it is smaller.
    /// Errors: `TooLarge`, `Stale` and `Full` leave the log as it was. `Full` comes only where
    /// allocating a file does not keep its space. `Poisoned`: see [`Failure`].
    pub fn append(&mut self, body: Bytes, records: u32, store_ms: u64, term: Term) -> Result<Appended, Failure> {
        self.check_usable()?;
        assert!(!body.is_empty() && is_aligned(body.len() as u64), "a body is padded records");
        let (bytes, room) = (body.len() as u64, self.room());
        let last = self.contents.end;
        if bytes > room {
            return Err(Failure::TooLarge { bytes, room });
        }
        if term < last.term {
            return Err(Failure::Stale { term, last: last.term });
        }
        let started = Instant::now();
        let header = self.header(&body, records, store_ms, term);
        let head = header.encode(self.open.seed);
        let written =
            self.file.write_all_at(&mut [IoSlice::new(&head), IoSlice::new(&body)], self.open.position(last.lsn));
        if let Err(error) = written {
            return Err(self.failed_append(error, header.block_bytes()));
        }
        let tip = last.after(&header, &head).expect("it was made to continue the last block");
        if header.is_first {
            self.contents.first_store_ms = header.store_ms;
        }
        self.contents.end = tip;
        self.contents.records += u64::from(records);
        let first_record = last.lsn.plus(BLOCK_HEADER_BYTES);
        self.shared.publish(first_record, body, tip.lsn);
        metrics::appended(started.elapsed().as_secs_f64(), header.block_bytes());
        Ok(Appended { block: last.lsn, first_record, end: tip.lsn })
    }

    /// Makes everything written durable; gives the durable end.
    ///
    /// Errors: after the first failure every later call of anything fails with it. A sync is never
    /// tried again: the kernel may have dropped what it could not write.
    pub fn sync(&mut self) -> Result<Lsn, Failure> {
        self.check_usable()?;
        if self.durable == self.written() {
            return Ok(self.durable);
        }
        let started = Instant::now();
        self.file.sync().map_err(|error| self.poison("sync", self.open.path.clone(), error))?;
        metrics::synced(started.elapsed().as_secs_f64());
        self.durable = self.written();
        self.note_durable()?;
        Ok(self.durable)
    }

    /// Seals the open segment and opens the next; gives the sealed one. An empty segment is not
    /// sealed but given as it is, with `sealed` false.
    ///
    /// Errors: `Full` if there is no file for the next segment: the open one goes on being open.
    pub fn roll(&mut self) -> Result<SegmentInfo, Failure> {
        self.check_usable()?;
        if self.contents.end.lsn == self.open.base() {
            return Ok(self.open_info(false));
        }
        let spare = match self.space.take() {
            Ok(spare) => spare,
            Err(error) if is_full(&error) => return Err(Failure::Full),
            Err(error) => return Err(self.poison("allocate", self.home.dir.clone(), error)),
        };
        // The footer vouches for blocks that are durable, and the next segment for the footer.
        self.sync()?;
        let footer = self.open.write_footer(&self.contents, &self.home.log_id);
        footer.map_err(|error| self.poison("seal", self.open.path.clone(), error))?;
        let tip = self.contents.end;
        let made = make_segment(&self.home, spare, tip);
        let (segment, file) =
            made.map_err(|error| self.poison("create", segment::path(&self.home.dir, tip.lsn), error))?;
        let sealed = self.open_info(true);
        self.sealed.push_back(sealed);
        (self.open, self.file) = (segment, file);
        self.contents = empty(tip);
        self.shared.add_segment(Part::Whole(Arc::clone(&self.open)));
        tracing::info!(base_lsn = sealed.base.0, end_lsn = sealed.end.0, "segment sealed");
        Ok(sealed)
    }

    /// Removes the oldest segment if it is the one that begins at `base`: first its index run, then
    /// what there is of its own. One that has gone already is no error, and the open one stays.
    ///
    /// Errors: `Removal`, which may be tried again.
    pub fn remove_oldest(&mut self, base: Lsn) -> Result<(), Failure> {
        if self.sealed.front().is_none_or(|oldest| oldest.base != base) {
            return Ok(());
        }
        {
            let _names = self.shared.names.lock().unwrap_or_else(PoisonError::into_inner);
            self.remove_files(&segment::paths(&self.home.dir, base))?;
            self.shared.forget_oldest();
        }
        self.sealed.pop_front();
        self.space.look_again();
        Ok(())
    }

    /// Has a thinned file take the place of its segment, whose own file is removed. What was read
    /// stays valid. A segment that has gone already is no error.
    ///
    /// Errors: `Removal`: the file that is not needed is still there. Doing it again, or the next
    /// start, removes it.
    pub fn adopt_thinned(&mut self, thinned: &Thinned) -> Result<(), Failure> {
        let base = thinned.base();
        let Some(info) = self.sealed.iter_mut().find(|info| info.base == base) else { return Ok(()) };
        (info.thinned, info.bytes_on_disk) = (true, thinned.bytes_on_disk());
        self.shared.replace(Part::Thinned(Arc::clone(&thinned.thin)));
        self.remove_files(&[segment::path(&self.home.dir, base)])?;
        self.space.look_again();
        tracing::info!(base_lsn = base.0, bytes_on_disk = thinned.bytes_on_disk(), "segment thinned");
        Ok(())
    }

    /// Removes files that may be gone already, durably.
    fn remove_files(&self, paths: &[PathBuf]) -> Result<(), Failure> {
        for path in paths {
            match self.home.io.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(removal(path.clone(), error)),
                _ => {}
            }
        }
        let log_dir = self.home.dir.join("log");
        self.home.io.sync_dir(&log_dir).map_err(|error| removal(log_dir, error))
    }

    /// Ends the log in order: the next start will find that nothing was left undone.
    pub fn close(mut self) -> Result<(), Failure> {
        self.sync()?;
        let position = self.position();
        let synced = self.slots.write(&*self.home.io, position).and_then(|()| self.slots.sync());
        synced.map_err(|error| self.poison("sync", self.slots.path().to_owned(), error))?;
        let path = self.home.dir.join(CLEAN);
        let text = format!("{}\n", self.durable);
        let marked = self.home.io.create(&path, text.len() as u64).and_then(|file| {
            file.write_all_at(&mut [IoSlice::new(text.as_bytes())], 0)?;
            file.sync()?;
            self.home.io.sync_dir(&self.home.dir)
        });
        match marked {
            // The next start looks more closely, that is all.
            Err(error) if is_full(&error) => tracing::warn!(path = %path.display(), "no room for the clean marker"),
            marked => marked.map_err(|error| self.poison("write", path, error))?,
        }
        tracing::info!(dir = %self.home.dir.display(), end_lsn = self.durable.0, "log closed");
        Ok(())
    }

    fn header(&self, body: &Bytes, records: u32, store_ms: u64, term: Term) -> Header {
        let last = self.contents.end;
        Header {
            lsn: last.lsn,
            body_bytes: u32::try_from(body.len()).expect("a segment is smaller than 4 GiB"),
            records,
            is_first: last.lsn == self.open.base(),
            body_crc: checksum(body),
            term,
            index: last.index + 1,
            prev_chain: last.chain,
            durable: self.durable,
            confirmed: Lsn(self.shared.confirmed.load(Ordering::Acquire)),
            store_ms: store_ms.max(last.store_ms),
        }
    }

    /// Without space the part that was written is taken back; any other error is final.
    fn failed_append(&mut self, error: io::Error, bytes: u64) -> Failure {
        let path = self.open.path.clone();
        if !is_full(&error) {
            return self.poison("write", path, error);
        }
        let undone = self.file.zero(self.open.position(self.next()), bytes).and_then(|()| self.file.sync());
        if let Err(error) = undone {
            return self.poison("undo of a write", path, error);
        }
        metrics::failed("full");
        self.space.look_again();
        Failure::Full
    }

    /// Notes the durable end beside the log; made durable itself once a second, which costs no
    /// sync for each block.
    fn note_durable(&mut self) -> Result<(), Failure> {
        let position = self.position();
        let mut noted = self.slots.write(&*self.home.io, position);
        let now_ms = self.last_store_ms();
        if noted.is_ok() && now_ms >= self.slots_synced_ms + POSITION_SYNC_MS {
            noted = self.slots.sync();
            self.slots_synced_ms = now_ms;
        }
        noted.map_err(|error| self.poison("sync", self.slots.path().to_owned(), error))
    }

    fn position(&self) -> Position {
        let confirmed = Lsn(self.shared.confirmed.load(Ordering::Acquire));
        Position { durable: self.durable, confirmed, cut: None }
    }

    fn open_info(&self, sealed: bool) -> SegmentInfo {
        SegmentInfo {
            base: self.open.base(),
            end: self.next(),
            sealed,
            first_store_ms: self.contents.first_store_ms,
            last_store_ms: self.contents.end.store_ms,
            thinned: false,
            bytes_on_disk: self.open.header.file_bytes,
        }
    }

    fn check_usable(&self) -> Result<(), Failure> {
        self.poisoned.clone().map_or(Ok(()), Err)
    }

    fn poison(&mut self, what: &'static str, path: PathBuf, error: io::Error) -> Failure {
        metrics::failed(what);
        let failure = Failure::Poisoned { what, path, error: Arc::new(error) };
        self.poisoned.get_or_insert(failure).clone()
    }
}

/// What a segment holds that begins at `tip`.
fn empty(tip: Tip) -> Footer {
    Footer { end: tip, base: tip.lsn, records: 0, first_store_ms: 0 }
}

fn no_segment(dir: &Path, bytes: u64, error: io::Error) -> OpenError {
    let dir = dir.to_owned();
    if is_full(&error) {
        OpenError::Full { dir, bytes }
    } else {
        OpenError::Io { path: dir, what: "create segment", error }
    }
}

/// Turns a spare file into the segment that begins at `start`. It has its name only when its
/// header is durable.
fn make_segment(home: &Home, spare: Spare, start: Tip) -> io::Result<(Arc<Segment>, Arc<dyn File>)> {
    let header = page::Header { file_bytes: spare.bytes, start };
    spare.file.write_all_at(&mut [IoSlice::new(&header.encode(&home.log_id))], 0)?;
    spare.file.sync()?;
    let segment = Segment::new(home, header);
    home.io.rename(&spare.path, &segment.path)?;
    home.io.sync_dir(&home.dir.join("log"))?;
    Ok((Arc::new(segment), spare.file))
}

fn removal(path: PathBuf, error: io::Error) -> Failure {
    Failure::Removal { path, error: Arc::new(error) }
}
