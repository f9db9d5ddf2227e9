//! Writes index runs and snapshots, and looks what of old segments is needed, in the background: none
//! of it holds up those who send.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use centaur_apis::units::Lsn;

use super::{
    Command, Machine,
    needed::{Needed, NeededError, References, add_events},
    start::{rebuild, source_of},
};
use crate::{
    log::{self, SegmentInfo, Thinning},
    state::{
        index::{Index, Open, Run},
        snapshot_file,
    },
};

/// Not two snapshots yet.
const NONE: u64 = u64::MAX;

enum Work {
    Seal(Sealed),
    Find(log::Reader, References),
    Thin(log::Reader, SegmentInfo, Thinning),
    Reindex(log::Reader, SegmentInfo),
}

struct Sealed {
    open: Arc<Open>,
    segment: SegmentInfo,
    at: Lsn,
    snapshot: Vec<u8>,
}

/// The background thread and the work it has.
pub struct Housekeeper {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
    replay_from: Arc<AtomicU64>,
}

impl Housekeeper {
    pub fn start(data_dir: &Path, commands: mpsc::SyncSender<Command>) -> io::Result<Self> {
        let (work, tasks) = mpsc::channel();
        let replay_from = Arc::new(AtomicU64::new(last_but_one(data_dir)));
        let dir = data_dir.to_owned();
        let kept = Arc::clone(&replay_from);
        let run = move || {
            let mut unwritten = Vec::new();
            for task in tasks {
                match task {
                    Work::Seal(Sealed { open, segment, at, snapshot }) => {
                        // Runs that could not be written are tried again: until they are, what came
                        // after them stays in memory as well.
                        unwritten.push((open, segment));
                        unwritten.retain(|(open, segment)| !write_run(&dir, open, segment, &commands));
                        save_snapshot(&dir, at, &snapshot, &kept);
                    }
                    Work::Find(reader, references) => find_needed(&dir, &reader, references, &commands),
                    Work::Thin(reader, segment, thinning) => thin(&reader, &segment, thinning, &commands),
                    Work::Reindex(reader, segment) => reindex(&dir, &reader, &segment, &commands),
                }
            }
        };
        let thread = thread::Builder::new().name("store-housekeeper".to_owned()).spawn(run)?;
        Ok(Self { work: Some(work), thread: Some(thread), replay_from })
    }

    /// Has a sealed segment's index run and a snapshot written.
    pub fn seal(&self, open: Arc<Open>, segment: SegmentInfo, at: Lsn, snapshot: Vec<u8>) {
        let sealed = Sealed { open, segment, at, snapshot };
        if self.work.as_ref().is_none_or(|work| work.send(Work::Seal(sealed)).is_err()) {
            tracing::error!(
                base_lsn = segment.base.0,
                "background thread is gone; the index run is rebuilt at the next start"
            );
        }
    }

    /// Has what is needed of a segment found, whose index run is on disk; the machine is told.
    pub fn find_needed(&self, reader: log::Reader, references: References) {
        let base = references.segment.base;
        if self.work.as_ref().is_none_or(|work| work.send(Work::Find(reader, references)).is_err()) {
            tracing::error!(base_lsn = base.0, "background thread is gone; the segment stays as it is");
        }
    }

    /// Has a segment rewritten with what is needed of it; the machine is told when it is done.
    pub fn thin(&self, reader: log::Reader, segment: SegmentInfo, thinning: Thinning) {
        let base = thinning.base;
        if self.work.as_ref().is_none_or(|work| work.send(Work::Thin(reader, segment, thinning)).is_err()) {
            tracing::error!(base_lsn = base.0, "background thread is gone; the segment stays as it is");
        }
    }

    /// Has the index run of a segment that was thinned made again from what is left; the machine is told.
    pub fn reindex(&self, reader: log::Reader, segment: SegmentInfo) {
        if self.work.as_ref().is_none_or(|work| work.send(Work::Reindex(reader, segment)).is_err()) {
            tracing::error!(base_lsn = segment.base.0, "background thread is gone; the index run stays as it is");
        }
    }

    /// Where a start would begin to read if the newest snapshot were lost; none without two of them.
    pub fn replay_from(&self) -> Option<Lsn> {
        let lsn = self.replay_from.load(Ordering::Acquire);
        (lsn != NONE).then_some(Lsn(lsn))
    }

    /// Waits until everything handed over is written.
    pub fn finish(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("background thread panicked");
        }
    }
}

/// Writes the index run of a segment; whether it is there. If not, the index stays in memory, and
/// the next start makes the run from its segment.
fn write_run(dir: &Path, open: &Open, segment: &SegmentInfo, commands: &mpsc::SyncSender<Command>) -> bool {
    let path = run_path(dir, segment.base);
    match open.write(&path, &source_of(segment)).and_then(|()| Run::open(&path)) {
        Ok(run) => {
            let job = Box::new(move |machine: &mut Machine| machine.adopt(run));
            // A full queue only delays it: the thread is alive, or everything ends anyway.
            let _ = commands.send(Command::Job { bytes: 0, job, permit: None });
            true
        }
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "index run cannot be written");
            false
        }
    }
}

fn save_snapshot(dir: &Path, at: Lsn, snapshot: &[u8], replay_from: &AtomicU64) {
    match snapshot_file::save(dir, at, snapshot) {
        Ok(()) => replay_from.store(last_but_one(dir), Ordering::Release),
        Err(error) => {
            tracing::error!(at_lsn = at.0, %error, "snapshot cannot be written; the next start reads more of the log")
        }
    }
}

fn find_needed(dir: &Path, reader: &log::Reader, references: References, commands: &mpsc::SyncSender<Command>) {
    let segment = references.segment;
    let needed = needed(dir, reader, references).inspect_err(|error| {
        tracing::error!(base_lsn = segment.base.0, %error, "segment cannot be looked at for retention");
    });
    let job = Box::new(move |machine: &mut Machine| machine.weigh(segment.base, needed.ok()));
    // A full queue only delays it: the thread is alive, or everything ends anyway.
    let _ = commands.send(Command::Job { bytes: 0, job, permit: None });
}

fn needed(dir: &Path, reader: &log::Reader, references: References) -> Result<Needed, NeededError> {
    let mut index = Index::new();
    index.adopt(Run::open(&run_path(dir, references.segment.base))?);
    references.find(&index, reader)
}

fn thin(reader: &log::Reader, segment: &SegmentInfo, mut thinning: Thinning, commands: &mpsc::SyncSender<Command>) {
    let base = thinning.base;
    let thinned = match add_events(reader, segment, &mut thinning.live) {
        Ok(()) if is_worth_it(segment, &thinning) => {
            let thinned = reader.thin(&thinning).inspect_err(|error| {
                tracing::error!(base_lsn = base.0, %error, "segment cannot be thinned; it stays as it is");
            });
            thinned.ok()
        }
        Ok(()) => None,
        Err(error) => {
            tracing::error!(base_lsn = base.0, %error, "segment cannot be read to be thinned; it stays as it is");
            None
        }
    };
    let job = Box::new(move |machine: &mut Machine| machine.adopt_thinned(base, thinned.as_ref()));
    // A full queue only delays it: the thread is alive, or everything ends anyway.
    let _ = commands.send(Command::Job { bytes: 0, job, permit: None });
}

fn reindex(dir: &Path, reader: &log::Reader, segment: &SegmentInfo, commands: &mpsc::SyncSender<Command>) {
    let path = run_path(dir, segment.base);
    let run = rebuild(&path, reader, segment).inspect_err(|error| {
        tracing::error!(path = %path.display(), %error, "index run cannot be made smaller; it stays as it is");
    });
    let job = Box::new(move |machine: &mut Machine| machine.adopt_smaller(run.ok()));
    // A full queue only delays it: the thread is alive, or everything ends anyway.
    let _ = commands.send(Command::Job { bytes: 0, job, permit: None });
}

/// Whether a segment takes at most half of its space with only this left of it.
fn is_worth_it(segment: &SegmentInfo, thinning: &Thinning) -> bool {
    let bytes = thinning.live.iter().map(|(_, length)| u64::from(*length)).sum();
    log::thinned_bytes(thinning.live.len() as u64, bytes) * 2 <= segment.bytes_on_disk
}

impl Machine {
    fn adopt(&mut self, run: Run) {
        self.state.index.adopt(run);
    }
}

/// The file of a segment's index run.
pub fn run_path(dir: &Path, base: Lsn) -> PathBuf {
    dir.join("log").join(format!("{:020}.idx", base.0))
}

/// Where a start would begin if the newest snapshot turned out to be damaged.
fn last_but_one(dir: &Path) -> u64 {
    snapshot_file::kept(dir).get(1).map_or(NONE, |lsn| lsn.0)
}
