//! Reads the blocks of one segment in order, checking everything that can be checked.

use std::{io, sync::Arc};

use bytes::Bytes;
use centaur_apis::units::Lsn;

use super::{
    block::{HEADER, Header, Tip},
    forward::Forward,
    record::checksum,
    segment::Segment,
};

/// A walk over a segment's blocks.
pub(super) struct Walk {
    segment: Arc<Segment>,
    forward: Forward,
    at: Lsn,
    end: Lsn,
    /// What the next block has to continue; none before the first block of a walk that begins
    /// inside a segment.
    tip: Option<Tip>,
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
        let (at, tip, forward) = (segment.base(), Some(segment.header.start), Forward::new(segment.file()?));
        Ok(Self { segment, forward, at, end, tip })
    }

    /// Walks from a block inside a segment, up to `end`.
    pub(super) fn from(segment: Arc<Segment>, at: Lsn, end: Lsn) -> io::Result<Self> {
        let whole = Self::whole(segment, end)?;
        Ok(if at == whole.at { whole } else { Self { at, tip: None, ..whole } })
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
        if (length as u64) > self.end.0.saturating_sub(at.0) {
            return Ok(None);
        }
        let (position, end) = (self.segment.position(at), self.segment.position(self.end));
        self.forward.bytes(position, length, end).map(Some)
    }
}
