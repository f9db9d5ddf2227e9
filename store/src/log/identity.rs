//! Who a log is: the name of its store group and a random id, written once when the directory is
//! made. The id goes into every checksum of a block, so that no block of another log ever fits.

use std::{
    io::IoSlice,
    path::{Path, PathBuf},
};

use centaur_apis::names::StoreGroupName;

use super::{
    error::{Context as _, OpenError},
    io::Io,
    page::FORMAT,
    record::checksum,
};

const TITLE: &str = "centaur log";
/// The file is shorter; a longer one is not ours.
const BYTES_MAX: u64 = 1024;

/// What a log is called and which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub store_group: String,
    pub log_id: [u8; 16],
}

/// Bytes nobody can guess, for keys and ids.
pub fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        // Asking for so few bytes fails only when a signal came first.
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}

impl Identity {
    /// A log that did not exist before.
    pub(super) fn new(store_group: &StoreGroupName) -> Self {
        let id = *random_bytes().first_chunk().expect("thirty-two bytes");
        Self { store_group: store_group.as_str().to_owned(), log_id: id }
    }

    /// Reads the identity of a directory; none if it has none yet.
    pub(super) fn load(io: &dyn Io, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = path(dir);
        let file = match io.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("open", &path),
        };
        let length = file.bytes().context("read", &path)?.min(BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(length).expect("bounded")];
        file.read_exact_at(&mut bytes, 0).context("read", &path)?;
        let text = String::from_utf8_lossy(&bytes);
        parse(&text, &path).map(Some)
    }

    /// Writes the identity of a new directory, whole or not at all.
    pub(super) fn store(&self, io: &dyn Io, dir: &Path) -> Result<(), OpenError> {
        let path = path(dir);
        let unnamed = dir.join("IDENTITY.tmp");
        let text = self.text();
        let file = io.create(&unnamed, text.len() as u64).context("create", &unnamed)?;
        file.write_all_at(&mut [IoSlice::new(text.as_bytes())], 0).context("write", &unnamed)?;
        file.sync().context("sync", &unnamed)?;
        io.rename(&unnamed, &path).context("rename", &unnamed)?;
        io.sync_dir(dir).context("sync", dir)
    }

    /// Refuses a directory of another store group.
    pub(super) fn check(&self, wanted: &StoreGroupName, dir: &Path) -> Result<(), OpenError> {
        if self.store_group == wanted.as_str() {
            return Ok(());
        }
        let (found, wanted) = (self.store_group.clone(), wanted.as_str().to_owned());
        Err(OpenError::Foreign { path: path(dir), found, wanted })
    }

    fn text(&self) -> String {
        let id = u128::from_be_bytes(self.log_id);
        let mut text = format!("{TITLE}\nformat = {FORMAT}\nstore_group = {}\nlog_id = {id:032x}\n", self.store_group);
        let crc = checksum(text.as_bytes());
        text.push_str(&format!("crc32c = {crc:08x}\n"));
        text
    }
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("IDENTITY")
}

fn parse(text: &str, path: &Path) -> Result<Identity, OpenError> {
    let refuse = |problem| OpenError::Identity { path: path.to_owned(), problem };
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
    if !text.starts_with(TITLE) {
        return Err(refuse("is not the identity of a log"));
    }
    let found = field("format").and_then(|format| format.parse().ok()).ok_or_else(|| refuse("has no format"))?;
    if found != FORMAT {
        return Err(OpenError::Format { path: path.to_owned(), found, known: FORMAT });
    }
    let store_group = field("store_group").ok_or_else(|| refuse("has no store group"))?.to_owned();
    let id = field("log_id").and_then(|id| u128::from_str_radix(id, 16).ok()).ok_or_else(|| refuse("has no log id"))?;
    let identity = Identity { store_group, log_id: id.to_be_bytes() };
    if identity.text() == text { Ok(identity) } else { Err(refuse("is damaged")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_comes_back_and_no_changed_bit_passes() {
        let identity = Identity { store_group: "orders".to_owned(), log_id: [7; 16] };
        let text = identity.text();
        let path = Path::new("IDENTITY");
        assert_eq!(parse(&text, path).expect("parses"), identity);
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&String::from_utf8_lossy(&bytes), path).is_err(), "bit {bit}");
        }
        for end in 0..text.len() {
            assert!(parse(&text[..end], path).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random_bytes(), random_bytes());
    }
}
