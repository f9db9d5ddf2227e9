//! What can go wrong with a log, by what the caller can do about it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use centaur_apis::units::{Lsn, Term};
use thiserror::Error;

/// Said by the caller of [`super::Reader::scan`] to end it early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// Why a log does not open. Nothing was written, except after `Io` and `Full`.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("{} is in use by process {pid}; stop that process or choose another directory", dir.display())]
    Locked { dir: PathBuf, pid: String },
    #[error("{} belongs to store group {found:?}, not {wanted:?}; set the store group's name back or choose another directory", path.display())]
    Foreign { path: PathBuf, found: String, wanted: String },
    #[error("{}: {problem}; restore this file from a backup of the same directory", path.display())]
    Identity { path: PathBuf, problem: &'static str },
    #[error("{} has format {found}, and this version reads {known}; start the version that wrote it", path.display())]
    Format { path: PathBuf, found: u32, known: u32 },
    #[error("log is damaged at LSN {at}, in {}: {problem}; restore the directory from a backup, or start with --salvage to cut the log there and lose what follows", path.display())]
    Damaged { path: PathBuf, at: Lsn, problem: &'static str },
    #[error("{} has no room for a log segment of {bytes} bytes; free some space or choose smaller segments", dir.display())]
    Full { dir: PathBuf, bytes: u64 },
    #[error("{} failed: {what}: {error}", path.display())]
    Io { path: PathBuf, what: &'static str, error: io::Error },
}

/// Why a log did not do what it was told.
#[derive(Clone, Debug, Error)]
pub enum Failure {
    /// A write or sync failed. What the disk holds is unknown until the log is opened again;
    /// everything later fails the same way.
    #[error("{what} of {} failed: {error}; the log takes nothing more until it is opened again", path.display())]
    Poisoned { what: &'static str, path: PathBuf, error: Arc<io::Error> },
    /// There is no room. Nothing changed, and the log goes on when space returns.
    #[error("disk is full")]
    Full,
    /// The block does not fit into what is left of the segment. Nothing changed.
    #[error("block of {bytes} bytes does not fit, the open segment has room for {room}")]
    TooLarge { bytes: u64, room: u64 },
    /// A later term has written already. Nothing changed.
    #[error("block of term {term} is void, the log is at term {last}")]
    Stale { term: Term, last: Term },
    /// A segment that may go is still there. Trying again is harmless.
    #[error("segment {} cannot be removed: {error}", path.display())]
    Removal { path: PathBuf, error: Arc<io::Error> },
}

/// Why a place of the log cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("LSN {at} is before the log's first, {start}")]
    Gone { at: Lsn, start: Lsn },
    /// Its segment was thinned, and it was not among the records to keep.
    #[error("the record at LSN {at} is gone from {}", path.display())]
    Retired { at: Lsn, path: PathBuf },
    /// See [`super::Reader::live_records`].
    #[error("{}, where LSN {at} is, is thinned and has no blocks", path.display())]
    Thinned { at: Lsn, path: PathBuf },
    /// See [`super::Reader::scan`].
    #[error("{} is not thinned", path.display())]
    NotThinned { path: PathBuf },
    #[error("LSN {at} is not before the end of what may be read, {end}")]
    Beyond { at: Lsn, end: Lsn },
    #[error("no whole block or record is at LSN {at} in {}", path.display())]
    Damaged { at: Lsn, path: PathBuf },
    #[error("{} cannot be read: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl Failure {
    /// Whether the log is beyond use in this process.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Poisoned { .. })
    }
}

/// Puts what was tried and where beside an error of the disk.
pub(super) trait Context<T> {
    fn context(self, what: &'static str, path: &Path) -> Result<T, OpenError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: &'static str, path: &Path) -> Result<T, OpenError> {
        self.map_err(|error| OpenError::Io { path: path.to_owned(), what, error })
    }
}
