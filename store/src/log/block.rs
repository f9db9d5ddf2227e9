//! The bytes of one block, the unit of append, of sync and of replication: encode, decode, check.
//! Layout: docs/format.md.

use bytes::Bytes;
use centaur_apis::{
    hash64,
    units::{Lsn, Term},
};

use super::record::{self, ALIGNMENT, Malformed, Record};

/// Distance from the beginning of a block to its first record.
pub const BLOCK_HEADER_BYTES: u64 = HEADER as u64;
pub(super) const HEADER: usize = 96;
pub(super) const MAGIC: [u8; 4] = *b"CTRB";
const VERSION: u16 = 1;
const FIRST_OF_SEGMENT: u16 = 1;

/// One block as it was written.
#[derive(Clone, Debug)]
pub struct BlockView {
    pub lsn: Lsn,
    /// Where its first record begins.
    pub first_record: Lsn,
    pub term: Term,
    /// Store time, ms.
    pub store_ms: u64,
    /// Records back to back.
    pub body: Bytes,
}

/// What a block says about itself and about the log when it was formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub lsn: Lsn,
    pub body_bytes: u32,
    pub records: u32,
    pub is_first: bool,
    pub body_crc: u32,
    pub term: Term,
    /// Its number in the log, from 1.
    pub index: u64,
    /// [`Tip::chain`] of the block before it.
    pub prev_chain: u64,
    pub durable: Lsn,
    pub confirmed: Lsn,
    pub store_ms: u64,
}

/// A place between two blocks: where one log ends, and what the next block has to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub lsn: Lsn,
    /// Number of blocks before this place.
    pub index: u64,
    /// Hash over the header of the block before this place, and so over all blocks before it.
    pub chain: u64,
    pub term: Term,
    pub store_ms: u64,
}

impl Header {
    /// The header's bytes; `seed` is that of the segment.
    pub(super) fn encode(&self, seed: u64) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &self.lsn.0.to_le_bytes());
        put(16, &self.body_bytes.to_le_bytes());
        put(20, &self.records.to_le_bytes());
        put(24, &VERSION.to_le_bytes());
        put(26, &(if self.is_first { FIRST_OF_SEGMENT } else { 0 }).to_le_bytes());
        put(28, &self.body_crc.to_le_bytes());
        put(32, &self.term.0.to_le_bytes());
        put(40, &self.index.to_le_bytes());
        put(48, &self.prev_chain.to_le_bytes());
        put(56, &self.durable.0.to_le_bytes());
        put(64, &self.confirmed.0.to_le_bytes());
        put(72, &self.store_ms.to_le_bytes());
        let crc = checksum(&out, seed);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header of the segment with this seed; none if the bytes are not one.
    pub(super) fn decode(bytes: &[u8; HEADER], seed: u64) -> Option<Self> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..4] != MAGIC || u32_at(4) != checksum(bytes, seed) || u16_at(24) != VERSION {
            return None;
        }
        Some(Self {
            lsn: Lsn(u64_at(8)),
            body_bytes: u32_at(16),
            records: u32_at(20),
            is_first: u16_at(26) & FIRST_OF_SEGMENT != 0,
            body_crc: u32_at(28),
            term: Term(u64_at(32)),
            index: u64_at(40),
            prev_chain: u64_at(48),
            durable: Lsn(u64_at(56)),
            confirmed: Lsn(u64_at(64)),
            store_ms: u64_at(72),
        })
    }

    /// Bytes of the whole block.
    pub(super) fn block_bytes(&self) -> u64 {
        BLOCK_HEADER_BYTES + u64::from(self.body_bytes)
    }
}

impl Tip {
    /// Where a log with this identity begins.
    pub(super) fn genesis(log_id: &[u8; 16]) -> Self {
        Self { lsn: Lsn(0), index: 0, chain: hash64(log_id), term: Term(0), store_ms: 0 }
    }

    /// The place behind a block that continues this one; none if it does not.
    pub(super) fn after(&self, header: &Header, bytes: &[u8; HEADER]) -> Option<Self> {
        let continues = header.lsn == self.lsn
            && header.index == self.index + 1
            && header.prev_chain == self.chain
            && header.term >= self.term
            && header.store_ms >= self.store_ms;
        continues.then(|| Self {
            lsn: self.lsn.plus(header.block_bytes()),
            index: header.index,
            chain: hash64(bytes),
            term: header.term,
            store_ms: header.store_ms,
        })
    }
}

/// What the header checksums of a segment start from: a block of another log, or of another
/// segment, does not pass.
pub(super) fn seed(log_id: &[u8; 16], base: Lsn) -> u64 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(log_id);
    bytes[16..].copy_from_slice(&base.0.to_le_bytes());
    hash64(&bytes)
}

/// Splits a block body into records: where each begins, the bytes it takes, and what it says.
/// Ends after the first error.
pub fn records(first: Lsn, body: &Bytes) -> impl Iterator<Item = Result<(Lsn, u32, Record), Malformed>> {
    let mut rest = body.clone();
    let mut at = first;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match record::decode(&rest) {
            Ok((record, taken)) => {
                let begins = at;
                // The last record of a body that was cut has no padding to skip.
                let taken = taken.min(rest.len());
                rest = rest.slice(taken..);
                at = at.plus(taken as u64);
                Some(Ok((begins, u32::try_from(taken).expect("a record is shorter than 4 GiB"), record)))
            }
            Err(error) => {
                rest = Bytes::new();
                Some(Err(error))
            }
        }
    })
}

/// Bytes a body may have: records are padded, and so is a block.
pub(super) fn is_aligned(bytes: u64) -> bool {
    bytes.is_multiple_of(ALIGNMENT as u64)
}

fn checksum(header: &[u8; HEADER], seed: u64) -> u32 {
    let mut seeded = *header;
    seeded[..8].copy_from_slice(&seed.to_le_bytes());
    record::checksum(&seeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: [u8; 16] = [9; 16];

    fn tip() -> Tip {
        Tip { lsn: Lsn(4096), index: 7, chain: 77, term: Term(3), store_ms: 500 }
    }

    /// A block that continues `tip()`.
    fn header() -> Header {
        Header {
            lsn: Lsn(4096),
            body_bytes: 64,
            records: 2,
            is_first: true,
            body_crc: 5,
            term: Term(3),
            index: 8,
            prev_chain: 77,
            durable: Lsn(4000),
            confirmed: Lsn(3900),
            store_ms: 500,
        }
    }

    #[test]
    fn a_header_comes_back_and_no_changed_bit_passes() {
        let seed = seed(&LOG, Lsn(4096));
        let bytes = header().encode(seed);
        assert_eq!(Header::decode(&bytes, seed), Some(header()));
        for bit in 0..HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped, seed), None, "bit {bit}");
        }
        assert_eq!(Header::decode(&bytes, super::seed(&LOG, Lsn(0))), None, "of another segment");
        assert_eq!(Header::decode(&bytes, super::seed(&[8; 16], Lsn(4096))), None, "of another log");
    }

    #[test]
    fn only_what_continues_the_log_follows() {
        let check = |header: &Header, follows: bool, what: &str| {
            let after = tip().after(header, &header.encode(1));
            assert_eq!(after.map(|tip| tip.lsn), follows.then_some(Lsn(4096 + 96 + 64)), "{what}");
        };
        check(&header(), true, "the next block");
        check(&Header { term: Term(4), store_ms: 501, ..header() }, true, "a later term and time");
        check(&Header { lsn: Lsn(4104), ..header() }, false, "another place");
        check(&Header { index: 9, ..header() }, false, "another number");
        check(&Header { prev_chain: 78, ..header() }, false, "another past");
        check(&Header { term: Term(2), ..header() }, false, "an earlier term");
        check(&Header { store_ms: 499, ..header() }, false, "an earlier time");
    }
}
