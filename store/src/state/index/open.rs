//! The index of a segment that is still growing, or is sealed and not yet written out: in memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map, hash_map},
    mem,
    ops::{Bound, Range},
};

use centaur_apis::{
    log::{Control, Released, control::Event},
    units::Lsn,
};

use super::{ENTRY_BYTES, Entry, Foreign, Packed, QueueKey, Scheduled, Stretch, TimerPlace, decided::decision_key};
use crate::log::record::{Message, Place, Record};

/// Entries in a full chunk of a queue: growing never copies more than this.
const CHUNK_ENTRIES: usize = 256;
/// Keys in a full chunk, which is sorted once: a look-up is a binary search in each.
const CHUNK_KEYS: usize = 1024;
/// What a queue costs besides its entries: key, column and the hash table's slack.
const COLUMN_BYTES: usize = (size_of::<QueueKey>() + size_of::<Column>()) * 8 / 7;
const KEY_BYTES: usize = size_of::<Key>();
/// What a scheduled message takes in a tree whose nodes are half full, as times that only grow leave
/// them.
const TIMER_BYTES: usize = 2 * (size_of::<TimerPlace>() + size_of::<Scheduled>());
/// The same of one that was recalled.
const RECALLED_BYTES: usize = 2 * size_of::<TimerPlace>();

/// Hash of a key or message id, and where the message is.
pub(super) type Key = (u64, Lsn);

/// The index of one segment in memory: at most 40 bytes for an entry and 16 for a key, 96 for a
/// scheduled message, 24 for one that was released, 48 for one that was recalled, 16 for a decision
/// about a transaction, and about 75 for each queue with messages in it.
#[derive(Default)]
pub struct Open {
    /// Packed entries count their places from here: the place of the first message.
    origin: Lsn,
    count: u64,
    last_ms: u64,
    /// Some of its messages are gone.
    is_thinned: bool,
    columns: HashMap<QueueKey, Column>,
    sorted_keys: Vec<Vec<Key>>,
    /// Keys in the order they came.
    recent_keys: Vec<Key>,
    timers: BTreeMap<TimerPlace, Scheduled>,
    /// Scheduled messages that were taken back, maybe of an older segment.
    recalled: BTreeSet<TimerPlace>,
    /// Messages that were stored before, maybe in an older segment, in the order they came.
    released: Vec<Foreign>,
    bytes: usize,
}

/// One queue's entries.
struct Column {
    first: u64,
    /// Chunks of [`CHUNK_ENTRIES`].
    full: Vec<Vec<Packed>>,
    tail: Vec<Packed>,
}

impl Open {
    /// The index of a thinned segment, to be made again: offsets that do not come are gone, and
    /// look-ups pass them over.
    pub fn of_thinned() -> Self {
        Self { is_thinned: true, ..Self::default() }
    }

    /// Adds one message. A message that is already there is passed over.
    ///
    /// Shape: messages come in log order, the offsets of a queue without a gap, save in a thinned
    /// segment.
    pub fn push(&mut self, queue: QueueKey, offset: u64, entry: Entry, key_hashes: &[u64]) {
        if self.count == 0 {
            self.origin = entry.lsn;
        }
        let column = match self.columns.entry(queue) {
            hash_map::Entry::Occupied(slot) => slot.into_mut(),
            hash_map::Entry::Vacant(slot) => {
                self.bytes += COLUMN_BYTES;
                slot.insert(Column { first: offset, full: Vec::new(), tail: Vec::new() })
            }
        };
        let end = column.first + column.len() as u64;
        if offset < end {
            return;
        }
        assert!(offset == end || self.is_thinned, "offsets of a queue have no gap");
        for _ in end..offset {
            self.bytes += column.push_gone();
            self.count += 1;
        }
        self.bytes += column.push(entry.pack(self.origin));
        self.count += 1;
        self.last_ms = self.last_ms.max(entry.stored_ms);
        for hash in key_hashes {
            self.push_key((*hash, entry.lsn));
        }
    }

    /// Adds what one record of the log says of messages.
    pub fn push_record(&mut self, lsn: Lsn, length: u32, record: &Record) {
        match record {
            Record::Message(message) => self.push_message(lsn, length, message),
            Record::Control(Control { event: Some(Event::TimersFired(fired)) }) => {
                fired.released.iter().for_each(|released| self.push_released(released, fired.at_ms));
            }
            Record::Control(Control { event: Some(Event::TimerRecalled(recalled)) }) => {
                self.push_recalled(TimerPlace::of_recalled(recalled), lsn);
            }
            Record::Control(Control { event: Some(Event::TransactionEnded(ended)) }) => {
                self.push_decided(Lsn(ended.lsn), lsn);
                ended.released.iter().for_each(|released| self.push_released(released, ended.at_ms));
            }
            Record::Control(_) => {}
        }
    }

    /// Adds one message as the log has it.
    pub fn push_message(&mut self, lsn: Lsn, length: u32, message: &Message) {
        let Some(offset) = message.offset() else {
            // Findable by id and keys, also while it waits.
            self.last_ms = self.last_ms.max(message.stored_ms);
            message.key_hashes.iter().for_each(|hash| self.push_key((*hash, lsn)));
            if let Place::Scheduled(due_ms) = message.place {
                self.push_timer(TimerPlace { due_ms, lsn }, Scheduled::new(length, message));
            }
            return;
        };
        let entry = Entry {
            lsn,
            length,
            tag_hash: message.tag_hash,
            group_hash: message.group_hash,
            stored_ms: message.stored_ms,
            has_ttl: message.ttl_ms > 0,
        };
        let queue = QueueKey { topic: message.topic, queue: message.queue };
        self.push(queue, offset, entry, &message.key_hashes);
    }

    /// Adds a message that was stored before and is in its queue now.
    pub fn push_released(&mut self, released: &Released, at_ms: u64) {
        let entry = Entry {
            lsn: Lsn(released.lsn),
            length: released.length,
            tag_hash: released.tag_hash,
            group_hash: released.group_hash,
            stored_ms: at_ms,
            has_ttl: released.has_ttl,
        };
        let queue = QueueKey { topic: released.topic, queue: released.queue };
        let before = self.count;
        self.push(queue, released.offset, entry, &[]);
        if self.count > before {
            self.push_foreign(Foreign { lsn: entry.lsn, queue, offset: released.offset });
        }
    }

    /// Bytes of memory it takes, near enough to decide when to seal.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages in it, those included that are gone.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latest store time in it, ms; 0 when empty.
    pub fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// The message at `offset`.
    pub fn get(&self, queue: QueueKey, offset: u64) -> Option<Entry> {
        let column = self.columns.get(&queue)?;
        let at = usize::try_from(offset.checked_sub(column.first)?).ok()?;
        column.get(at).filter(|packed| !packed.is_gone()).map(|packed| packed.unpack(self.origin))
    }

    /// Appends up to `max` messages of the queue, from the first one at or after `from` on.
    pub fn range(&self, queue: QueueKey, from: u64, max: usize, out: &mut Vec<(u64, Entry)>) {
        let Some(column) = self.columns.get(&queue) else { return };
        let skipped = from.saturating_sub(column.first);
        let start = usize::try_from(skipped).map_or(column.len(), |at| at.min(column.len()));
        let places = (start..column.len()).filter_map(|at| Some((at, column.get(at)?)));
        let there = places.filter(|(_, packed)| !packed.is_gone()).take(max);
        out.extend(there.map(|(at, packed)| (column.first + at as u64, packed.unpack(self.origin))));
    }

    /// The offset of the queue's first message with store time `ms` or later.
    pub fn first_at_or_after(&self, queue: QueueKey, ms: u64) -> Option<u64> {
        let column = self.columns.get(&queue)?;
        let at = partition(0..column.len(), |at| column.get(at).is_some_and(|packed| packed.stored_ms() < ms));
        (at < column.len()).then(|| column.first + at as u64)
    }

    /// Appends up to `max` places of messages with this key hash, from the newest one before
    /// `before` backwards.
    pub fn keys(&self, hash: u64, before: Lsn, max: usize, out: &mut Vec<Lsn>) {
        let wanted = out.len().saturating_add(max);
        let mut recent: Vec<Lsn> =
            self.recent_keys.iter().filter(|key| key.0 == hash && key.1 < before).map(|key| key.1).collect();
        recent.sort_unstable();
        push_newest(recent.into_iter().rev(), wanted, out);
        for chunk in self.sorted_keys.iter().rev() {
            let end = chunk.partition_point(|key| *key < (hash, before));
            let same = chunk[..end].iter().rev().take_while(|key| key.0 == hash);
            push_newest(same.map(|key| key.1), wanted, out);
        }
    }

    /// The scheduled message at exactly this place.
    pub(super) fn timer(&self, place: TimerPlace) -> Option<Scheduled> {
        self.timers.get(&place).copied()
    }

    /// Scheduled messages behind a place, in the order they come due.
    pub(super) fn timers_after(&self, place: TimerPlace) -> btree_map::Range<'_, TimerPlace, Scheduled> {
        self.timers.range((Bound::Excluded(place), Bound::Unbounded))
    }

    /// All scheduled messages in the order they come due.
    pub(super) fn timers(&self) -> &BTreeMap<TimerPlace, Scheduled> {
        &self.timers
    }

    /// Scheduled messages that were taken back, maybe of an older segment.
    pub(super) fn recalled(&self) -> &BTreeSet<TimerPlace> {
        &self.recalled
    }

    /// Messages that were stored before, maybe in an older segment.
    pub(super) fn foreign(&self) -> impl Iterator<Item = Foreign> {
        self.released.iter().copied()
    }

    /// What it has of each queue, in no order.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> {
        self.columns.iter().filter_map(|(queue, column)| column.stretch(*queue))
    }

    pub(super) fn origin(&self) -> Lsn {
        self.origin
    }

    /// The queue's entries in order, in pieces.
    pub(super) fn chunks(&self, queue: QueueKey) -> impl Iterator<Item = &[Packed]> {
        self.columns.get(&queue).into_iter().flat_map(|column| {
            let full = column.full.iter().map(Vec::as_slice);
            full.chain([column.tail.as_slice()])
        })
    }

    pub(super) fn key_count(&self) -> usize {
        self.sorted_keys.len() * CHUNK_KEYS + self.recent_keys.len()
    }

    /// All keys in no order.
    pub(super) fn all_keys(&self) -> impl Iterator<Item = &Key> {
        self.sorted_keys.iter().flatten().chain(&self.recent_keys)
    }

    fn push_timer(&mut self, place: TimerPlace, message: Scheduled) {
        if self.timers.insert(place, message).is_none() {
            self.bytes += TIMER_BYTES;
        }
    }

    /// Adds that a scheduled message was taken back by the record at `lsn`.
    pub(super) fn push_recalled(&mut self, place: TimerPlace, lsn: Lsn) {
        if self.recalled.insert(place) {
            self.bytes += RECALLED_BYTES;
            self.push_key((place.recall_key(), lsn));
        }
    }

    /// Adds that the transaction of a half message was decided by the record at `lsn`.
    pub(super) fn push_decided(&mut self, half: Lsn, lsn: Lsn) {
        self.push_key((decision_key(half), lsn));
    }

    fn push_foreign(&mut self, foreign: Foreign) {
        let before = self.released.capacity();
        self.released.push(foreign);
        self.bytes += (self.released.capacity() - before) * size_of::<Foreign>();
    }

    fn push_key(&mut self, key: Key) {
        if self.recent_keys.capacity() == 0 {
            self.recent_keys.reserve_exact(CHUNK_KEYS);
            self.bytes += CHUNK_KEYS * KEY_BYTES;
        }
        self.recent_keys.push(key);
        if self.recent_keys.len() == CHUNK_KEYS {
            let mut chunk = mem::take(&mut self.recent_keys);
            chunk.sort_unstable();
            self.sorted_keys.push(chunk);
        }
    }
}

impl Column {
    /// Adds an entry and says how many bytes of memory that took.
    fn push(&mut self, packed: Packed) -> usize {
        let before = self.tail.capacity();
        if self.tail.len() == before {
            // Doubling would leave a quarter of the memory empty on average; this leaves a ninth.
            let more = (before / 4).clamp(1, CHUNK_ENTRIES - before);
            self.tail.reserve_exact(more);
        }
        let grown = (self.tail.capacity() - before) * ENTRY_BYTES;
        self.tail.push(packed);
        if self.tail.len() == CHUNK_ENTRIES {
            self.full.push(mem::take(&mut self.tail));
        }
        grown
    }

    fn len(&self) -> usize {
        self.full.len() * CHUNK_ENTRIES + self.tail.len()
    }

    fn get(&self, at: usize) -> Option<&Packed> {
        let chunk = self.full.get(at / CHUNK_ENTRIES);
        match chunk {
            Some(chunk) => chunk.get(at % CHUNK_ENTRIES),
            None => self.tail.get(at - self.full.len() * CHUNK_ENTRIES),
        }
    }

    /// Adds an entry for a message that is gone, as [`Column::push`] does. Before the first there is
    /// nothing to be gone.
    fn push_gone(&mut self) -> usize {
        self.last().map(Packed::gone).map_or(0, |gone| self.push(gone))
    }

    fn last(&self) -> Option<&Packed> {
        self.get(self.len().checked_sub(1)?)
    }

    fn stretch(&self, queue: QueueKey) -> Option<Stretch> {
        let (first, last) = (self.get(0)?, self.last()?);
        Some(Stretch {
            queue,
            first: self.first,
            count: u32::try_from(self.len()).expect("a segment holds fewer than 2^32 messages"),
            first_ms: first.stored_ms(),
            last_ms: last.stored_ms(),
        })
    }
}

/// Appends places that come newest first, each once, until `out` has `wanted`.
pub(super) fn push_newest(places: impl Iterator<Item = Lsn>, wanted: usize, out: &mut Vec<Lsn>) {
    for place in places {
        if out.len() >= wanted {
            return;
        }
        // A message whose key occurs twice is found once.
        if out.last() != Some(&place) {
            out.push(place);
        }
    }
}

/// The first number of the range for which `is_before` is false; its end when there is none.
fn partition(range: Range<usize>, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}
