//! What is known to be durable, kept beside the segments: two slots written in turn, so that one
//! is whole whatever happens to the other. It tells damage from a torn tail, and it makes cutting
//! restartable. Layout: docs/format.md.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use centaur_apis::units::Lsn;

use super::{
    io::{File, Io},
    page::PAGE_BYTES,
    record::checksum,
};

const MAGIC: [u8; 8] = *b"CENTSYNC";
const SLOT: usize = 80;
const CRC_AT: usize = SLOT - 4;
/// Each slot has a page of its own.
const BYTES: u64 = 2 * PAGE_BYTES;
const NO_CUT: u64 = u64::MAX;

/// What a slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Everything before it was synced.
    pub durable: Lsn,
    /// Everything before it was agreed.
    pub confirmed: Lsn,
    /// A cut that was begun and has to be finished.
    pub cut: Option<Cut>,
}

/// Where a log is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub at: Lsn,
    /// The segment that becomes the last one, and open.
    pub segment: Lsn,
}

/// The file of the slots; made when it is first written, so that a directory that is refused is
/// left as it was.
#[derive(Debug)]
pub(super) struct PositionFile {
    file: Option<Arc<dyn File>>,
    path: PathBuf,
    log_id: [u8; 16],
    sequence: u64,
}

impl PositionFile {
    /// Reads the newer whole slot; none if there is no whole slot, or no file.
    pub(super) fn load(io: &dyn Io, dir: &Path, log_id: [u8; 16]) -> io::Result<(Self, Option<Position>)> {
        let path = path(dir);
        let file = match io.open(&path) {
            Ok(file) if file.bytes()? == BYTES => file,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok((Self { file: None, path, log_id, sequence: 0 }, None)),
        };
        let read = |slot: u64| -> io::Result<_> {
            let mut bytes = [0; SLOT];
            file.read_exact_at(&mut bytes, slot * PAGE_BYTES)?;
            Ok(decode(&bytes, &log_id))
        };
        let slots = [read(0)?, read(1)?];
        let newest = slots.into_iter().flatten().max_by_key(|(sequence, _)| *sequence);
        let (sequence, position) = newest.unzip();
        Ok((Self { file: Some(file), path, log_id, sequence: sequence.unwrap_or(0) }, position))
    }

    /// Writes the next slot. It is durable only after [`Self::sync`].
    pub(super) fn write(&mut self, io: &dyn Io, position: Position) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let bytes = encode(sequence, &position, &self.log_id);
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(create(io, &self.path)?),
        };
        file.write_all_at(&mut [IoSlice::new(&bytes)], sequence % 2 * PAGE_BYTES)?;
        self.sequence = sequence;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.sync())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("log").join("SYNC")
}

fn create(io: &dyn Io, path: &Path) -> io::Result<Arc<dyn File>> {
    let file = io.create(path, BYTES)?;
    file.sync()?;
    path.parent().map_or(Ok(()), |dir| io.sync_dir(dir))?;
    Ok(file)
}

fn encode(sequence: u64, position: &Position, log_id: &[u8; 16]) -> [u8; SLOT] {
    let mut out = [0; SLOT];
    out[..8].copy_from_slice(&MAGIC);
    out[8..24].copy_from_slice(log_id);
    let (cut, segment) = position.cut.map_or((NO_CUT, 0), |cut| (cut.at.0, cut.segment.0));
    let numbers = [sequence, position.durable.0, position.confirmed.0, cut, segment];
    for (number, into) in numbers.iter().zip(out[24..64].chunks_exact_mut(8)) {
        into.copy_from_slice(&number.to_le_bytes());
    }
    let crc = checksum(&out[..CRC_AT]);
    out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8; SLOT], log_id: &[u8; 16]) -> Option<(u64, Position)> {
    let is_whole = checksum(&bytes[..CRC_AT]).to_le_bytes() == bytes[CRC_AT..];
    if !is_whole || bytes[..8] != MAGIC || bytes[8..24] != *log_id {
        return None;
    }
    let number = |i: usize| u64::from_le_bytes(bytes[24 + 8 * i..32 + 8 * i].try_into().expect("eight bytes"));
    let cut = (number(3) != NO_CUT).then(|| Cut { at: Lsn(number(3)), segment: Lsn(number(4)) });
    Some((number(0), Position { durable: Lsn(number(1)), confirmed: Lsn(number(2)), cut }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_and_no_changed_bit_passes() {
        for cut in [None, Some(Cut { at: Lsn(4096), segment: Lsn(0) })] {
            let position = Position { durable: Lsn(5000), confirmed: Lsn(4999), cut };
            let bytes = encode(9, &position, &[3; 16]);
            assert_eq!(decode(&bytes, &[3; 16]), Some((9, position)));
            assert_eq!(decode(&bytes, &[4; 16]), None, "another log's slot");
            for bit in 0..SLOT * 8 {
                let mut flipped = bytes;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&flipped, &[3; 16]), None, "bit {bit}");
            }
        }
    }
}
