//! The newest blocks, kept in memory for those who read at the end of the log.

use std::collections::VecDeque;

use bytes::Bytes;
use centaur_apis::units::Lsn;

/// What keeping a block costs beside its bytes; without it many small blocks would take far more
/// memory than was allowed.
const BLOCK_OVERHEAD: usize = 128;

/// Recent block bodies, oldest first, within a number of bytes.
#[derive(Debug)]
pub(super) struct Tail {
    blocks: VecDeque<Kept>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Kept {
    first_record: Lsn,
    body: Bytes,
}

impl Tail {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { blocks: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Keeps one more block, and lets the oldest go until all fit.
    pub(super) fn push(&mut self, first_record: Lsn, body: Bytes) {
        self.bytes += body.len() + BLOCK_OVERHEAD;
        self.blocks.push_back(Kept { first_record, body });
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.bytes -= oldest.body.len() + BLOCK_OVERHEAD;
        }
    }

    /// Bytes of one block; none if it is not here, or they are not all in its body.
    pub(super) fn get(&self, at: Lsn, length: usize) -> Option<Bytes> {
        let after = self.blocks.partition_point(|kept| kept.first_record <= at);
        let kept = self.blocks.get(after.checked_sub(1)?)?;
        let start = usize::try_from(at.0 - kept.first_record.0).ok()?;
        let end = start.checked_add(length).filter(|end| *end <= kept.body.len())?;
        Some(kept.body.slice(start..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_what_it_keeps_and_keeps_the_newest() {
        let mut tail = Tail::new(2 * (BLOCK_OVERHEAD + 16));
        for base in [0, 100, 200] {
            tail.push(Lsn(base + 96), Bytes::from(vec![u8::try_from(base).expect("small"); 16]));
        }
        assert_eq!(tail.get(Lsn(96), 16), None, "the oldest had to go");
        assert_eq!(tail.get(Lsn(204), 8), Some(Bytes::from_static(&[100; 8])));
        assert_eq!(tail.get(Lsn(296), 16), Some(Bytes::from_static(&[200; 16])));
        for (at, length) in [(195, 1), (196, 17), (212, 1), (296, 17), (u64::MAX, 1)] {
            assert_eq!(tail.get(Lsn(at), length), None, "{length} bytes at {at}");
        }
    }
}
