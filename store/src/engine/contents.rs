//! Messages as the search for an answer sees them, those of the open block among them.

use centaur_apis::units::Lsn;

use crate::{
    filter::{Filter, Text},
    log::{self, record},
    state::{index::Entry, select},
};

/// What a poll's filter says of messages, and the messages of themselves.
pub(super) struct Contents<'a> {
    pub filter: &'a Filter,
    pub log: &'a log::Reader,
    /// The records of the open block, which nobody can read yet, and where the first one will be.
    pub open: &'a [u8],
    pub open_at: Lsn,
}

impl select::Contents for Contents<'_> {
    /// One that cannot be read is not passed over in silence: whoever takes it meets the damage.
    fn passes(&mut self, entry: &Entry) -> bool {
        let text = |record: &[u8]| {
            let (head, properties) = record::message_text(record).ok()?;
            Some(self.filter.matches(Text { head, properties }))
        };
        self.look(entry, text).unwrap_or(true)
    }

    fn ttl_ms(&mut self, entry: &Entry) -> Option<u64> {
        self.look(entry, |record| record::message_ttl_ms(record).ok())
    }
}

impl Contents<'_> {
    /// Looks at a record, its body aside; none if it cannot be read.
    fn look<T>(&self, entry: &Entry, look: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        match entry.lsn.0.checked_sub(self.open_at.0) {
            Some(at) => look(self.open.get(usize::try_from(at).ok()?..)?),
            None => look(&self.log.read_text(entry.lsn, entry.length).ok()?),
        }
    }
}
