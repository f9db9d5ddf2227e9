//! The first and the last page of a segment's file: what it is, and what it holds once sealed.
//! Layout: docs/format.md.

use centaur_apis::units::{Lsn, Term};

use super::{block::Tip, record::checksum};

/// Bytes of each page.
pub(super) const PAGE: usize = 4096;
pub(super) const PAGE_BYTES: u64 = PAGE as u64;
/// Version of everything below a log's directory.
pub(super) const FORMAT: u32 = 1;
const HEADER_MAGIC: [u8; 8] = *b"CENTSEGH";
const FOOTER_MAGIC: [u8; 8] = *b"CENTSEGF";
const THIN_MAGIC: [u8; 8] = *b"CENTTHIN";
const CRC_AT: usize = PAGE - 4;

/// What a segment is; written before the file has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Where the segment begins.
    pub start: Tip,
}

/// What a sealed segment holds; written after its blocks are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    /// Where its last block ends.
    pub end: Tip,
    pub base: Lsn,
    pub records: u64,
    /// Store time of the first block, ms.
    pub first_store_ms: u64,
}

/// What a thinned segment is, what it held, and what is left of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thin {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Where the segment begins.
    pub start: Tip,
    /// What it held before it was thinned.
    pub contents: Footer,
    /// Records that are left.
    pub live: u64,
}

impl Header {
    pub(super) fn encode(&self, log_id: &[u8; 16]) -> Vec<u8> {
        let mut page = Page::new(HEADER_MAGIC, log_id);
        page.put(self.file_bytes);
        page.put_tip(&self.start);
        page.finish()
    }

    /// Reads a page of this log; none if it is not one.
    pub(super) fn decode(bytes: &[u8; PAGE], log_id: &[u8; 16]) -> Option<Self> {
        let mut fields = fields(bytes, HEADER_MAGIC, log_id)?;
        Some(Self { file_bytes: fields.next()?, start: tip(&mut fields)? })
    }
}

impl Footer {
    pub(super) fn encode(&self, log_id: &[u8; 16]) -> Vec<u8> {
        let mut page = Page::new(FOOTER_MAGIC, log_id);
        page.put_tip(&self.end);
        page.put(self.base.0);
        page.put(self.records);
        page.put(self.first_store_ms);
        page.finish()
    }

    /// Reads a page of this log; none if it is not one.
    pub(super) fn decode(bytes: &[u8; PAGE], log_id: &[u8; 16]) -> Option<Self> {
        let mut fields = fields(bytes, FOOTER_MAGIC, log_id)?;
        Some(Self {
            end: tip(&mut fields)?,
            base: Lsn(fields.next()?),
            records: fields.next()?,
            first_store_ms: fields.next()?,
        })
    }
}

impl Thin {
    pub(super) fn encode(&self, log_id: &[u8; 16]) -> Vec<u8> {
        let mut page = Page::new(THIN_MAGIC, log_id);
        page.put(self.file_bytes);
        page.put_tip(&self.start);
        page.put_tip(&self.contents.end);
        page.put(self.contents.records);
        page.put(self.contents.first_store_ms);
        page.put(self.live);
        page.finish()
    }

    /// Reads a page of this log; none if it is not one.
    pub(super) fn decode(bytes: &[u8; PAGE], log_id: &[u8; 16]) -> Option<Self> {
        let mut fields = fields(bytes, THIN_MAGIC, log_id)?;
        let (file_bytes, start, end) = (fields.next()?, tip(&mut fields)?, tip(&mut fields)?);
        let (records, first_store_ms) = (fields.next()?, fields.next()?);
        let contents = Footer { end, base: start.lsn, records, first_store_ms };
        Some(Self { file_bytes, start, contents, live: fields.next()? })
    }
}

/// Magic 8, format 4, zero 4, log id 16, then numbers of eight bytes, and a checksum at the end.
struct Page(Vec<u8>);

impl Page {
    fn new(magic: [u8; 8], log_id: &[u8; 16]) -> Self {
        let mut bytes = Vec::with_capacity(PAGE);
        bytes.extend(magic);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(log_id);
        Self(bytes)
    }

    fn put(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn put_tip(&mut self, tip: &Tip) {
        for number in [tip.lsn.0, tip.index, tip.chain, tip.term.0, tip.store_ms] {
            self.put(number);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(CRC_AT, 0);
        let crc = checksum(&self.0);
        self.0.extend(crc.to_le_bytes());
        self.0
    }
}

fn fields<'a>(bytes: &'a [u8; PAGE], magic: [u8; 8], log_id: &[u8; 16]) -> Option<impl Iterator<Item = u64> + 'a> {
    let is_whole = checksum(&bytes[..CRC_AT]).to_le_bytes() == bytes[CRC_AT..];
    let is_ours = bytes[..8] == magic && bytes[8..12] == FORMAT.to_le_bytes() && bytes[16..32] == *log_id;
    let numbers = bytes[32..CRC_AT].chunks_exact(8);
    (is_whole && is_ours).then(|| numbers.map(|n| u64::from_le_bytes(n.try_into().expect("eight bytes"))))
}

fn tip(fields: &mut impl Iterator<Item = u64>) -> Option<Tip> {
    Some(Tip {
        lsn: Lsn(fields.next()?),
        index: fields.next()?,
        chain: fields.next()?,
        term: Term(fields.next()?),
        store_ms: fields.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_and_no_changed_bit_passes() {
        let log = [9; 16];
        let end = Tip { lsn: Lsn(4096), index: 7, chain: 77, term: Term(3), store_ms: 500 };
        let header = Header { file_bytes: 65_536, start: end };
        let footer = Footer { end, base: Lsn(96), records: 21, first_store_ms: 400 };
        let thin = Thin { file_bytes: 9000, start: Tip { lsn: Lsn(96), ..end }, contents: footer, live: 3 };
        let thin_page: [u8; PAGE] = thin.encode(&log).try_into().expect("a page");
        assert_eq!(Thin::decode(&thin_page, &log), Some(thin));
        let header_page: [u8; PAGE] = header.encode(&log).try_into().expect("a page");
        let footer_page: [u8; PAGE] = footer.encode(&log).try_into().expect("a page");
        assert_eq!(Header::decode(&header_page, &log), Some(header));
        assert_eq!(Footer::decode(&footer_page, &log), Some(footer));
        assert_eq!(Header::decode(&header_page, &[8; 16]), None, "of another log");
        assert_eq!(Footer::decode(&header_page, &log), None, "of another kind");
        for bit in 0..PAGE * 8 {
            let flip = |mut page: [u8; PAGE]| {
                page[bit / 8] ^= 1 << (bit % 8);
                page
            };
            assert_eq!(Header::decode(&flip(header_page), &log), None, "bit {bit}");
            assert_eq!(Footer::decode(&flip(footer_page), &log), None, "bit {bit}");
            assert_eq!(Thin::decode(&flip(thin_page), &log), None, "bit {bit}");
        }
    }
}
