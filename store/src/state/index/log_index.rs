//! The index of a whole log: runs of sealed segments, sealed segments not yet written out, and the
//! open one. One thread owns it.
//!
//! In memory there is, besides the open segment: for each queue about 60 bytes, and 16 for each
//! sealed segment in which it has messages, for a thinned one up to 48; for each run a few hundred;
//! 4 MiB of pages read lately.
//! A queue that nobody writes to costs its rows and nothing else.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    ops::Range,
    sync::Arc,
};

use centaur_apis::{log::Released, units::Lsn};

use super::{Entry, Open, QueueKey, Run, RunError, Stretch, pages::Cache, run::Row};
use crate::log::record::{Message, Record};

/// The part number of offsets that no part has.
const NO_PART: u32 = u32::MAX;

/// All parts of a log's index, oldest to newest.
///
/// Errors of look-ups: a run that cannot be read or is damaged; nothing wrong was returned.
#[derive(Default)]
pub struct Index {
    runs: VecDeque<Run>,
    /// Number of the oldest run; runs are numbered as they come.
    oldest: u32,
    /// Segments that begin before it were removed.
    start: Lsn,
    queues: HashMap<QueueKey, Queue>,
    sealed: VecDeque<Sealed>,
    open: Open,
    cache: Arc<Cache>,
}

/// Where a queue's messages are among the runs.
#[derive(Default)]
struct Queue {
    /// By offset; the last one reaches to `end`, each other to the next.
    pieces: Vec<Piece>,
    end: u64,
}

#[derive(Clone, Copy)]
struct Piece {
    first: u64,
    /// Number of the run.
    part: u32,
    /// Number of the first entry in it.
    position: u32,
}

/// Messages of a queue in one run.
struct Found<'a> {
    run: &'a Run,
    offsets: Range<u64>,
    positions: Range<u32>,
}

/// A segment that is complete while its run is written.
struct Sealed {
    base: Lsn,
    open: Arc<Open>,
    /// Its run came before that of an older segment.
    run: Option<Run>,
}

impl Index {
    /// The index of an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one message to the open segment; see [`Open::push`].
    pub fn push(&mut self, queue: QueueKey, offset: u64, entry: Entry, key_hashes: &[u64]) {
        self.open.push(queue, offset, entry, key_hashes);
    }

    /// Adds a message to the open segment as the log has it.
    pub fn push_message(&mut self, lsn: Lsn, length: u32, message: &Message) {
        self.open.push_message(lsn, length, message);
    }

    /// Adds a message to the open segment that was stored before and is in its queue now.
    pub fn push_released(&mut self, released: &Released, at_ms: u64) {
        self.open.push_released(released, at_ms);
    }

    /// Adds what one record says of messages to the open segment.
    pub fn push_record(&mut self, lsn: Lsn, length: u32, record: &Record) {
        self.open.push_record(lsn, length, record);
    }

    /// Bytes of memory the open segment's index takes.
    pub fn open_bytes(&self) -> usize {
        self.open.bytes()
    }

    /// The offset after the last message of a queue in a sealed segment; 0 when there is none.
    pub fn end(&self, queue: QueueKey) -> u64 {
        self.queues.get(&queue).map_or(0, |known| known.end)
    }

    /// The message at `offset`; none when it is not there yet, or not any more.
    pub fn get(&self, queue: QueueKey, offset: u64) -> Result<Option<Entry>, RunError> {
        if let Some(entry) = self.in_memory().find_map(|open| open.get(queue, offset)) {
            return Ok(Some(entry));
        }
        let Some(known) = self.queues.get(&queue) else { return Ok(None) };
        let Some(found) = self.found(known, known.piece_of(offset)) else { return Ok(None) };
        if !found.offsets.contains(&offset) {
            return Ok(None);
        }
        found.run.entry(found.position_of(offset))
    }

    /// Appends up to `max` messages of the queue in order, from the first one at or after `from`
    /// on. What retention has taken is passed over.
    pub fn range(&self, queue: QueueKey, from: u64, max: usize, out: &mut Vec<(u64, Entry)>) -> Result<(), RunError> {
        let wanted = out.len().saturating_add(max);
        let mut from = from;
        if let Some(known) = self.queues.get(&queue).filter(|known| from < known.end) {
            for piece in known.piece_of(from)..known.pieces.len() {
                let Some(found) = self.found(known, piece) else { continue };
                let mut offset = from.max(found.offsets.start);
                // Again when some of them are gone.
                while offset < found.offsets.end {
                    let left = u32::try_from(wanted - out.len()).unwrap_or(u32::MAX);
                    if left == 0 {
                        return Ok(());
                    }
                    let start = found.position_of(offset);
                    let count = left.min(found.positions.end - start);
                    found.run.entries(start..start + count, offset, out)?;
                    offset += u64::from(count);
                }
            }
            from = known.end;
        }
        for open in self.in_memory() {
            open.range(queue, from, wanted - out.len(), out);
        }
        Ok(())
    }

    /// The offset of the queue's first message with store time `ms` or later.
    pub fn first_at_or_after(&self, queue: QueueKey, ms: u64) -> Result<Option<u64>, RunError> {
        if let Some(known) = self.queues.get(&queue) {
            for piece in 0..known.pieces.len() {
                let found = self.found(known, piece).filter(|found| found.run.last_ms() >= ms);
                let Some(found) = found else { continue };
                let position = found.run.first_at_or_after(found.positions.clone(), ms)?;
                if position < found.positions.end {
                    return Ok(Some(found.offsets.start + u64::from(position - found.positions.start)));
                }
            }
        }
        Ok(self.in_memory().find_map(|open| open.first_at_or_after(queue, ms)))
    }

    /// Up to `max` places of messages with this hash of a key or message id, newest first. The
    /// caller compares the text.
    pub fn keys(&self, hash: u64, max: usize) -> Result<Vec<Lsn>, RunError> {
        self.keys_before(hash, Lsn(u64::MAX), max)
    }

    /// As [`Index::keys`], only places in segments with something stored at `since_ms` or later.
    pub fn keys_since(&self, hash: u64, since_ms: u64, max: usize) -> Result<Vec<Lsn>, RunError> {
        let mut out = Vec::new();
        for open in self.in_memory() {
            open.keys(hash, Lsn(u64::MAX), max - out.len(), &mut out);
        }
        for run in self.runs.iter().rev().take_while(|run| run.last_ms() >= since_ms) {
            if out.len() == max {
                break;
            }
            run.keys(hash, Lsn(u64::MAX), max - out.len(), &mut out)?;
        }
        Ok(out)
    }

    /// As [`Index::keys`], only places before `before`: the rest of a long answer.
    pub fn keys_before(&self, hash: u64, before: Lsn, max: usize) -> Result<Vec<Lsn>, RunError> {
        let mut out = Vec::new();
        let memory = self.sealed.iter().map(|sealed| &*sealed.open).chain([&self.open]);
        for open in memory.rev() {
            open.keys(hash, before, max - out.len(), &mut out);
        }
        for run in self.runs.iter().rev().filter(|run| run.base() < before) {
            if out.len() == max {
                break;
            }
            run.keys(hash, before, max - out.len(), &mut out)?;
        }
        Ok(out)
    }

    /// Ends the open segment, which is `base..end`: its index stays readable in memory until its
    /// run is adopted. The caller has the run written.
    pub fn seal(&mut self, base: Lsn, end: Lsn) -> Arc<Open> {
        assert!(base <= end && self.sealed.back().is_none_or(|last| last.base <= base), "segments are sealed in order");
        let open = Arc::new(mem::take(&mut self.open));
        self.sealed.push_back(Sealed { base, open: Arc::clone(&open), run: None });
        open
    }

    /// Takes the run of a sealed segment, and drops what was in memory in its place. At a start
    /// runs come oldest first, before anything is pushed.
    pub fn adopt(&mut self, run: Run) {
        if run.base() < self.start {
            return; // Its segment was removed while the run was written.
        }
        if let Some(sealed) = self.sealed.iter_mut().find(|sealed| sealed.base == run.base()) {
            sealed.run = Some(run);
        } else if self.sealed.is_empty() && self.runs.back().is_none_or(|last| last.base() < run.base()) {
            self.append(run);
        }
        while let Some(run) = self.sealed.front_mut().and_then(|oldest| oldest.run.take()) {
            self.sealed.pop_front();
            self.append(run);
        }
    }

    /// Takes the run of a segment that was made again after it was thinned, in place of the one it has.
    /// What it lacks is gone.
    pub fn replace(&mut self, mut run: Run) {
        let Ok(at) = self.runs.binary_search_by_key(&run.base(), Run::base) else { return };
        let part = self.part(at);
        let left: HashMap<QueueKey, Row> =
            run.take_directory().into_iter().map(|row| (row.stretch.queue, row)).collect();
        let is_part = |row: &Row| {
            let known = self.queues.get(&row.stretch.queue);
            let had = known.and_then(|known| known.piece_in(part, row.stretch.first));
            had.is_some_and(|(_, had)| had.start <= row.stretch.first && row.stretch.end() <= had.end)
        };
        if !left.values().all(is_part) {
            tracing::error!(
                base_lsn = run.base().0,
                "index run that was made again has more than the one before, which stays"
            );
            return;
        }
        for Stretch { queue, first, .. } in self.stretches_in(run.base()) {
            let Some(known) = self.queues.get_mut(&queue) else { continue };
            if let Some((at, had)) = known.piece_in(part, first) {
                known.replace(at, had, left.get(&queue));
            }
            if known.pieces.is_empty() {
                self.queues.remove(&queue);
            }
        }
        run.set_cache(&self.cache);
        self.runs[at] = run;
    }

    /// What the sealed segment that begins at `base` has of each queue; without times when its run
    /// cannot be read.
    pub fn stretches_in(&self, base: Lsn) -> Vec<Stretch> {
        if let Some(open) = self.memory_of(base) {
            return open.stretches().collect();
        }
        let Ok(at) = self.runs.binary_search_by_key(&base, Run::base) else { return Vec::new() };
        self.runs[at].stretches().unwrap_or_else(|error| {
            // The directory was sound when it was opened, so all it said is in memory, if scattered.
            tracing::warn!(%error, "queues of a segment are looked for in memory");
            let part = self.part(at);
            self.queues.iter().filter_map(|(queue, known)| known.stretch_in(*queue, part)).collect()
        })
    }

    /// Whether the index of the sealed segment that begins at `base` is on disk.
    pub fn has_run(&self, base: Lsn) -> bool {
        self.runs.binary_search_by_key(&base, Run::base).is_ok()
    }

    /// Forgets the oldest segment; nothing happens when it is another one.
    pub fn remove_oldest(&mut self, base: Lsn) {
        if self.runs.is_empty() && self.sealed.pop_front_if(|sealed| sealed.base == base).is_some() {
            self.start = base.plus(1);
        }
        let Some(run) = self.runs.pop_front_if(|run| run.base() == base) else { return };
        self.start = base.plus(1);
        self.oldest += 1;
        match run.stretches() {
            Ok(stretches) => stretches.iter().for_each(|stretch| self.trim(stretch.queue)),
            Err(error) => {
                tracing::warn!(%error, "queues of the removed segment are looked for in memory");
                let keys: Vec<QueueKey> = self.queues.keys().copied().collect();
                keys.into_iter().for_each(|key| self.trim(key));
            }
        }
    }

    pub(super) fn open_mut(&mut self) -> &mut Open {
        &mut self.open
    }

    /// Parts in memory, oldest first.
    pub(super) fn in_memory(&self) -> impl DoubleEndedIterator<Item = &Open> {
        self.sealed.iter().map(|sealed| &*sealed.open).chain([&self.open])
    }

    /// The part in memory of the sealed segment that begins at `base`.
    pub(super) fn memory_of(&self, base: Lsn) -> Option<&Open> {
        self.sealed.iter().find(|sealed| sealed.base == base).map(|sealed| &*sealed.open)
    }

    /// Parts in memory whose segments begin at `base` or later.
    pub(super) fn memory_from(&self, base: Lsn) -> impl Iterator<Item = &Open> {
        let sealed = self.sealed.iter().filter(move |sealed| sealed.base >= base);
        sealed.map(|sealed| &*sealed.open).chain([&self.open])
    }

    /// Runs, oldest first.
    pub(super) fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> + ExactSizeIterator {
        self.runs.iter()
    }

    /// The last run that begins at or before `lsn`.
    pub(super) fn run_of(&self, lsn: Lsn) -> Option<&Run> {
        self.runs.get(self.runs.partition_point(|run| run.base() <= lsn).checked_sub(1)?)
    }

    fn append(&mut self, mut run: Run) {
        let part = self.part(self.runs.len());
        for Row { stretch, position } in run.take_directory() {
            let known = self.queues.entry(stretch.queue).or_default();
            known.append(Piece { first: stretch.first, part, position }, stretch.end());
        }
        run.set_cache(&self.cache);
        self.runs.push_back(run);
    }

    /// Forgets a queue's pieces in runs that are gone.
    fn trim(&mut self, key: QueueKey) {
        let Some(known) = self.queues.get_mut(&key) else { return };
        known.trim(|piece| piece.part < self.oldest || piece.part == NO_PART);
        if known.pieces.is_empty() {
            self.queues.remove(&key);
        }
    }

    /// The number of the run at a position.
    fn part(&self, at: usize) -> u32 {
        self.oldest + u32::try_from(at).expect("a log has fewer than 2^32 segments")
    }

    fn run(&self, part: u32) -> Option<&Run> {
        self.runs.get(part.checked_sub(self.oldest)? as usize)
    }

    /// Queues with messages in runs, and their pieces.
    #[cfg(test)]
    pub(super) fn queues_held(&self) -> (usize, usize) {
        (self.queues.len(), self.queues.values().map(|known| known.pieces.len()).sum())
    }

    /// What a piece stands for; none when nothing is there.
    fn found(&self, known: &Queue, piece: usize) -> Option<Found<'_>> {
        let Piece { first, part, position } = *known.pieces.get(piece)?;
        let run = self.run(part)?;
        let end = known.end_of(piece);
        let count = u32::try_from(end - first).ok()?;
        Some(Found { run, offsets: first..end, positions: position..position + count })
    }
}

impl Queue {
    /// Adds a piece at the end. One that begins earlier is passed over: offsets do not come twice.
    fn append(&mut self, piece: Piece, end: u64) {
        if self.pieces.is_empty() {
            self.end = piece.first;
            self.pieces.reserve_exact(1);
        }
        if piece.first < self.end {
            tracing::error!(first = piece.first, end = self.end, "offsets of a queue are in two index runs");
            return;
        }
        if piece.first > self.end {
            self.pieces.push(Piece { first: self.end, part: NO_PART, position: 0 });
        }
        self.pieces.push(piece);
        self.end = end;
    }

    /// Has what is left of the messages of a piece, none if nothing is, instead of all of them.
    fn replace(&mut self, at: usize, had: Range<u64>, left: Option<&Row>) {
        let Range { start: first, end } = had;
        let gap = |first| Piece { first, part: NO_PART, position: 0 };
        match left {
            Some(Row { stretch, position }) => {
                let piece = Piece { first: stretch.first, part: self.pieces[at].part, position: *position };
                let before = (first < stretch.first).then(|| gap(first));
                let behind = (stretch.end() < end).then(|| gap(stretch.end()));
                self.pieces.splice(at..=at, before.into_iter().chain([piece]).chain(behind));
            }
            None => self.pieces[at] = gap(first),
        }
        self.pieces.dedup_by(|next, piece| next.part == NO_PART && piece.part == NO_PART);
        self.end = self.pieces.pop_if(|last| last.part == NO_PART).map_or(self.end, |gap| gap.first);
        self.trim(|piece| piece.part == NO_PART);
    }

    /// Forgets the first pieces as long as they are gone.
    fn trim(&mut self, is_gone: impl Fn(&Piece) -> bool) {
        let gone = self.pieces.iter().take_while(|piece| is_gone(piece)).count();
        self.pieces.drain(..gone);
    }

    /// The piece that has `offset` if any has; the first one when it is earlier.
    fn piece_of(&self, offset: u64) -> usize {
        self.pieces.partition_point(|piece| piece.first <= offset).saturating_sub(1)
    }

    fn end_of(&self, piece: usize) -> u64 {
        self.pieces.get(piece + 1).map_or(self.end, |next| next.first)
    }

    /// The piece that has `offset`, if it is in that run, and its offsets.
    fn piece_in(&self, part: u32, offset: u64) -> Option<(usize, Range<u64>)> {
        let at = self.piece_of(offset);
        let piece = self.pieces.get(at).filter(|piece| piece.part == part)?;
        Some((at, piece.first..self.end_of(at)))
    }

    /// The queue's messages in one run.
    fn stretch_in(&self, queue: QueueKey, part: u32) -> Option<Stretch> {
        let piece = self.pieces.iter().position(|piece| piece.part == part)?;
        let first = self.pieces[piece].first;
        let count = u32::try_from(self.end_of(piece) - first).ok()?;
        Some(Stretch { queue, first, count, first_ms: 0, last_ms: 0 })
    }
}

impl Found<'_> {
    fn position_of(&self, offset: u64) -> u32 {
        let ahead = u32::try_from(offset - self.offsets.start).expect("a piece has fewer than 2^32 messages");
        self.positions.start + ahead
    }
}
