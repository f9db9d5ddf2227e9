//! One group's cursors in one topic, and the order in which their rows become due.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

use centaur_apis::log;

use super::{Fifo, Granted, Hold, Row, attempts::Attempts, fifo::Key, turn::Turn};
use crate::state::cursors::Cursors;

/// A place in the order of becoming due: visible at, queue, and a row's offset or, where message
/// groups are in order, the hash of a message group.
pub type Due = (u64, u32, u64);

/// What of a group's settings decides over its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Each message group is handed out in order, to one consumer at a time.
    pub is_ordered: bool,
    /// Deliveries a message gets before it is dead.
    pub attempts_max: u32,
    /// An ordered message is never dead; it holds up its message group.
    pub is_patient: bool,
}

/// A group's interest in a topic.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub cursors: Cursors,
    /// Whether the group was ever put at a position in this topic.
    pub started: bool,
    /// Messages that retention took before the group had them.
    pub expired_unconsumed: u64,
    pub turn: Turn,
    rules: Rules,
    rows: usize,
    /// Rows by message group, where these are in order.
    fifo: Option<Fifo>,
    /// Every row, or message group, by the time it may be delivered.
    due: BTreeSet<Due>,
    /// Those that are dead then.
    dead: BTreeSet<Due>,
    attempts: Attempts,
}

impl Rules {
    pub fn of(group: &log::Group) -> Self {
        Self {
            is_ordered: group.fifo || group.lite.is_some(),
            attempts_max: group.max_attempts,
            is_patient: group.blocks_when_exhausted,
        }
    }

    /// Whether a message had all its deliveries.
    fn exhausts(&self, row: &Row) -> bool {
        u32::from(row.deliveries) >= self.attempts_max && !(self.is_ordered && self.is_patient)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self { is_ordered: false, attempts_max: u32::MAX, is_patient: false }
    }
}

impl Subscription {
    pub fn new(rules: Rules, cursors: Cursors) -> Self {
        Self {
            cursors,
            started: false,
            expired_unconsumed: 0,
            turn: Turn::default(),
            rules,
            rows: 0,
            fifo: rules.is_ordered.then(Fifo::default),
            due: BTreeSet::new(),
            dead: BTreeSet::new(),
            attempts: Attempts::default(),
        }
    }

    /// Takes rows back from a snapshot, with the hashes of their message groups by queue and offset.
    pub fn restored(rules: Rules, cursors: Cursors, hashes: &HashMap<(u32, u64), u64>) -> Self {
        let mut subscription = Self { started: true, ..Self::new(rules, cursors) };
        subscription.place_all(hashes);
        subscription
    }

    /// Whether message groups are in order.
    pub fn is_ordered(&self) -> bool {
        self.fifo.is_some()
    }

    /// Whether it is of a LITE topic.
    pub fn is_lite(&self) -> bool {
        matches!(self.cursors, Cursors::Some(_))
    }

    /// Rows by message group, where these are in order.
    pub fn fifo(&self) -> Option<&Fifo> {
        self.fifo.as_ref()
    }

    pub fn row(&self, queue: u32, offset: u64) -> Option<&Row> {
        self.cursors.get(queue)?.rows.get(&offset)
    }

    /// Rows over all queues.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Places that are due, the one due longest first.
    pub fn due(&self, now_ms: u64) -> impl Iterator<Item = Due> {
        self.due.range(..=(now_ms, u32::MAX, u64::MAX)).copied()
    }

    /// The same behind a place in that order.
    pub fn due_after(&self, place: Due, now_ms: u64) -> impl Iterator<Item = Due> {
        let end = (now_ms, u32::MAX, u64::MAX);
        self.due.range((Bound::Excluded(place), Bound::Included(end.max(place)))).copied()
    }

    /// The messages to deliver from such a place, by offset.
    pub fn at(&self, place: Due) -> impl Iterator<Item = (u32, u64, &Row)> {
        // A dead message further on waits until it is the first of its message group.
        self.rows_of(place).take_while(|(_, _, row)| !self.rules.exhausts(row))
    }

    /// Every row with its queue and offset.
    pub fn all_rows(&self) -> impl Iterator<Item = (u32, u64, &Row)> {
        self.due.iter().chain(&self.dead).flat_map(|&place| self.rows_of(place))
    }

    /// Messages that were delivered as often as allowed, and are due again.
    pub fn dead(&self, now_ms: u64) -> impl Iterator<Item = (u32, u64)> {
        let places = self.dead.range(..=(now_ms, u32::MAX, u64::MAX));
        let rows = places.flat_map(|&place| self.rows_of(place).take_while(|(_, _, row)| self.rules.exhausts(row)));
        rows.map(|(queue, offset, _)| (queue, offset))
    }

    fn rows_of(&self, (_, queue, id): Due) -> impl Iterator<Item = (u32, u64, &Row)> {
        let single = self.fifo.is_none().then_some(id);
        let members = self.fifo.iter().flat_map(move |fifo| fifo.offsets((queue, id)));
        single.into_iter().chain(members).filter_map(move |offset| Some((queue, offset, self.row(queue, offset)?)))
    }

    /// When the first place becomes due, or dead; store time, ms.
    pub fn earliest(&self) -> Option<u64> {
        let first = |places: &BTreeSet<Due>| places.first().map(|place| place.0);
        [first(&self.due), first(&self.dead)].into_iter().flatten().min()
    }

    /// The same of the places behind a time.
    pub fn next_after(&self, ms: u64) -> Option<u64> {
        let first = |places: &BTreeSet<Due>| places.range((ms.saturating_add(1), 0, 0)..).next().map(|place| place.0);
        [first(&self.due), first(&self.dead)].into_iter().flatten().min()
    }

    /// Whether a visible row has to wait for others of its message group.
    pub fn is_held_up(&self, queue: u32, offset: u64, now_ms: u64) -> bool {
        let Some(fifo) = &self.fifo else { return false };
        let free_at = fifo.hash(queue, offset).and_then(|hash| fifo.free_at((queue, hash)));
        free_at.is_some_and(|at| at > now_ms)
    }

    /// What an earlier answer to this attempt gave, as far as those leases still run.
    pub fn repeat(&self, attempt: u64, now_ms: u64) -> Option<Vec<Granted>> {
        let granted = self.attempts.get(attempt)?;
        let runs = |g: &Granted| {
            self.row(g.queue, g.offset).is_some_and(|row| {
                row.generation == g.generation && row.hold == Hold::Leased && row.visible_at_ms > now_ms
            })
        };
        let still: Vec<_> = granted.iter().copied().filter(runs).collect();
        (!still.is_empty()).then_some(still)
    }

    /// Remembered answers, oldest first: part of a snapshot.
    pub fn attempts(&self) -> impl Iterator<Item = (u64, &[Granted])> {
        self.attempts.iter()
    }

    /// Adds to a remembered answer what still stands of its leases.
    pub fn remember(&mut self, attempt: u64, mut granted: Vec<Granted>) {
        granted.retain(|g| self.row(g.queue, g.offset).is_some_and(|row| row.generation == g.generation));
        self.attempts.remember(attempt, &granted);
    }

    /// Follows the group's settings.
    pub fn set_rules(&mut self, rules: Rules) {
        if rules == self.rules {
            return;
        }
        let hashes = self.fifo.take().map(Fifo::into_hashes).unwrap_or_default();
        self.rules = rules;
        self.fifo = rules.is_ordered.then(Fifo::default);
        self.place_all(&hashes);
    }

    /// Puts a row in place, or takes the one there out; keeps the order of becoming due true.
    /// `hash` is that of the message group of a new row.
    pub(super) fn put(&mut self, queue: u32, offset: u64, row: Option<Row>, hash: u64) -> Option<Row> {
        let cursor = self.cursors.get_mut(queue)?;
        let old = match row {
            Some(row) => cursor.rows.insert(offset, row),
            None => cursor.rows.remove(&offset),
        };
        self.rows = self.rows + usize::from(row.is_some()) - usize::from(old.is_some());
        if old.is_some_and(|old| row.is_none_or(|row| row.generation != old.generation)) {
            self.attempts.end(queue, offset);
        }
        let Some(fifo) = &mut self.fifo else {
            if let Some(old) = old {
                self.displace((old.visible_at_ms, queue, offset), self.rules.exhausts(&old));
            }
            if let Some(row) = row {
                self.place((row.visible_at_ms, queue, offset), self.rules.exhausts(&row));
            }
            return old;
        };
        let key = (queue, fifo.hash(queue, offset).unwrap_or(hash));
        fifo.change(key, offset, old.as_ref(), row.as_ref());
        self.settle(key);
        old
    }

    /// Notes that the message group of a row was handed out.
    pub(super) fn serve(&mut self, queue: u32, offset: u64, at_ms: u64) {
        if let Some(fifo) = &mut self.fifo
            && let Some(hash) = fifo.hash(queue, offset)
        {
            fifo.serve((queue, hash), at_ms);
            self.settle((queue, hash));
        }
    }

    /// Keeps a message group in its place.
    fn settle(&mut self, key: Key) {
        let Some(fifo) = &self.fifo else { return };
        let first = fifo.offsets(key).next().and_then(|offset| self.row(key.0, offset));
        let is_dead = first.is_some_and(|row| self.rules.exhausts(row));
        let Some(fifo) = &mut self.fifo else { return };
        let (before, after) = fifo.settle(key, is_dead);
        if before == after {
            return;
        }
        if let Some((at_ms, is_dead)) = before {
            self.displace((at_ms, key.0, key.1), is_dead);
        }
        if let Some((at_ms, is_dead)) = after {
            self.place((at_ms, key.0, key.1), is_dead);
        }
    }

    fn place(&mut self, place: Due, is_dead: bool) {
        if is_dead {
            self.dead.insert(place)
        } else {
            self.due.insert(place)
        };
    }

    fn displace(&mut self, place: Due, is_dead: bool) {
        if is_dead {
            self.dead.remove(&place)
        } else {
            self.due.remove(&place)
        };
    }

    /// Builds the order anew from the rows.
    fn place_all(&mut self, hashes: &HashMap<(u32, u64), u64>) {
        self.due.clear();
        self.dead.clear();
        self.rows = 0;
        let queues: Vec<u32> = self.cursors.iter().map(|(queue, _)| queue).collect();
        for queue in queues {
            let Some(cursor) = self.cursors.get_mut(queue) else { continue };
            let rows: BTreeMap<u64, Row> = std::mem::take(&mut cursor.rows);
            for (offset, row) in rows {
                let hash = hashes.get(&(queue, offset)).copied().unwrap_or_default();
                self.put(queue, offset, Some(row), hash);
            }
        }
    }
}
