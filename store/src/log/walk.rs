//! Reads the blocks of one segment in order, by call and in large steps, checking everything that
//! can be checked.

use std::{io, sync::Arc};

use bytes::Bytes;
use centaur_apis::units::Lsn;

use super::{
    block::{HEADER, Header, Tip},
    io::File,
    record::checksum,
    segment::Segment,
};

/// Bytes read at a time.
const STEP: usize = 1 << 20;

/// A walk over a segment's blocks.
pub(super) struct Walk {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    at: Lsn,
    end: Lsn,
    /// What the next block has to continue; none before the first block of a walk that begins
    /// inside a segment.
    tip: Option<Tip>,
    buffer: Bytes,
    buffer_at: Lsn,
}

/// A block that passed every check.
pub(super) struct Block {
    pub header: Header,
    pub body: Bytes,
    /// The place behind it.
    pub tip: Tip,
}

impl Walk {
    /// Walks a whole segment, up to `end`.
    pub(super) fn whole(segment: Arc<Segment>, end: Lsn) -> io::Result<Self> {
        let (at, tip, file) = (segment.base(), Some(segment.header.start), segment.file()?);
        Ok(Self { segment, file, at, end, tip, buffer: Bytes::new(), buffer_at: at })
    }

    /// Walks from a block inside a segment, up to `end`.
    pub(super) fn from(segment: Arc<Segment>, at: Lsn, end: Lsn) -> io::Result<Self> {
        let whole = Self::whole(segment, end)?;
        Ok(if at == whole.at { whole } else { Self { at, tip: None, buffer_at: at, ..whole } })
    }

    /// The next block; none where no block follows.
    pub(super) fn next(&mut self) -> io::Result<Option<Block>> {
        let Some(head) = self.bytes(self.at, HEADER)? else { return Ok(None) };
        let head: &[u8; HEADER] = head[..].try_into().expect("as many as asked for");
        let Some(header) = Header::decode(head, self.segment.seed) else { return Ok(None) };
        let Some(tip) = self.continues(&header, head) else { return Ok(None) };
        let Some(body) = self.bytes(self.at.plus(HEADER as u64), header.body_bytes as usize)? else { return Ok(None) };
        if checksum(&body) != header.body_crc {
            return Ok(None);
        }
        self.at = tip.lsn;
        self.tip = Some(tip);
        Ok(Some(Block { header, body, tip }))
    }

    fn continues(&self, header: &Header, head: &[u8; HEADER]) -> Option<Tip> {
        if header.lsn != self.at {
            return None;
        }
        let claimed = Tip {
            lsn: header.lsn,
            index: header.index.checked_sub(1)?,
            chain: header.prev_chain,
            term: header.term,
            store_ms: header.store_ms,
        };
        self.tip.unwrap_or(claimed).after(header, head)
    }

    /// Bytes of the log, if they lie before the end of the walk.
    fn bytes(&mut self, at: Lsn, length: usize) -> io::Result<Option<Bytes>> {
        let left = self.end.0.saturating_sub(at.0);
        if (length as u64) > left {
            return Ok(None);
        }
        let skipped = usize::try_from(at.0 - self.buffer_at.0).unwrap_or(usize::MAX);
        if self.buffer.len().saturating_sub(skipped) < length {
            let step = usize::try_from(left).map_or(STEP, |left| left.min(STEP)).max(length);
            let mut bytes = vec![0; step];
            self.file.read_exact_at(&mut bytes, self.segment.position(at))?;
            self.buffer = bytes.into();
            self.buffer_at = at;
            return Ok(Some(self.buffer.slice(..length)));
        }
        Ok(Some(self.buffer.slice(skipped..skipped + length)))
    }
}
