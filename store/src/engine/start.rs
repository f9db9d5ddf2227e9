//! From a directory to a running store: open the log, load the newest snapshot, apply what came
//! after, start the thread.

use std::{
    io,
    ops::Range,
    path::Path,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Instant,
};

use bytes::Bytes;
use centaur_apis::{
    hash64,
    log::{HandleKey, SessionEnded, Snapshot, control::Event},
    names::{Invalid, StoreGroupName},
    units::Lsn,
};
use prost::Message as _;
use thiserror::Error;
use tokio::sync::watch;

use super::{COMMANDS_MAX, Command, Facts, Handle, Machine, housekeeper::run_path, lives, machine::Parts, spawn};
use crate::{
    clock::{Clock, StoreTime},
    config::Config,
    log::{
        self, Io, Log, Options, Reader, SegmentInfo,
        record::{Malformed, Record},
    },
    metrics,
    state::{
        State,
        index::{Open, Run, RunError, Source},
        snapshot_file,
    },
};

/// Bytes of a key in the log, at most, and of the end of a session.
const KEY_BYTES: usize = 128;
const SESSION_BYTES: usize = 64;

/// Why a store does not start.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Log(#[from] log::OpenError),
    #[error("{0}")]
    Name(#[from] Invalid),
    #[error(
        "log is whole from {start} on but no snapshot says what came before; restore the snapshot directory, or start with --salvage and lose every group's position"
    )]
    NoSnapshot { start: Lsn },
    #[error(
        "record at {lsn} cannot be read: {error}; restore it from a backup, or start with --salvage and lose what follows"
    )]
    Record { lsn: Lsn, error: Malformed },
    #[error("log cannot be read: {0}")]
    Read(#[from] log::ReadError),
    #[error("index run cannot be made: {0}")]
    Run(#[from] RunError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A running store: the way to its thread, and the thread.
pub struct Engine {
    pub handle: Handle,
    pub reader: Reader,
    pub facts: Facts,
    commands: mpsc::SyncSender<Command>,
    thread: Option<JoinHandle<Result<(), log::Failure>>>,
}

impl Engine {
    /// Opens and recovers a data directory. Blocking.
    pub fn open(config: Config, clock: Box<dyn Clock>, io: Arc<dyn Io>) -> Result<Self, OpenError> {
        let started = Instant::now();
        let options = Options {
            dir: config.data_dir.clone(),
            store_group: StoreGroupName::parse(&config.store_group)?,
            segment_bytes: config.segment_bytes,
            tail_bytes: config.tail_bytes,
            salvage: config.salvage,
        };
        let mut opened = log::open(options, io)?;
        // A salvage may have cut the log, or one before it that did not get as far as this.
        let may_have_lost = config.salvage || lives::may_have_lost(&config.data_dir)?;
        let (state, replayed) = recover(&config, &mut opened.log, &opened.reader, &opened.recovery.segments)?;
        let is_new = opened.log.next() == Lsn(0);
        let recovered_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        metrics::recovery(started.elapsed().as_secs_f64());
        let facts = Facts {
            recovered_ms,
            was_clean: opened.recovery.was_clean || is_new,
            replayed,
            cut: opened.recovery.cut.map(|(at, bytes)| (at.0, bytes)),
        };
        let (commands, waiting) = mpsc::sync_channel(COMMANDS_MAX);
        let (failed, failure) = watch::channel(None);
        let store_group =
            u32::try_from(hash64(config.store_group.as_bytes()) & u64::from(u32::MAX)).unwrap_or_default();
        let (data_dir, flush) = (config.data_dir.clone(), config.flush);
        let mut machine = Machine::new(Parts {
            time: StoreTime::new(clock, opened.recovery.last_store_ms),
            state,
            log: opened.log,
            reader: opened.reader.clone(),
            store_group,
            commands: commands.clone(),
            failed,
            facts: facts.clone(),
            config,
        })?;
        machine.make_handle_key(may_have_lost)?;
        lives::begin(&data_dir, flush)?;
        let thread = spawn(machine, waiting)?;
        let handle = Handle::new(commands.clone(), failure);
        Ok(Self { handle, reader: opened.reader, facts, commands, thread: Some(thread) })
    }

    /// Ends the store in order: everything answered is on disk, and the next start finds the clean
    /// marker. Blocking.
    pub fn close(&mut self) -> Result<(), log::Failure> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let _ = self.commands.send(Command::Stop); // fails only when the thread has ended already
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "store did not close cleanly");
        }
    }
}

impl Machine {
    /// Every store group has a key of its own to make receipt handles and tickets with, and another
    /// one since each loss: those of what was lost must not fit what comes in its place.
    ///
    /// Errors: it cannot be made durable.
    fn make_handle_key(&mut self, may_have_lost: bool) -> Result<(), OpenError> {
        let newest = self.state.newest_handle_key().map(|(id, _)| id);
        if newest.is_some() && !may_have_lost {
            return Ok(());
        }
        if !self.has_any_room(KEY_BYTES) {
            return Err(no_key("disk is full"));
        }
        let id = newest.and_then(|id| id.checked_add(1)).unwrap_or(1);
        let key = Bytes::copy_from_slice(&log::random_bytes());
        self.commit(Event::HandleKey(HandleKey { id: id.into(), key, ..Default::default() }));
        if newest.is_some() {
            tracing::warn!(
                end_lsn = self.log.next().0,
                "store may have lost the last messages it confirmed; receipt handles from before are refused, and what they are of comes again"
            );
            self.end_sessions();
        }
        self.write_block();
        self.sync();
        match self.failure() {
            Some(failure) => Err(no_key(failure)),
            None if !self.can_write() => Err(no_key("disk is full")),
            None => Ok(()),
        }
    }

    /// Ends what is leased for as long as its client lives: the client may live, and cannot settle it.
    fn end_sessions(&mut self) {
        let visible_at_ms = self.now_ms;
        for session in self.state.pop.sessions().collect::<Vec<u64>>() {
            if !self.has_any_room(SESSION_BYTES) {
                return; // these leases run out by themselves, in hours
            }
            self.commit(Event::SessionEnded(SessionEnded { session, visible_at_ms, group: 0 }));
        }
    }
}

fn no_key(why: &str) -> OpenError {
    let text = format!("no key for receipt handles can be written: {why}; free some space and start again");
    OpenError::Io(io::Error::other(text))
}

/// State as it was when the log ended: the newest snapshot, and every record after it.
fn recover(
    config: &Config,
    log: &mut Log,
    reader: &Reader,
    segments: &[SegmentInfo],
) -> Result<(State, u64), OpenError> {
    let start = segments.first().map_or(Lsn(0), |segment| segment.base);
    snapshot_file::forget_after(&config.data_dir, log.next())?;
    let mut damaged = Vec::new();
    let snapshot = snapshot_file::load_newest(&config.data_dir, log.next(), &mut damaged);
    let (mut state, from) = match snapshot.and_then(|(at, bytes)| Some((at, Snapshot::decode(bytes).ok()?))) {
        Some((at, snapshot)) => (State::from_snapshot(snapshot), at),
        None if start == Lsn(0) || config.salvage => (State::default(), start),
        None => return Err(OpenError::NoSnapshot { start }),
    };
    // What a thinned segment has lost counts only in a snapshot.
    if let Some(thinned) = segments.iter().rfind(|segment| segment.thinned && segment.end > from)
        && !config.salvage
    {
        return Err(OpenError::NoSnapshot { start: thinned.end });
    }
    let mut replayed = 0;
    for segment in segments {
        if !segment.sealed {
            index_before(&mut state, reader, segment, from)?;
        } else if let Some(run) = open_or_rebuild(config, reader, segment)? {
            state.index.adopt(run);
        }
        if segment.end > from {
            replayed += replay(&mut state, reader, from.max(segment.base), segment)?;
        }
    }
    if config.salvage {
        state.raise_ends();
    }
    snapshot_file::remove(&damaged);
    // Segments whose retirement was recorded but whose files were still there.
    for segment in segments.iter().filter(|segment| segment.sealed && segment.end <= state.start) {
        state.index.remove_oldest(segment.base);
        if let Err(error) = log.remove_oldest(segment.base) {
            tracing::warn!(base_lsn = segment.base.0, %error, "retired segment cannot be removed");
        }
    }
    Ok((state, replayed))
}

/// The index run of a sealed segment; made again from the segment when it is missing or damaged.
fn open_or_rebuild(config: &Config, reader: &Reader, segment: &SegmentInfo) -> Result<Option<Run>, OpenError> {
    let path = run_path(&config.data_dir, segment.base);
    match Run::open(&path) {
        Ok(run) if is_made_from(run.source(), segment) => return Ok(Some(run)),
        Ok(_) => {
            tracing::warn!(path = %path.display(), "index run says something else than its segment and is made again")
        }
        Err(error) => tracing::warn!(path = %path.display(), %error, "index run is made again from its segment"),
    }
    rebuild(&path, reader, segment).map(Some)
}

/// Makes the index run of a sealed segment from its records; of a thinned one from those that are left.
pub(super) fn rebuild(path: &Path, reader: &Reader, segment: &SegmentInfo) -> Result<Run, OpenError> {
    let mut open = if segment.thinned { Open::of_thinned() } else { Open::default() };
    each_record(reader, segment, segment.base..segment.end, &mut |lsn, length, record| {
        open.push_record(lsn, length, record);
    })?;
    open.write(path, &source_of(segment))?;
    Ok(Run::open(path)?)
}

/// What the index run of a segment is made from.
pub(super) fn source_of(segment: &SegmentInfo) -> Source {
    let thinned_bytes = if segment.thinned { segment.bytes_on_disk } else { 0 };
    Source { base: segment.base, end: segment.end, last_ms: segment.last_store_ms, thinned_bytes }
}

fn is_made_from(source: &Source, segment: &SegmentInfo) -> bool {
    let Source { base, end, thinned_bytes, .. } = source_of(segment);
    (source.base, source.end, source.thinned_bytes) == (base, end, thinned_bytes)
}

/// Indexes what the snapshot knows of the open segment: one that was sealed, and is open again
/// because the log was cut behind it, has no run, and its messages are not replayed.
fn index_before(state: &mut State, reader: &Reader, segment: &SegmentInfo, from: Lsn) -> Result<(), OpenError> {
    each_record(reader, segment, segment.base..from.min(segment.end), &mut |lsn, length, record| {
        state.index_record(lsn, length, record);
    })
}

fn replay(state: &mut State, reader: &Reader, from: Lsn, segment: &SegmentInfo) -> Result<u64, OpenError> {
    let mut records = 0;
    each_record(reader, segment, from..segment.end, &mut |lsn, length, record| {
        state.apply(lsn, length, record, segment.sealed);
        records += 1;
    })?;
    Ok(records)
}

/// Gives the records of a segment within a range that begins and ends with blocks; of a thinned one
/// those that are left.
pub(super) fn each_record(
    reader: &Reader,
    segment: &SegmentInfo,
    range: Range<Lsn>,
    each: &mut dyn FnMut(Lsn, u32, &Record),
) -> Result<(), OpenError> {
    let mut malformed = None;
    let mut give = |lsn, record: Result<(Lsn, u32, Record), Malformed>| match record {
        Ok((lsn, length, record)) => {
            each(lsn, length, &record);
            Ok(())
        }
        Err(error) => {
            malformed = Some(OpenError::Record { lsn, error });
            Err(log::Stop)
        }
    };
    if segment.thinned {
        reader.live_records(segment.base, &mut |lsn, bytes| {
            if !range.contains(&lsn) {
                return Ok(());
            }
            log::records(lsn, &bytes).try_for_each(|record| give(lsn, record))
        })?;
    } else {
        reader.scan(range.start, range.end, &mut |block| {
            log::records(block.first_record, &block.body).try_for_each(|record| give(block.lsn, record))
        })?;
    }
    malformed.map_or(Ok(()), Err)
}
