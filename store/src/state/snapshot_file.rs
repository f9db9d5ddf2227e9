//! Snapshot files: derived state as bytes, with the place in the log at which it is true. A file is
//! there in full or not at all; what the bytes mean is not known here. Layout: docs/format.md.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use centaur_apis::units::Lsn;
use thiserror::Error;

use crate::log::record::checksum;

const MAGIC: [u8; 8] = *b"CNTRSNAP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 36;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
/// One more than needed: the newest may turn out to be damaged.
const KEPT: usize = 2;

/// Why a file is not a snapshot.
#[derive(Debug, Error)]
enum Unusable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is cut short or too long")]
    Length,
    #[error("checksum does not match")]
    Checksum,
    #[error("it is not a snapshot of this place in the log")]
    Foreign,
    #[error("it has format version {0}, which this version does not know")]
    Version(u32),
}

/// Writes a snapshot of the state at `at` under the data directory and removes all but it and the
/// one before. Newer ones go too: state at an earlier place is saved only after the log was cut.
pub fn save(data_dir: &Path, at: Lsn, bytes: &[u8]) -> io::Result<()> {
    let dir = folder(data_dir);
    if !dir.try_exists()? {
        fs::create_dir_all(&dir)?;
        File::open(data_dir)?.sync_all()?;
    }
    let path = file(data_dir, at);
    let temporary = path.with_extension("snap.tmp");
    let mut out = File::create(&temporary)?;
    out.write_all(&header(at, bytes))?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&temporary, &path)?;
    let older = kept(data_dir).into_iter().filter(|lsn| *lsn < at).take(KEPT - 1);
    let keep: Vec<PathBuf> = older.chain([at]).map(|lsn| file(data_dir, lsn)).collect();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        let ours = ["snap", "tmp"].iter().any(|ending| path.extension() == Some(OsStr::new(ending)));
        if ours && !keep.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    File::open(&dir)?.sync_all()
}

/// The newest sound snapshot that is true at `at_most` or earlier, and where it is true. Adds to
/// `damaged` what it passed over and never will be a snapshot.
pub fn load_newest(data_dir: &Path, at_most: Lsn, damaged: &mut Vec<PathBuf>) -> Option<(Lsn, Bytes)> {
    kept(data_dir).into_iter().filter(|at| *at <= at_most).find_map(|at| {
        let path = file(data_dir, at);
        match load(&path, at) {
            Ok(bytes) => Some((at, bytes)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "snapshot cannot be used, the one before it is tried");
                if matches!(error, Unusable::Length | Unusable::Checksum | Unusable::Foreign) {
                    damaged.push(path);
                }
                None
            }
        }
    })
}

/// Removes damaged snapshots: they must not count as some of those that are kept.
pub fn remove(damaged: &[PathBuf]) {
    for path in damaged {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "damaged snapshot cannot be removed");
        }
    }
}

/// Removes snapshots of a time that a cut of the log has undone: the log will pass their places
/// again, with other records.
pub fn forget_after(data_dir: &Path, end: Lsn) -> io::Result<()> {
    let undone: Vec<Lsn> = kept(data_dir).into_iter().filter(|at| *at > end).collect();
    for at in &undone {
        fs::remove_file(file(data_dir, *at))?;
        tracing::warn!(at_lsn = at.0, end_lsn = end.0, "snapshot lies behind the end of the log and is removed");
    }
    if undone.is_empty() { Ok(()) } else { File::open(folder(data_dir))?.sync_all() }
}

/// Places of the snapshots that are there, newest first; sound or not.
pub fn kept(data_dir: &Path) -> Vec<Lsn> {
    let Ok(entries) = fs::read_dir(folder(data_dir)) else { return Vec::new() };
    let mut found: Vec<Lsn> = entries.filter_map(|entry| place(&entry.ok()?.path())).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("snapshot")
}

fn file(data_dir: &Path, at: Lsn) -> PathBuf {
    folder(data_dir).join(format!("{:020}.snap", at.0))
}

fn place(path: &Path) -> Option<Lsn> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".snap")?;
    let number = digits.parse().ok()?;
    // Only the name we would give: "+7" and "7" are numbers too.
    (digits == format!("{number:020}")).then_some(Lsn(number))
}

fn header(at: Lsn, bytes: &[u8]) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..20].copy_from_slice(&at.0.to_le_bytes());
    out[20..28].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    out[28..32].copy_from_slice(&checksum(bytes).to_le_bytes());
    let own = checksum(&out[..CHECKSUM_AT]);
    out[CHECKSUM_AT..].copy_from_slice(&own.to_le_bytes());
    out
}

fn load(path: &Path, at: Lsn) -> Result<Bytes, Unusable> {
    let mut all = Bytes::from(fs::read(path)?);
    if all.len() < HEADER_BYTES {
        return Err(Unusable::Length);
    }
    let bytes = all.split_off(HEADER_BYTES);
    let stored = &all[..];
    let own = u32::from_le_bytes(stored[CHECKSUM_AT..].try_into().expect("four bytes"));
    if stored[..8] != MAGIC {
        return Err(Unusable::Foreign);
    }
    if checksum(&stored[..CHECKSUM_AT]) != own {
        return Err(Unusable::Checksum);
    }
    let version = u32::from_le_bytes(stored[8..12].try_into().expect("four bytes"));
    if version != VERSION {
        return Err(Unusable::Version(version));
    }
    // All that is left can only differ in the place, the length or the checksum of the bytes.
    let expected = header(at, &bytes);
    if stored[12..20] != expected[12..20] {
        return Err(Unusable::Foreign);
    }
    if stored[20..28] != expected[20..28] {
        return Err(Unusable::Length);
    }
    if stored[28..32] != expected[28..32] {
        return Err(Unusable::Checksum);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(dir: &Path, at_most: Lsn) -> Option<(Lsn, Bytes)> {
        load_newest(dir, at_most, &mut Vec::new())
    }

    #[test]
    fn the_newest_two_are_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        for at in [10, 20, 30, 40] {
            save(dir.path(), Lsn(at), format!("state {at}").as_bytes()).expect("saved");
        }
        assert_eq!(kept(dir.path()), [Lsn(40), Lsn(30)]);
        assert_eq!(newest(dir.path(), Lsn(40)), Some((Lsn(40), "state 40".into())));
        assert_eq!(newest(dir.path(), Lsn(39)), Some((Lsn(30), "state 30".into())));
        assert_eq!(newest(dir.path(), Lsn(29)), None);
    }

    #[test]
    fn one_of_a_log_that_was_cut_goes_when_an_earlier_one_is_saved() {
        let dir = tempfile::tempdir().expect("a folder");
        for at in [10, 20, 30, 15] {
            save(dir.path(), Lsn(at), b"state").expect("saved");
        }
        // 10 went when 30 was saved.
        assert_eq!(kept(dir.path()), [Lsn(15)]);
    }

    #[test]
    fn those_behind_the_end_of_the_log_are_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        for at in [10, 20] {
            save(dir.path(), Lsn(at), b"state").expect("saved");
        }
        forget_after(dir.path(), Lsn(20)).expect("nothing to do");
        assert_eq!(kept(dir.path()), [Lsn(20), Lsn(10)]);
        forget_after(dir.path(), Lsn(19)).expect("removed");
        assert_eq!(kept(dir.path()), [Lsn(10)]);
    }

    #[test]
    fn other_files_are_left_alone_and_unfinished_ones_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        save(dir.path(), Lsn(1), b"state").expect("saved");
        for name in ["notes", "7.snap", "00000000000000000009.snap.tmp"] {
            fs::write(folder(dir.path()).join(name), b"x").expect("written");
        }
        assert_eq!(kept(dir.path()), [Lsn(1)]);
        save(dir.path(), Lsn(2), b"state").expect("saved");
        assert!(folder(dir.path()).join("notes").exists());
        assert!(!folder(dir.path()).join("00000000000000000009.snap.tmp").exists());
    }

    #[test]
    fn a_damaged_one_is_passed_over() {
        let dir = tempfile::tempdir().expect("a folder");
        save(dir.path(), Lsn(1), b"old").expect("saved");
        save(dir.path(), Lsn(2), b"new").expect("saved");
        let path = file(dir.path(), Lsn(2));
        let sound = fs::read(&path).expect("read");
        let passed_over = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).expect("written");
            assert_eq!(newest(dir.path(), Lsn(2)), Some((Lsn(1), "old".into())), "{what}");
        };
        for cut in 0..sound.len() {
            passed_over(&sound[..cut], &format!("cut at {cut}"));
        }
        for bit in 0..sound.len() * 8 {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            passed_over(&flipped, &format!("bit {bit}"));
        }
        passed_over(&[sound.as_slice(), b"x"].concat(), "a byte too many");
        let mut damaged = Vec::new();
        load_newest(dir.path(), Lsn(2), &mut damaged);
        assert_eq!(kept(dir.path()), [Lsn(2), Lsn(1)], "looking changes nothing");
        remove(&damaged);
        assert_eq!(kept(dir.path()), [Lsn(1)]);
        fs::rename(file(dir.path(), Lsn(1)), &path).expect("renamed");
        assert_eq!(newest(dir.path(), Lsn(2)), None, "a file under another place's name");
    }
}
