//! Reads a file from front to back, by call and in large steps.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::io::File;

/// Bytes read at a time.
const STEP: usize = 1 << 20;

/// A file, and what was read ahead of it.
pub(super) struct Forward {
    file: Arc<dyn File>,
    buffer: Bytes,
    /// Where in the file the buffer begins.
    buffer_at: u64,
}

impl Forward {
    pub(super) fn new(file: Arc<dyn File>) -> Self {
        Self { file, buffer: Bytes::new(), buffer_at: 0 }
    }

    /// The bytes at a position, a slice of what was read ahead, up to `end` at most.
    ///
    /// The caller has made sure that they lie before `end`.
    pub(super) fn bytes(&mut self, at: u64, length: usize, end: u64) -> io::Result<Bytes> {
        let skipped = at.checked_sub(self.buffer_at).and_then(|skipped| usize::try_from(skipped).ok());
        let there = skipped.and_then(|start| Some(start..start.checked_add(length)?));
        if let Some(range) = there.filter(|range| range.end <= self.buffer.len()) {
            return Ok(self.buffer.slice(range));
        }
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(STEP).max(length)];
        self.file.read_exact_at(&mut bytes, at)?;
        (self.buffer, self.buffer_at) = (bytes.into(), at);
        Ok(self.buffer.slice(..length))
    }
}
