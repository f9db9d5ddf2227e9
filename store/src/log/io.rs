//! The door to the disk. Everything the log reads or writes passes through [`Io`] and [`File`], so
//! that a test can stand a failing disk in its place.

use std::{
    fmt, fs,
    io::{self, IoSlice, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, SeekFrom};

/// A file system.
pub trait Io: Send + Sync + fmt::Debug {
    /// Makes a directory and those above it, durably; it may be there already.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names of the files in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a file of `bytes` zeros whose blocks are allocated; replaces one of that name.
    ///
    /// Errors: `StorageFull` leaves nothing behind.
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock a file stands for, until the guard or the process is gone.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// Whether work may go on beside the caller; a simulated disk wants it done in line.
    fn is_threaded(&self) -> bool;
}

/// An open file. Its length is set when it is made and never changes.
pub trait File: Send + Sync + fmt::Debug {
    fn bytes(&self) -> io::Result<u64>;
    /// Writes the parts one after the other with one call; says how many bytes it took.
    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize>;
    /// Reads some bytes; 0 at the end of the file.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Turns a range into zeros without changing the length.
    fn zero(&self, at: u64, bytes: u64) -> io::Result<()>;
    /// The first byte at or after `at` that may not be zero; none if all are.
    fn data_after(&self, at: u64) -> io::Result<Option<u64>>;
    /// Makes what was written durable. After an error nothing is known of what was written.
    fn sync(&self) -> io::Result<()>;
    /// Maps the file for reading; none if it must be read by call.
    fn map(&self) -> io::Result<Option<MmapRaw>>;
}

/// What asking for a lock gave.
#[derive(Debug)]
pub enum Lock {
    Held(Box<dyn LockGuard>),
    /// Another process has it.
    Taken {
        pid: String,
    },
}

/// Holds a lock while it lives.
pub trait LockGuard: Send + Sync + fmt::Debug {}

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total: u64,
    /// Bytes this process may still take.
    pub free: u64,
}

impl dyn File + '_ {
    /// Writes all parts, going on where a short write ended.
    pub fn write_all_at(&self, mut parts: &mut [IoSlice<'_>], mut at: u64) -> io::Result<()> {
        while !parts.is_empty() {
            match self.write_at(parts, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut parts, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fills `into`; the file must reach that far.
    pub fn read_exact_at(&self, mut into: &mut [u8], mut at: u64) -> io::Result<()> {
        while !into.is_empty() {
            match self.read_at(into, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    at += read as u64;
                    into = &mut into[read..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether an error says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The operating system's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

#[derive(Debug)]
struct DiskFile(fs::File);

impl Io for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        // Also where it was there: whoever made it may not have synced it. A parent that this
        // process may not read is another's to keep.
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match self.sync_dir(parent) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        let file = fs::File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        if let Err(error) = allocate(&file, bytes) {
            fs::remove_file(path)?;
            return Err(error);
        }
        Ok(Arc::new(DiskFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DiskFile(fs::File::options().read(true).write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all(std::process::id().to_string().as_bytes())?;
                Ok(Lock::Held(Box::new(DiskFile(file))))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid)?;
                if pid.is_empty() {
                    pid.push_str("of unknown id"); // it has just begun
                }
                Ok(Lock::Taken { pid })
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        // What is kept for the superuser counts as used.
        let used = bytes(stat.f_blocks.saturating_sub(stat.f_bfree));
        let free = bytes(stat.f_bavail);
        Ok(Space { total: used + free, free })
    }

    fn is_threaded(&self) -> bool {
        true
    }
}

impl File for DiskFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, parts, at)?)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(into, at)
    }

    fn zero(&self, at: u64, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, at, bytes) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(self, at, bytes),
            Err(error) => Err(error.into()),
        }
    }

    fn data_after(&self, at: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&self.0, SeekFrom::Data(at)) {
            Ok(found) => Ok(Some(found)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(Some(at)),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn map(&self) -> io::Result<Option<MmapRaw>> {
        MmapOptions::new().map_raw_read_only(&self.0).map(Some)
    }
}

impl LockGuard for DiskFile {}

fn allocate(file: &fs::File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // Not every file system can; there a full disk shows later, when blocks are written.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(file: &dyn File, mut at: u64, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; 64 << 10];
    let end = at + bytes;
    while at < end {
        let step = usize::try_from(end - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all_at(&mut [IoSlice::new(&zeros[..step])], at)?;
        at += step as u64;
    }
    Ok(())
}
