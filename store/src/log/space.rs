//! Room for the log to grow: one segment is allocated ahead of need, in the background, so that
//! rolling does not wait and a full disk is known one segment early.
//!
//! A small file, RESERVE, is kept for the worst case: when no segment can be allocated it becomes
//! the next one, so that consumers can settle what they have while an operator makes room.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    io::{File, Io, is_full},
    metrics,
    segment::FILE_BYTES_MIN,
};

/// How often free space is looked at while all is well, and while it is not.
const CHECK: Duration = Duration::from_secs(5);
const CHECK_TIGHT: Duration = Duration::from_millis(500);
/// RESERVE is this part of a segment, and never larger than the bound.
const RESERVE_PART: u64 = 16;
const RESERVE_BYTES_MAX: u64 = 64 << 20;
/// A segment is at most this part of its file system.
const SEGMENTS_MIN: u64 = 8;
const UNNAMED: &str = "next-";

/// How full the disk is. It goes back to `Ok` by itself when space returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskStage {
    Ok,
    /// 75 % of the disk is used, and fewer than 64 segments have room: what has expired should go.
    Tight,
    /// 90 % of the disk is used, and fewer than 16 segments have room: refuse what users send.
    Refusing,
    /// The next segment cannot be allocated: refuse all that is not settling.
    Full,
}

/// A file that waits to become a segment.
#[derive(Debug)]
pub(super) struct Spare {
    pub file: Arc<dyn File>,
    pub path: PathBuf,
    pub bytes: u64,
}

/// Allocates ahead, and watches the disk.
#[derive(Debug)]
pub(super) struct Space {
    preparer: Arc<Preparer>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Preparer {
    io: Arc<dyn Io>,
    dir: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    stage: AtomicU8,
}

#[derive(Debug, Default)]
struct State {
    spare: Option<Spare>,
    reserve: Option<Spare>,
    /// The last attempt to allocate a segment failed.
    no_room: bool,
    /// Files made so far: each has a name of its own, so that one being made never meets one taken.
    made: u64,
    /// There is something to do or to look at before the time has come.
    poked: bool,
    stop: bool,
}

impl Space {
    /// Begins to allocate. Leftovers of the last process are removed.
    pub(super) fn start(io: Arc<dyn Io>, dir: &Path, segment_bytes: u64) -> io::Result<Self> {
        let log_dir = dir.join("log");
        for name in io.list(&log_dir)?.iter().filter(|name| name.starts_with(UNNAMED)) {
            io.remove(&log_dir.join(name))?;
        }
        let total = io.space(dir)?.total;
        let segment_bytes = fitting(segment_bytes, total);
        let state = State { reserve: adopt_reserve(&*io, dir)?, ..State::default() };
        let preparer = Preparer {
            io,
            dir: dir.to_owned(),
            segment_bytes,
            state: Mutex::new(state),
            changed: Condvar::new(),
            stage: AtomicU8::new(DiskStage::Ok as u8),
        };
        let preparer = Arc::new(preparer);
        let thread = if preparer.io.is_threaded() {
            let worker = Arc::clone(&preparer);
            Some(std::thread::Builder::new().name("log-space".to_owned()).spawn(move || worker.run())?)
        } else {
            None
        };
        Ok(Self { preparer, thread })
    }

    /// Takes the file for the next segment; the reserve if there is no room for a whole one.
    ///
    /// Errors: `StorageFull` if there is no reserve either.
    pub(super) fn take(&self) -> io::Result<Spare> {
        if self.thread.is_none() {
            self.preparer.prepare();
        }
        let mut state = self.preparer.lock();
        while state.spare.is_none() && !state.no_room {
            state = self.preparer.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.preparer.poke(&mut state);
        match state.spare.take() {
            Some(spare) => Ok(spare),
            None => self.preparer.take_reserve(&mut state),
        }
    }

    /// How full the disk was when last looked at.
    pub(super) fn stage(&self) -> DiskStage {
        if self.thread.is_none() {
            self.preparer.prepare();
        }
        match self.preparer.stage.load(Ordering::Acquire) {
            0 => DiskStage::Ok,
            1 => DiskStage::Tight,
            2 => DiskStage::Refusing,
            _ => DiskStage::Full,
        }
    }

    /// Has free space looked at soon: some was given back, or some was found missing.
    pub(super) fn look_again(&self) {
        self.preparer.poke(&mut self.preparer.lock());
    }

    /// Bytes of the segments to come.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.preparer.segment_bytes
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.preparer.lock().stop = true;
        self.preparer.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("thread that allocates segments panicked");
        }
    }
}

impl Preparer {
    fn run(&self) {
        loop {
            self.prepare();
            let state = self.lock();
            let pause = if self.stage.load(Ordering::Acquire) == DiskStage::Ok as u8 { CHECK } else { CHECK_TIGHT };
            let idle = |state: &mut State| !state.poked && !state.stop;
            let waited = self.changed.wait_timeout_while(state, pause, idle);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.stop {
                return;
            }
            state.poked = false;
        }
    }

    /// Allocates what is missing and sets the stage. Files are made without the lock: only one
    /// thread is here.
    fn prepare(&self) {
        let no_room = !self.prepare_spare();
        if !no_room {
            self.prepare_reserve();
        }
        self.set_stage(if no_room { DiskStage::Full } else { self.measure() });
    }

    /// Says whether there is a spare segment now.
    fn prepare_spare(&self) -> bool {
        let number = {
            let mut state = self.lock();
            if state.spare.is_some() {
                return true;
            }
            state.made += 1;
            state.made
        };
        let spare = self.make(&unnamed_path(&self.dir, number), self.segment_bytes).ok();
        let is_made = spare.is_some();
        let mut state = self.lock();
        state.no_room = !is_made;
        state.spare = spare;
        self.changed.notify_all();
        is_made
    }

    fn prepare_reserve(&self) {
        if self.lock().reserve.is_none() {
            let reserve = self.make(&reserve_path(&self.dir), self.reserve_bytes()).ok();
            self.lock().reserve = reserve;
        }
    }

    fn make(&self, path: &Path, bytes: u64) -> io::Result<Spare> {
        let made = self.io.create(path, bytes).and_then(|file| file.sync().map(|()| file));
        match made {
            Ok(file) => Ok(Spare { file, path: path.to_owned(), bytes }),
            Err(error) => {
                // Whatever was made must not take what little room there is; if nothing was, so much
                // the better.
                let _ = self.io.remove(path);
                if !is_full(&error) {
                    metrics::failed("allocate");
                    tracing::warn!(path = %path.display(), bytes, %error, "file cannot be allocated");
                }
                Err(error)
            }
        }
    }

    fn measure(&self) -> DiskStage {
        match self.io.space(&self.dir) {
            Ok(space) => {
                let stage = stage_of(space.total, space.free, self.segment_bytes);
                metrics::space(space.free, stage as u8);
                stage
            }
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "free space is unknown");
                DiskStage::Ok
            }
        }
    }

    fn set_stage(&self, stage: DiskStage) {
        let before = self.stage.swap(stage as u8, Ordering::AcqRel);
        if before < stage as u8 {
            tracing::warn!(dir = %self.dir.display(), ?stage, "disk is filling up");
        } else if before > stage as u8 {
            tracing::info!(dir = %self.dir.display(), ?stage, "disk has space again");
        }
    }

    /// The reserve under a name of its own, so that making the next one cannot touch it.
    fn take_reserve(&self, state: &mut State) -> io::Result<Spare> {
        let reserve = state.reserve.take().ok_or(io::ErrorKind::StorageFull)?;
        state.made += 1;
        let path = unnamed_path(&self.dir, state.made);
        self.io.rename(&reserve.path, &path)?;
        self.io.sync_dir(&self.dir)?;
        tracing::warn!(bytes = reserve.bytes, "disk is full; the reserve becomes the next segment");
        Ok(Spare { path, ..reserve })
    }

    fn reserve_bytes(&self) -> u64 {
        pages(self.segment_bytes / RESERVE_PART).clamp(FILE_BYTES_MIN, RESERVE_BYTES_MAX)
    }

    fn poke(&self, state: &mut State) {
        state.poked = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The size of a segment on a file system that large.
fn fitting(wanted: u64, total: u64) -> u64 {
    let fitting = pages(wanted.min(total / SEGMENTS_MIN).max(FILE_BYTES_MIN));
    if fitting < pages(wanted) {
        tracing::warn!(wanted_bytes = wanted, bytes = fitting, "file system is small; segments are made smaller");
    }
    fitting
}

fn stage_of(total: u64, free: u64, segment_bytes: u64) -> DiskStage {
    let used = total.saturating_sub(free);
    let is_used = |percent: u64| u128::from(used) * 100 >= u128::from(total) * u128::from(percent);
    let has_room_for = |segments: u64| free >= segment_bytes.saturating_mul(segments);
    if is_used(90) && !has_room_for(16) {
        DiskStage::Refusing
    } else if is_used(75) && !has_room_for(64) {
        DiskStage::Tight
    } else {
        DiskStage::Ok
    }
}

fn adopt_reserve(io: &dyn Io, dir: &Path) -> io::Result<Option<Spare>> {
    let path = reserve_path(dir);
    let file = match io.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = file.bytes()?;
    Ok((bytes >= FILE_BYTES_MIN).then_some(Spare { file, path, bytes }))
}

fn reserve_path(dir: &Path) -> PathBuf {
    dir.join("RESERVE")
}

fn unnamed_path(dir: &Path, number: u64) -> PathBuf {
    dir.join("log").join(format!("{UNNAMED}{number}.tmp"))
}

fn pages(bytes: u64) -> u64 {
    bytes / 4096 * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_the_share_and_the_room() {
        let (gib, segment) = (1 << 30, 256 << 20);
        let check = |total, free, expected| assert_eq!(stage_of(total, free, segment), expected, "{free} of {total}");
        check(100 * gib, 30 * gib, DiskStage::Ok);
        check(100 * gib, 20 * gib, DiskStage::Ok); // 75 % used, but room for 80 segments
        check(100 * gib, 15 * gib, DiskStage::Tight);
        check(100 * gib, 5 * gib, DiskStage::Tight); // 90 % used, but room for 20 segments
        check(100 * gib, 3 * gib, DiskStage::Refusing);
        check(0, 0, DiskStage::Refusing);
    }

    #[test]
    fn segments_fit_a_small_file_system() {
        assert_eq!(fitting(256 << 20, 1 << 40), 256 << 20);
        assert_eq!(fitting(256 << 20, 64 << 20), 8 << 20);
        assert_eq!(fitting(100_000, 1 << 40), 98_304);
        assert_eq!(fitting(1, 0), FILE_BYTES_MIN);
    }
}
