//! A disk in memory that fails on demand, for tests. What was not synced may be lost or torn at a
//! power failure, in any order; what a failed sync covered is dropped as a kernel drops it: it is
//! still read, and will never be written.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IoSlice},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use memmap2::MmapRaw;

use super::io::{File, Io, Lock, LockGuard, Space};

const SECTOR: usize = 512;

/// A stream of numbers that a seed decides.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[allow(clippy::should_implement_trait)] // it has no end to iterate to
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The next number, made smaller than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What goes wrong, and when. Steps, writes and syncs are counted from the last [`FaultyDisk::set`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Everything fails from this step on; the step itself is half done.
    pub die_at_step: Option<u64>,
    /// This write fails, half done.
    pub fail_write: Option<u64>,
    /// This sync fails, and what it covered is dropped.
    pub fail_sync: Option<u64>,
    /// No write takes more than half of what it is given.
    pub short_writes: bool,
    /// Writes find no room after some sectors, as on a file system that copies on write.
    pub no_room: bool,
}

/// A disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<World>>);

#[derive(Clone, Debug, Default)]
struct World {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since they were last durable; a journal keeps their order.
    changes: Vec<Change>,
    locked: BTreeSet<PathBuf>,
    capacity: Option<u64>,
    faults: Faults,
    steps: u64,
    writes: u64,
    syncs: u64,
}

#[derive(Clone, Debug, Default)]
struct Node {
    now: Vec<u8>,
    /// None: not even the length is durable.
    durable: Option<Vec<u8>>,
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Change {
    Add(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    node: usize,
}

#[derive(Debug)]
struct Guard(FaultyDisk, PathBuf);

impl FaultyDisk {
    /// Another disk with the same bytes, all of them durable, and no faults.
    pub fn copy(&self) -> Self {
        let mut world = self.world().clone();
        world.settle(|_| true);
        world.locked.clear();
        world.reset(Faults::default());
        Self(Arc::new(Mutex::new(world)))
    }

    /// Decides what goes wrong from now on.
    pub fn set(&self, faults: Faults) {
        self.world().reset(faults);
    }

    /// Steps, writes and syncs since then.
    pub fn counts(&self) -> (u64, u64, u64) {
        let world = self.world();
        (world.steps, world.writes, world.syncs)
    }

    /// Cuts the power and turns it on again: what was not synced is there in part or not at all.
    pub fn power_failure(&self, random: &mut Random) {
        let mut world = self.world();
        world.settle(|_| random.below(4) != 0);
        world.reset(Faults::default());
    }

    /// Limits the bytes of all files together; none: as good as endless.
    /// Says how many bytes all files may have together; none: as many as they like.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().capacity = bytes;
    }

    /// A file's bytes.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let world = self.world();
        world.nodes[world.names[path]].now.clone()
    }

    /// Puts other bytes into a file, durably.
    pub fn change(&self, path: &Path, range: Range<usize>, with: impl Fn(u8) -> u8) {
        let mut world = self.world();
        let node = world.names[path];
        let node = &mut world.nodes[node];
        for byte in &mut node.now[range] {
            *byte = with(*byte);
        }
        node.durable = Some(node.now.clone());
    }

    /// Every file.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.world().names.keys().cloned().collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds the disk")
    }
}

impl World {
    fn reset(&mut self, faults: Faults) {
        self.faults = faults;
        (self.steps, self.writes, self.syncs) = (0, 0, 0);
    }

    /// Decides what of everything not durable gets to the disk; then all is durable.
    fn settle(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let kept = self.changes.iter().position(|_| !keep("name")).unwrap_or(self.changes.len());
        let mut names = std::mem::take(&mut self.durable_names);
        self.changes.drain(..).take(kept).for_each(|change| change.apply(&mut names));
        self.names.clone_from(&names);
        self.durable_names = names;
        for node in &mut self.nodes {
            node.settle(&mut keep);
        }
    }

    /// Counts a step; an error if the machine is dead. True if it dies with this one.
    fn step(&mut self) -> io::Result<bool> {
        let step = self.steps;
        self.steps += 1;
        match self.faults.die_at_step {
            Some(end) if step > end => Err(io::Error::other("the machine is off")),
            end => Ok(end == Some(step)),
        }
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        let dies = self.step()?;
        change.clone().apply(&mut self.names);
        self.changes.push(change);
        if dies { Err(io::Error::other("the power fails")) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|node| self.nodes[*node].now.len() as u64).sum()
    }

    fn free(&self) -> u64 {
        self.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(self.used()))
    }

    fn put(&mut self, node: usize, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).expect("tests are small");
        let node = &mut self.nodes[node];
        node.now[at..at + bytes.len()].copy_from_slice(bytes);
        node.pending.push((at, bytes.to_vec()));
    }
}

impl Node {
    /// Each sector is as some write left it: the durable one, or one of those since, in order.
    fn settle(&mut self, keep: &mut impl FnMut(&str) -> bool) {
        let mut frozen = BTreeSet::new();
        let is_new = self.durable.is_none();
        let mut bytes = self.durable.take().unwrap_or_else(|| vec![0; self.now.len()]);
        for (at, written) in self.pending.drain(..) {
            for (i, byte) in written.iter().enumerate() {
                let sector = (at + i) / SECTOR;
                if (i == 0 || (at + i).is_multiple_of(SECTOR)) && !frozen.contains(&sector) && !keep("sector") {
                    frozen.insert(sector);
                }
                if !frozen.contains(&sector) {
                    bytes[at + i] = *byte;
                }
            }
        }
        if is_new && !keep("length") {
            bytes.clear();
        }
        self.now.clone_from(&bytes);
        self.durable = Some(bytes);
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Add(path, node) => drop(names.insert(path, node)),
            Self::Remove(path) => drop(names.remove(&path)),
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(&from) {
                    names.insert(to, node);
                }
            }
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        let (one, other) = match self {
            Self::Add(path, _) | Self::Remove(path) => (path, path),
            Self::Rename(from, to) => (from, to),
        };
        one.parent() == Some(dir) || other.parent() == Some(dir)
    }
}

impl Io for FaultyDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        if world.free() < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let node = world.nodes.len();
        let now = vec![0; usize::try_from(bytes).expect("tests are small")];
        world.nodes.push(Node { now, ..Node::default() });
        world.change(Change::Add(path.to_owned(), node))?;
        drop(world);
        Ok(Arc::new(FaultyFile { disk: self.clone(), node }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let node = self.world().names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), node }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.world().change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        if !world.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change(Change::Remove(path.to_owned()))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        if world.step()? {
            return Err(io::Error::other("the power fails"));
        }
        // A journal makes everything durable up to the last change asked for.
        let synced = world.changes.iter().rposition(|change| change.touches(dir)).map_or(0, |last| last + 1);
        let mut names = std::mem::take(&mut world.durable_names);
        world.changes.drain(..synced).for_each(|change| change.apply(&mut names));
        world.durable_names = names;
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        if !self.world().locked.insert(path.to_owned()) {
            return Ok(Lock::Taken { pid: "7".to_owned() });
        }
        Ok(Lock::Held(Box::new(Guard(self.clone(), path.to_owned()))))
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        let world = self.world();
        Ok(Space { total: world.capacity.unwrap_or(1 << 40), free: world.free() })
    }

    fn is_threaded(&self) -> bool {
        false
    }
}

impl File for FaultyFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.world().nodes[self.node].now.len() as u64)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let mut world = self.disk.world();
        let (dies, write) = (world.step()?, world.writes);
        world.writes += 1;
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let fails = dies || world.faults.fail_write == Some(write);
        if world.faults.no_room && bytes.len() <= SECTOR {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let is_short = fails || world.faults.no_room || (world.faults.short_writes && bytes.len() > 1);
        let taken = if is_short { bytes.len() / 2 } else { bytes.len() };
        world.put(self.node, at, &bytes[..taken]);
        if fails { Err(io::Error::other("the write fails")) } else { Ok(taken) }
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let world = self.disk.world();
        let bytes = &world.nodes[self.node].now;
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let read = rest.len().min(into.len());
        into[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn zero(&self, at: u64, bytes: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        let dies = world.step()?;
        world.put(self.node, at, &vec![0; usize::try_from(bytes).expect("tests are small")]);
        if dies { Err(io::Error::other("the power fails")) } else { Ok(()) }
    }

    fn data_after(&self, at: u64) -> io::Result<Option<u64>> {
        let world = self.disk.world();
        let bytes = &world.nodes[self.node].now;
        let from = usize::try_from(at).expect("tests are small");
        Ok((from..bytes.len()).find(|i| bytes[*i] != 0).map(|i| i as u64))
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        let (dies, sync) = (world.step()?, world.syncs);
        world.syncs += 1;
        if dies {
            return Err(io::Error::other("the power fails"));
        }
        let fails = world.faults.fail_sync == Some(sync);
        let node = &mut world.nodes[self.node];
        if fails {
            node.pending.clear();
            return Err(io::Error::other("the sync fails"));
        }
        let now = node.now.clone();
        let durable = node.durable.get_or_insert_with(|| vec![0; now.len()]);
        for (at, bytes) in node.pending.drain(..) {
            durable[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn map(&self) -> io::Result<Option<MmapRaw>> {
        Ok(None)
    }
}

impl LockGuard for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.world().locked.remove(&self.1);
    }
}
