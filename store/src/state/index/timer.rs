//! Scheduled messages in the index: each part of it has those whose records are in its segment,
//! sorted by the time they are due. A [`TimerScan`] walks all parts in that order.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, btree_map},
    iter::Peekable,
};

use centaur_apis::{
    log::{Released, TimerRecalled},
    units::Lsn,
};

use super::{Index, QueueKey, Run, RunError, u32_at, u64_at};
use crate::log::record::Message;

/// Bytes of a scheduled message in a run.
pub(super) const TIMER_BYTES: usize = 48;
const HAS_TTL: u32 = 1;

/// A place in the order in which scheduled messages come due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerPlace {
    pub due_ms: u64,
    /// Of the message's record.
    pub lsn: Lsn,
}

impl TimerPlace {
    /// Behind every message.
    pub const LAST: Self = Self { due_ms: u64::MAX, lsn: Lsn(u64::MAX) };

    /// Where the message was that an event took back.
    pub fn of_recalled(event: &TimerRecalled) -> Self {
        Self { due_ms: event.due_ms, lsn: Lsn(event.lsn) }
    }
}

/// What gives a scheduled message its place in its queue, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Bytes of the record.
    pub length: u32,
    pub queue: QueueKey,
    /// The message itself says how long it may wait in its queue.
    pub has_ttl: bool,
    /// 0 without a tag.
    pub tag_hash: u64,
    /// 0 without a message group.
    pub group_hash: u64,
}

impl Scheduled {
    /// What the record of a scheduled message says.
    pub fn new(length: u32, message: &Message) -> Self {
        Self {
            length,
            queue: QueueKey { topic: message.topic, queue: message.queue },
            has_ttl: message.ttl_ms > 0,
            tag_hash: message.tag_hash,
            group_hash: message.group_hash,
        }
    }
}

/// One scheduled message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    pub place: TimerPlace,
    pub message: Scheduled,
}

impl Timer {
    /// The message with its offset in its queue.
    pub fn released(&self, offset: u64) -> Released {
        let Scheduled { length, queue, has_ttl, tag_hash, group_hash } = self.message;
        Released {
            lsn: self.place.lsn.0,
            length,
            topic: queue.topic,
            queue: queue.queue,
            offset,
            tag_hash,
            group_hash,
            has_ttl,
        }
    }

    pub(super) fn encode(&self) -> [u8; TIMER_BYTES] {
        let Scheduled { length, queue, has_ttl, tag_hash, group_hash } = self.message;
        let mut out = [0; TIMER_BYTES];
        out[..8].copy_from_slice(&self.place.due_ms.to_le_bytes());
        out[8..16].copy_from_slice(&self.place.lsn.0.to_le_bytes());
        out[16..20].copy_from_slice(&length.to_le_bytes());
        out[20..24].copy_from_slice(&queue.topic.to_le_bytes());
        out[24..28].copy_from_slice(&queue.queue.to_le_bytes());
        out[28..32].copy_from_slice(&(u32::from(has_ttl) * HAS_TTL).to_le_bytes());
        out[32..40].copy_from_slice(&tag_hash.to_le_bytes());
        out[40..].copy_from_slice(&group_hash.to_le_bytes());
        out
    }

    /// Reads what `encode` wrote at `at` of a page; callers pass places inside of it.
    pub(super) fn decode(page: &[u8], at: usize) -> Self {
        Self {
            place: TimerPlace { due_ms: u64_at(page, at), lsn: Lsn(u64_at(page, at + 8)) },
            message: Scheduled {
                length: u32_at(page, at + 16),
                queue: QueueKey { topic: u32_at(page, at + 20), queue: u32_at(page, at + 24) },
                has_ttl: u32_at(page, at + 28) & HAS_TTL != 0,
                tag_hash: u64_at(page, at + 32),
                group_hash: u64_at(page, at + 40),
            },
        }
    }
}

/// How far scheduled messages were read, in the order they come due. It knows its place in each
/// run, so that reading on does not search again. It outlives changes of the index: what comes in
/// behind the place is met, what comes in before it is not.
#[derive(Clone, Debug, Default)]
pub struct TimerScan {
    after: TimerPlace,
    /// By the base of the run's segment.
    runs: HashMap<Lsn, Cursor>,
}

/// A place in a run: behind `before`, the timer before `position`, and at `next`, the one there.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// How many timers the run has. Made again it has some of them, and if as many, the same.
    of: u32,
    position: u32,
    before: Option<TimerPlace>,
    next: Option<Timer>,
}

impl TimerScan {
    /// Begins with the first message behind `place`.
    pub fn new(place: TimerPlace) -> Self {
        Self { after: place, runs: HashMap::new() }
    }

    /// Everything up to here was read.
    pub fn after(&self) -> TimerPlace {
        self.after
    }

    /// Reads on, or again, behind `place`.
    pub fn set_after(&mut self, place: TimerPlace) {
        self.after = place;
    }
}

impl Cursor {
    fn at(run: &Run, position: u32) -> Result<Self, RunError> {
        let before = position.checked_sub(1).map(|before| run.timer(before)).transpose()?;
        Self::behind(run, before.map(|timer| timer.place), position)
    }

    fn behind(run: &Run, before: Option<TimerPlace>, position: u32) -> Result<Self, RunError> {
        let next = (position < run.timers()).then(|| run.timer(position)).transpose()?;
        Ok(Self { of: run.timers(), position, before, next })
    }

    fn is_behind(&self, place: TimerPlace) -> bool {
        self.before.is_none_or(|before| before <= place) && self.next.is_none_or(|next| place < next.place)
    }
}

/// The rest of one part of the index.
enum Rest<'a> {
    Memory(Peekable<btree_map::Range<'a, TimerPlace, Scheduled>>),
    Run { run: &'a Run, cursor: Cursor },
}

impl Rest<'_> {
    fn next_place(&mut self) -> Option<TimerPlace> {
        match self {
            Self::Memory(timers) => timers.peek().map(|(place, _)| **place),
            Self::Run { cursor, .. } => cursor.next.map(|timer| timer.place),
        }
    }

    fn take(&mut self) -> Result<Option<Timer>, RunError> {
        match self {
            Self::Memory(timers) => {
                Ok(timers.next().map(|(place, message)| Timer { place: *place, message: *message }))
            }
            Self::Run { run, cursor } => {
                let Some(timer) = cursor.next else { return Ok(None) };
                *cursor = Cursor::behind(run, Some(timer.place), cursor.position + 1)?;
                Ok(Some(timer))
            }
        }
    }
}

impl Index {
    /// Appends the next scheduled messages of a scan in the order they come due, those aside that were
    /// taken back: at most `max` are looked at. Whether there are others behind them now. After an
    /// error the scan is where it was, and `out` as well.
    pub fn timers_after(&self, scan: &mut TimerScan, max: usize, out: &mut Vec<Timer>) -> Result<bool, RunError> {
        let mut parts = self.rests(scan)?;
        let mut heads: BinaryHeap<_> =
            (0..parts.len()).filter_map(|part| parts[part].next_place().map(|place| Reverse((place, part)))).collect();
        let before = out.len();
        while out.len() - before < max
            && let Some(Reverse((_, part))) = heads.pop()
        {
            match parts[part].take() {
                Ok(timer) => out.extend(timer),
                Err(error) => {
                    out.truncate(before);
                    return Err(error);
                }
            }
            heads.extend(parts[part].next_place().map(|place| Reverse((place, part))));
        }
        let last = out[before..].last().map(|timer| timer.place);
        let has_more = out.len() - before >= max;
        if let Err(error) = self.leave_out_recalled(out, before) {
            out.truncate(before);
            return Err(error);
        }
        for rest in parts {
            if let Rest::Run { run, cursor } = rest {
                scan.runs.insert(run.base(), cursor);
            }
        }
        if let Some(last) = last {
            scan.after = last;
        }
        Ok(has_more)
    }

    /// Appends the scheduled messages behind `after` whose records are in the segment that begins at
    /// `base`, in the order they come due, those included that were taken back.
    pub fn timers_in(&self, base: Lsn, after: TimerPlace, out: &mut Vec<Timer>) -> Result<(), RunError> {
        if let Some(open) = self.memory_of(base) {
            let timers = open.timers_after(after).map(|(place, message)| Timer { place: *place, message: *message });
            out.extend(timers);
        } else if let Some(run) = self.run_of(base).filter(|run| run.base() == base) {
            for position in run.timer_after(after)?..run.timers() {
                out.push(run.timer(position)?);
            }
        }
        Ok(())
    }

    /// How many scheduled messages behind `after` have their records in the segment that begins at
    /// `base`, and how many there were, those included that were taken back.
    pub fn count_timers(&self, base: Lsn, after: TimerPlace) -> Result<(u64, u64), RunError> {
        if let Some(open) = self.memory_of(base) {
            return Ok((open.timers_after(after).count() as u64, open.timers().len() as u64));
        }
        let Some(run) = self.run_of(base).filter(|run| run.base() == base) else { return Ok((0, 0)) };
        let all = run.timers();
        Ok((u64::from(all - run.timer_after(after)?), u64::from(all)))
    }

    /// The scheduled message at exactly this place.
    pub fn timer(&self, place: TimerPlace) -> Result<Option<Timer>, RunError> {
        if let Some(message) = self.in_memory().find_map(|open| open.timer(place)) {
            return Ok(Some(Timer { place, message }));
        }
        let Some(run) = self.run_of(place.lsn).filter(|run| place.lsn < run.end()) else { return Ok(None) };
        let Some(position) = run.timer_after(place)?.checked_sub(1) else { return Ok(None) };
        Ok(Some(run.timer(position)?).filter(|timer| timer.place == place))
    }

    /// What each part has behind the scan; runs that have nothing are left out.
    fn rests(&self, scan: &mut TimerScan) -> Result<Vec<Rest<'_>>, RunError> {
        let after = scan.after;
        if scan.runs.len() > self.runs().len() {
            scan.runs.retain(|base, _| self.run_of(*base).is_some_and(|run| run.base() == *base));
        }
        let mut rests: Vec<Rest<'_>> =
            self.in_memory().map(|open| Rest::Memory(open.timers_after(after).peekable())).collect();
        for run in self.runs().filter(|run| run.timers() > 0 && run.last_due_ms() >= after.due_ms) {
            let known = scan.runs.get(&run.base());
            let known = known.filter(|cursor| cursor.of == run.timers() && cursor.is_behind(after));
            let cursor = match known {
                Some(cursor) => *cursor,
                None => Cursor::at(run, run.timer_after(after)?)?,
            };
            rests.push(Rest::Run { run, cursor });
        }
        Ok(rests)
    }
}
