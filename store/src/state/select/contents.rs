//! What of a message is not in the index, and when it is of no use any more.

use super::{EXPIRED_MAX, Search};
use crate::state::index::Entry;

/// What only the messages themselves tell.
pub trait Contents {
    /// Whether the filter takes a message that it has to look at.
    fn passes(&mut self, entry: &Entry) -> bool;

    /// How long a message with a time of its own is of use once it is in its queue, ms; none if it
    /// cannot be read.
    fn ttl_ms(&mut self, entry: &Entry) -> Option<u64>;
}

impl Search<'_> {
    /// Whether a message has been in its queue for as long as it is of use. One that cannot be read
    /// is not passed over in silence: whoever takes it meets the damage.
    pub(super) fn is_expired(&mut self, entry: &Entry) -> bool {
        let ttl_ms = if entry.has_ttl {
            self.examined += 1;
            self.contents.ttl_ms(entry).unwrap_or_default()
        } else {
            self.topic.settings.ttl_ms
        };
        ttl_ms > 0 && entry.stored_ms.saturating_add(ttl_ms) <= self.want.now_ms
    }

    /// Whether no more can be settled for this answer; the search goes on in the next turn.
    pub(super) fn has_expired_many(&mut self) -> bool {
        let has_many = self.selection.expired.len() >= EXPIRED_MAX;
        self.selection.more |= has_many;
        has_many
    }
}
