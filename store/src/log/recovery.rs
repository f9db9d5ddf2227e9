//! Opening a log: lock, look, decide, and only then write. A crash at any moment of it leads to
//! the same end when it is done again.

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

use centaur_apis::{names::StoreGroupName, units::Lsn};

use super::{
    Opened, Options, Recovery,
    error::{Context as _, OpenError},
    identity::{self, Identity},
    io::{Io, Lock, LockGuard},
    part::Part,
    position::{self, Cut, Position, PositionFile},
    segment::{self, Home, Segment},
    space::Space,
    survey::{Survey, bases, survey},
    thin,
    writer::{self, Log, Recovered},
};

/// Bytes rewritten at a time.
const STEP: usize = 1 << 20;

/// Opens the log of a directory, and makes one if there is none. Blocking.
///
/// Shape: everything in the log given back is durable, and confirmed as far as one node can tell.
/// Errors: see [`OpenError`]; each says what an operator can do.
pub fn open(options: Options, io: Arc<dyn Io>) -> Result<Opened, OpenError> {
    let Options { dir, store_group, segment_bytes, tail_bytes, salvage } = options;
    let lock = lock(&*io, &dir)?;
    let log_dir = dir.join("log");
    io.create_dir(&log_dir).context("create", &log_dir)?;
    let identity = identify(&*io, &dir, &store_group)?;
    let clean_end = read_clean_marker(&*io, &dir)?;
    let was_clean = clean_end.is_some();
    let path = position::path(&dir);
    let (slots, position) = PositionFile::load(&*io, &dir, identity.log_id).context("read", &path)?;
    let home = Home { io, dir, log_id: identity.log_id };
    let mut recoverer = Recoverer { home: &home, slots };
    let position = recoverer.finish_cut(position.unwrap_or_default())?;
    let found = survey(&home, position.durable.max(clean_end.unwrap_or_default()))?;
    let found = decide(found, salvage)?;
    recoverer.remove_clean_marker(was_clean)?;
    recoverer.remove_leftovers(&found)?;
    let cut = recoverer.cut(&found, position)?;
    recoverer.make_durable(&found)?;
    let slots = recoverer.slots;
    let space = Space::start(Arc::clone(&home.io), &home.dir, segment_bytes).context("measure", &home.dir)?;
    let recovered = Recovered { home, found, slots, space, lock, was_cut: cut.is_some() };
    let (log, reader) = Log::start(recovered, tail_bytes)?;
    let recovery = Recovery { was_clean, cut, last_store_ms: log.last_store_ms(), segments: log.segments() };
    tracing::info!(end_lsn = log.next().0, segments = recovery.segments.len(), was_clean, "log opened");
    Ok(Opened { log, reader, recovery })
}

/// Nothing is read or written before this.
fn lock(io: &dyn Io, dir: &Path) -> Result<Box<dyn LockGuard>, OpenError> {
    io.create_dir(dir).context("create", dir)?;
    let path = dir.join("LOCK");
    match io.lock(&path).context("lock", &path)? {
        Lock::Held(guard) => Ok(guard),
        Lock::Taken { pid } => Err(OpenError::Locked { dir: dir.to_owned(), pid }),
    }
}

fn identify(io: &dyn Io, dir: &Path, store_group: &StoreGroupName) -> Result<Identity, OpenError> {
    if let Some(identity) = Identity::load(io, dir)? {
        identity.check(store_group, dir)?;
        return Ok(identity);
    }
    if !bases(io, dir)?.is_empty() {
        return Err(OpenError::Identity { path: identity::path(dir), problem: "is missing beside a log" });
    }
    let identity = Identity::new(store_group);
    identity.store(io, dir)?;
    tracing::info!(dir = %dir.display(), store_group = identity.store_group, "log made");
    Ok(identity)
}

/// Where the log ended when it was closed in order; none if it was not. A marker without a number
/// says nothing about the end.
fn read_clean_marker(io: &dyn Io, dir: &Path) -> Result<Option<Lsn>, OpenError> {
    let path = dir.join(writer::CLEAN);
    let file = match io.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("open", &path),
    };
    let mut digits = [0; 20];
    let read = file.read_at(&mut digits, 0).context("read", &path)?;
    let end = str::from_utf8(&digits[..read]).ok().and_then(|text| text.trim_end().parse().ok());
    Ok(Some(Lsn(end.unwrap_or(0))))
}

/// Damage ends it, unless the operator has said to go on with what is whole.
fn decide(mut found: Survey, salvage: bool) -> Result<Survey, OpenError> {
    match found.damage.take() {
        Some(damage) if !salvage || found.segments.is_empty() => Err(damage),
        Some(damage) => {
            tracing::error!(%damage, at_lsn = found.tip.lsn.0, "damaged log is salvaged; what follows is lost");
            Ok(found)
        }
        None => Ok(found),
    }
}

struct Recoverer<'a> {
    home: &'a Home,
    slots: PositionFile,
}

impl Recoverer<'_> {
    /// Finishes a cut that a crash interrupted, before anything is judged: what lies behind it
    /// would look like damage.
    fn finish_cut(&mut self, position: Position) -> Result<Position, OpenError> {
        let Some(cut) = position.cut else { return Ok(position) };
        tracing::info!(at_lsn = cut.at.0, "interrupted cut is finished");
        self.carry_out(cut)?;
        let position = Position { cut: None, ..position };
        self.write_position(position)?;
        Ok(position)
    }

    /// From now on a crash is not a clean end.
    fn remove_clean_marker(&self, was_clean: bool) -> Result<(), OpenError> {
        if !was_clean {
            return Ok(());
        }
        let path = self.home.dir.join(writer::CLEAN);
        self.home.io.remove(&path).context("remove", &path)?;
        self.home.io.sync_dir(&self.home.dir).context("sync", &self.home.dir)
    }

    /// Removes the form of a segment that does not count where a crash left both, and files that were
    /// being written: thinned ones and index runs.
    fn remove_leftovers(&self, found: &Survey) -> Result<(), OpenError> {
        let log_dir = self.home.dir.join("log");
        let names = self.home.io.list(&log_dir).context("list", &log_dir)?;
        let is_leftover = |name: &String| {
            let has_part = |base: Lsn, is_thinned| {
                let found_at = found.segments.binary_search_by_key(&base, |one| one.part.base());
                found_at.is_ok_and(|i| found.segments[i].part.is_thinned() == is_thinned)
            };
            name.ends_with(thin::UNFINISHED)
                || name.ends_with(segment::RUN_UNFINISHED)
                || segment::base_of(name, segment::SUFFIX).is_some_and(|base| has_part(base, true))
                || segment::base_of(name, thin::SUFFIX).is_some_and(|base| has_part(base, false))
        };
        let leftovers: Vec<_> = names.into_iter().filter(is_leftover).collect();
        if leftovers.is_empty() {
            return Ok(());
        }
        // The name of the form that counts may not be durable yet.
        self.home.io.sync_dir(&log_dir).context("sync", &log_dir)?;
        for name in leftovers {
            tracing::info!(name, "file that a crash left unfinished, or of no use, is removed");
            remove_if_there(&*self.home.io, &log_dir.join(name))?;
        }
        self.home.io.sync_dir(&log_dir).context("sync", &log_dir)
    }

    /// Cuts what cannot be kept: first the intent, then the work, so that it is never half done.
    fn cut(&mut self, found: &Survey, position: Position) -> Result<Option<(Lsn, u64)>, OpenError> {
        let Some(cut) = found.cut() else { return Ok(None) };
        tracing::warn!(at_lsn = cut.at.0, bytes = found.dropped_bytes, "log is cut behind its last whole block");
        let durable = position.durable.min(cut.at);
        let position = Position { durable, confirmed: position.confirmed.min(cut.at), cut: Some(cut) };
        self.write_position(position)?;
        self.carry_out(cut)?;
        self.write_position(Position { cut: None, ..position })?;
        Ok(Some((cut.at, found.dropped_bytes)))
    }

    /// Removes the segments behind the cut, newest first, and makes the rest of its own zero. The
    /// file keeps its length, so that no mapping of it ever faults. A thinned segment has no rest.
    fn carry_out(&self, cut: Cut) -> Result<(), OpenError> {
        let io = &*self.home.io;
        let behind: Vec<_> = bases(io, &self.home.dir)?.into_iter().filter(|base| *base > cut.segment).collect();
        for base in behind.into_iter().rev() {
            for path in segment::paths(&self.home.dir, base) {
                remove_if_there(io, &path)?;
            }
        }
        let log_dir = self.home.dir.join("log");
        io.sync_dir(&log_dir).context("sync", &log_dir)?;
        let path = segment::path(&self.home.dir, cut.segment);
        let problem = "the segment of an unfinished cut is damaged";
        match Part::load(self.home, cut.segment).context("read", &path)? {
            Some(Part::Whole(segment)) if cut.at >= segment.base() && cut.at <= segment.limit() => {
                self.zero_from(&segment, cut.at)
            }
            Some(Part::Thinned(thin)) if cut.at == thin.contents.end.lsn => Ok(()),
            _ => Err(OpenError::Damaged { path, at: cut.at, problem }),
        }
    }

    fn zero_from(&self, segment: &Segment, at: Lsn) -> Result<(), OpenError> {
        // The run of a segment that is open again would not know what comes.
        remove_if_there(&*self.home.io, &segment::run_path(&self.home.dir, segment.base()))?;
        let log_dir = self.home.dir.join("log");
        self.home.io.sync_dir(&log_dir).context("sync", &log_dir)?;
        let from = segment.position(at);
        let file = segment.file().context("open", &segment.path)?;
        file.zero(from, segment.header.file_bytes - from).context("zero", &segment.path)?;
        file.sync().context("sync", &segment.path)
    }

    /// Writes and syncs again what is not proven to be on the disk: the page cache may show bytes
    /// that never got there, and marked them clean when a sync failed. A thinned segment was synced
    /// before it had its name.
    fn make_durable(&mut self, found: &Survey) -> Result<(), OpenError> {
        let Some((last, before)) = found.segments.split_last() else { return Ok(()) };
        for one in before.iter().filter(|one| !one.sealed) {
            let Part::Whole(segment) = &one.part else { continue };
            tracing::warn!(base_lsn = segment.base().0, "footer was damaged and is written again");
            segment.write_footer(&one.contents, &self.home.log_id).context("write", &segment.path)?;
        }
        if let Part::Whole(segment) = &last.part {
            let path = &segment.path;
            if last.sealed && found.cut().is_none() {
                segment.write_footer(&last.contents, &self.home.log_id).context("write", path)?;
            } else if found.durable < found.tip.lsn {
                rewrite(segment, found.durable.max(segment.base()), found.tip.lsn).context("rewrite", path)?;
            }
        }
        self.write_position(Position { durable: found.tip.lsn, confirmed: found.tip.lsn, cut: None })
    }

    fn write_position(&mut self, position: Position) -> Result<(), OpenError> {
        let written = self.slots.write(&*self.home.io, position).and_then(|()| self.slots.sync());
        written.context("write", self.slots.path())
    }
}

fn rewrite(segment: &Segment, from: Lsn, to: Lsn) -> io::Result<()> {
    let file = segment.file()?;
    let mut at = from;
    while at < to {
        let step = usize::try_from(to.0 - at.0).map_or(STEP, |left| left.min(STEP));
        let bytes = segment.read(at, step)?;
        file.write_all_at(&mut [IoSlice::new(&bytes)], segment.position(at))?;
        at = at.plus(step as u64);
    }
    file.sync()
}

fn remove_if_there(io: &dyn Io, path: &Path) -> Result<(), OpenError> {
    match io.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove", path),
        _ => Ok(()),
    }
}
