//! One message of a group that is not finished, and a group's place in one queue.

use std::collections::BTreeMap;

/// What a row waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A consumer has it.
    Leased,
    /// A consumer gave it back for later.
    BackingOff,
    /// Nobody had it yet: a message before it in its message group was in hand.
    Passed,
}

/// One message handed out, or passed over, and not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Store time from which it may be delivered again, ms.
    pub visible_at_ms: u64,
    /// Hash of the client that has it.
    pub client: u64,
    pub generation: u32,
    pub deliveries: u16,
    pub hold: Hold,
    /// The lease ends with its client.
    pub session_bound: bool,
}

/// A group's place in one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Grows when the cursor is put somewhere; handles of an older epoch are void.
    pub epoch: u32,
    /// Everything before it was handed out or passed over.
    pub fetch: u64,
    pub rows: BTreeMap<u64, Row>,
}

impl Row {
    /// A message passed over at a time, store time in ms.
    pub fn passed(at_ms: u64) -> Self {
        Self { visible_at_ms: at_ms, client: 0, generation: 0, deliveries: 0, hold: Hold::Passed, session_bound: false }
    }
}

impl Cursor {
    /// Everything before it is finished: what tools call the consumer offset.
    pub fn floor(&self) -> u64 {
        self.rows.first_key_value().map_or(self.fetch, |(offset, _)| *offset)
    }
}
