//! Who holds which message until when. One cursor for each (group, topic, queue), one row for each
//! message that was handed out and is not finished. Redelivery reads the original: a row whose
//! time has come is due by comparison, no job has to run for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    ops::Bound,
};

use centaur_apis::log::{Acked, CursorsSet, DeadLettered, Leased, SessionEnded, VisibilityChanged};

use super::offsets;

/// Answers remembered per subscription, so that a repeated attempt gets them again.
const ATTEMPTS_MAX: usize = 1024;

/// A group's interest in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    pub group: u32,
    pub topic: u32,
}

/// What a row waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A consumer has it.
    Leased,
    /// A consumer gave it back for later.
    BackingOff,
}

/// One message handed out and not finished.
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

/// One message of an answer: enough to give the same answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    pub queue: u32,
    pub offset: u64,
    pub generation: u32,
}

/// One group's cursors in one topic.
#[derive(Clone, Debug, Default)]
pub struct Subscription {
    pub cursors: Vec<Cursor>,
    /// Every row by the time it becomes visible.
    due: BTreeSet<Due>,
    /// Answers by attempt, oldest first in `attempt_order`.
    attempts: HashMap<u64, Vec<Granted>>,
    attempt_order: VecDeque<u64>,
    /// Whether the group was ever put at a position in this topic.
    pub started: bool,
    pub turn: Turn,
}

/// Whose turn it is. Scheduling of the leader, not derived state: fair again after any restart.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// Queues with something fresh, the next one in front.
    ring: VecDeque<u32>,
    in_ring: HashSet<u32>,
    /// Messages delivered while redeliveries waited; every fifth is owed to them.
    pub owed: u32,
    /// Arrivals of the topic that the ring knows; none before the first look.
    pub seen: Option<u64>,
    /// Rows that became due up to this place in their order were looked at for dead ones.
    pub looked_to: Due,
}

/// A row's place in the order of becoming due: visible at, queue, offset.
pub type Due = (u64, u32, u64);

/// Every subscription of the store group.
#[derive(Clone, Debug, Default)]
pub struct Pop {
    subscriptions: BTreeMap<Reader, Subscription>,
    /// When the earliest row of each subscription becomes visible.
    wake: BTreeSet<(u64, Reader)>,
    wake_of: HashMap<Reader, u64>,
    /// How many rows live as long as each client, by subscription.
    session_rows: HashMap<u64, BTreeMap<Reader, u64>>,
}

impl Cursor {
    /// Everything before it is finished: what tools call the consumer offset.
    pub fn floor(&self) -> u64 {
        self.rows.first_key_value().map_or(self.fetch, |(offset, _)| *offset)
    }
}

impl Turn {
    /// Puts a queue at the end of the ring unless it is in it.
    pub fn add(&mut self, queue: u32) {
        if self.in_ring.insert(queue) {
            self.ring.push_back(queue);
        }
    }

    /// Takes the queue whose turn it is.
    pub fn take(&mut self) -> Option<u32> {
        let queue = self.ring.pop_front()?;
        self.in_ring.remove(&queue);
        Some(queue)
    }

    pub fn len(&self) -> usize {
        self.ring.len()
    }
}

impl Subscription {
    /// Rows that are due, the one due longest first, with their queue and offset.
    pub fn due(&self, now_ms: u64) -> impl Iterator<Item = (u32, u64, &Row)> {
        self.due
            .range(..=(now_ms, u32::MAX, u64::MAX))
            .filter_map(|&(_, queue, offset)| self.row(queue, offset).map(|row| (queue, offset, row)))
    }

    /// The same behind a place in that order.
    pub fn due_after(&self, place: Due, now_ms: u64) -> impl Iterator<Item = (u32, u64, &Row)> {
        let end = (now_ms, u32::MAX, u64::MAX);
        let range = (Bound::Excluded(place), Bound::Included(end.max(place)));
        self.due.range(range).filter_map(|&(_, queue, offset)| self.row(queue, offset).map(|row| (queue, offset, row)))
    }

    pub fn has_due(&self, now_ms: u64) -> bool {
        self.due.first().is_some_and(|&(at, _, _)| at <= now_ms)
    }

    pub fn row(&self, queue: u32, offset: u64) -> Option<&Row> {
        self.cursors.get(queue as usize)?.rows.get(&offset)
    }

    /// Rows over all queues.
    pub fn rows(&self) -> usize {
        self.due.len()
    }

    /// What an earlier answer to this attempt gave, as far as those leases still run.
    pub fn repeat(&self, attempt: u64, now_ms: u64) -> Option<Vec<Granted>> {
        let granted = self.attempts.get(&attempt)?;
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
        self.attempt_order.iter().filter_map(|attempt| Some((*attempt, self.attempts.get(attempt)?.as_slice())))
    }

    /// Adds to a remembered answer: one from several queues, or with redeliveries, comes in several
    /// records. What was delivered again or settled since is of an earlier answer.
    pub fn remember(&mut self, attempt: u64, granted: Vec<Granted>) {
        if let Some(answer) = self.attempts.get_mut(&attempt) {
            let row = |g: &Granted| self.cursors.get(g.queue as usize)?.rows.get(&g.offset);
            answer.retain(|old| !granted.contains(old) && row(old).is_some_and(|row| row.generation == old.generation));
            answer.extend(granted);
            return;
        }
        self.attempts.insert(attempt, granted);
        self.attempt_order.push_back(attempt);
        if self.attempt_order.len() > ATTEMPTS_MAX
            && let Some(oldest) = self.attempt_order.pop_front()
        {
            self.attempts.remove(&oldest);
        }
    }

    /// Puts a row in place, or takes the one there out; keeps the order of visibility true.
    fn put(&mut self, queue: u32, offset: u64, row: Option<Row>) -> Option<Row> {
        let cursor = self.cursors.get_mut(queue as usize)?;
        let old = match row {
            Some(row) => cursor.rows.insert(offset, row),
            None => cursor.rows.remove(&offset),
        };
        if let Some(old) = old {
            self.due.remove(&(old.visible_at_ms, queue, offset));
        }
        if let Some(row) = row {
            self.due.insert((row.visible_at_ms, queue, offset));
        }
        old
    }
}

impl Pop {
    pub fn get(&self, reader: Reader) -> Option<&Subscription> {
        self.subscriptions.get(&reader)
    }

    pub fn get_mut(&mut self, reader: Reader) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(&reader)
    }

    /// Subscriptions of one group, by topic.
    pub fn of_group(&self, group: u32) -> impl Iterator<Item = (Reader, &Subscription)> {
        let range = Reader { group, topic: 0 }..=Reader { group, topic: u32::MAX };
        self.subscriptions.range(range).map(|(reader, subscription)| (*reader, subscription))
    }

    pub fn all(&self) -> impl Iterator<Item = (Reader, &Subscription)> {
        self.subscriptions.iter().map(|(reader, subscription)| (*reader, subscription))
    }

    /// The earliest time a row of any subscription becomes visible, and whose.
    pub fn next_wake(&self) -> Option<(u64, Reader)> {
        self.wake.first().copied()
    }

    /// Forgets a wake-up that was acted on; the next change of the subscription sets another.
    pub fn take_wake(&mut self, now_ms: u64) -> Option<Reader> {
        let (at, reader) = *self.wake.first()?;
        if at > now_ms {
            return None;
        }
        self.wake.pop_first();
        self.wake_of.remove(&reader);
        Some(reader)
    }

    /// Sets the wake-up of a subscription to its first row that becomes visible after `now_ms`.
    pub fn arm(&mut self, reader: Reader, now_ms: u64) {
        let later = (now_ms + 1, 0, 0);
        let next = self.subscriptions.get(&reader).and_then(|s| s.due.range(later..).next()).map(|&(at, _, _)| at);
        self.set_wake(reader, next);
    }

    /// Clients that hold rows which live as long as they do.
    pub fn sessions(&self) -> impl Iterator<Item = u64> {
        self.session_rows.keys().copied()
    }

    /// How many such rows a client holds.
    pub fn rows_held(&self, session: u64) -> u64 {
        self.session_rows.get(&session).map_or(0, |held| held.values().sum())
    }

    /// Puts cursors at positions; their rows are gone and their handles void.
    pub fn set_cursors(&mut self, event: &CursorsSet, queues: usize) {
        let reader = Reader { group: event.group, topic: event.topic };
        self.grow(reader, queues);
        for position in &event.positions {
            self.drop_rows(reader, position.queue, u64::MAX);
            let Some(cursor) = self.cursor_mut(reader, position.queue) else { continue };
            cursor.epoch += 1;
            cursor.fetch = position.offset;
        }
        if let Some(subscription) = self.subscriptions.get_mut(&reader) {
            subscription.started = true;
            subscription.turn.seen = None;
        }
    }

    /// Gives a subscription a cursor for each queue; a queue younger than the subscription is read
    /// from its beginning.
    pub fn grow(&mut self, reader: Reader, queues: usize) {
        let subscription = self.subscriptions.entry(reader).or_default();
        let count = subscription.cursors.len().max(queues);
        subscription.cursors.resize(count, Cursor::default());
    }

    /// Takes a subscription back from a snapshot.
    pub fn restore(&mut self, reader: Reader, cursors: Vec<Cursor>, attempts: Vec<(u64, Vec<Granted>)>) {
        let mut subscription = Subscription { started: true, ..Subscription::default() };
        for (queue, cursor) in (0..).zip(&cursors) {
            for (offset, row) in &cursor.rows {
                subscription.due.insert((row.visible_at_ms, queue, *offset));
                if row.session_bound {
                    *self.session_rows.entry(row.client).or_default().entry(reader).or_default() += 1;
                }
            }
        }
        subscription.cursors = cursors;
        for (attempt, granted) in attempts {
            subscription.remember(attempt, granted);
        }
        self.subscriptions.insert(reader, subscription);
        self.arm(reader, 0);
    }

    pub fn lease(&mut self, event: &Leased) {
        let reader = Reader { group: event.group, topic: event.topic };
        let mut granted = Vec::with_capacity(event.offsets.len());
        for offset in offsets::unpack(&event.offsets) {
            let before = self.subscriptions.get(&reader).and_then(|s| s.row(event.queue, offset));
            let (generation, deliveries) = before.map_or((0, 0), |row| (row.generation, row.deliveries));
            let row = Row {
                visible_at_ms: event.visible_at_ms,
                client: event.client,
                generation: generation + 1,
                deliveries: deliveries.saturating_add(1),
                hold: Hold::Leased,
                session_bound: event.session != 0,
            };
            granted.push(Granted { queue: event.queue, offset, generation: row.generation });
            self.put(reader, event.queue, offset, Some(row));
        }
        if event.fetch_end > 0
            && let Some(cursor) = self.cursor_mut(reader, event.queue)
        {
            cursor.fetch = event.fetch_end;
        }
        if event.attempt != 0
            && let Some(subscription) = self.subscriptions.get_mut(&reader)
        {
            subscription.remember(event.attempt, granted);
        }
        self.rearm(reader);
    }

    pub fn ack(&mut self, event: &Acked) {
        let reader = Reader { group: event.group, topic: event.topic };
        for offset in offsets::unpack(&event.offsets) {
            self.put(reader, event.queue, offset, None);
        }
        self.rearm(reader);
    }

    pub fn dead_letter(&mut self, event: &DeadLettered) {
        let reader = Reader { group: event.group, topic: event.topic };
        self.put(reader, event.queue, event.offset, None);
        self.rearm(reader);
    }

    pub fn change_visibility(&mut self, event: &VisibilityChanged) {
        let reader = Reader { group: event.group, topic: event.topic };
        let Some(mut row) = self.subscriptions.get(&reader).and_then(|s| s.row(event.queue, event.offset)).copied()
        else {
            return;
        };
        row.visible_at_ms = event.visible_at_ms;
        if !event.keeps_handle {
            row.generation += 1;
            row.hold = Hold::BackingOff;
            row.session_bound = false;
        }
        if event.uncounted {
            row.deliveries = row.deliveries.saturating_sub(1);
        }
        self.put(reader, event.queue, event.offset, Some(row));
        self.rearm(reader);
    }

    /// Lets go of every row that lived as long as this client.
    pub fn end_session(&mut self, event: &SessionEnded) {
        let Some(held) = self.session_rows.get(&event.session) else { return };
        let of_it = |row: &Row| row.session_bound && row.client == event.session;
        let mut ended = Vec::new();
        for reader in held.keys().filter(|reader| event.group == 0 || event.group == reader.group) {
            let Some(subscription) = self.subscriptions.get(reader) else { continue };
            for (queue, cursor) in (0..).zip(&subscription.cursors) {
                let of_it = cursor.rows.iter().filter(|(_, row)| of_it(row));
                ended.extend(of_it.map(|(offset, row)| (*reader, queue, *offset, *row)));
            }
        }
        for (reader, queue, offset, row) in ended {
            let row = Row { visible_at_ms: event.visible_at_ms, session_bound: false, ..row };
            self.put(reader, queue, offset, Some(row));
            self.rearm(reader);
        }
    }

    /// Forgets what lies before the first offset left in a queue; says how many messages no longer
    /// reach some group.
    pub fn retire(&mut self, topic: u32, queue: u32, start: u64, groups: &BTreeSet<u32>) -> u64 {
        let mut unconsumed = 0;
        for &group in groups {
            let reader = Reader { group, topic };
            unconsumed += self.drop_rows(reader, queue, start);
            if let Some(cursor) = self.cursor_mut(reader, queue)
                && cursor.fetch < start
            {
                unconsumed += start - cursor.fetch;
                cursor.fetch = start;
            }
        }
        unconsumed
    }

    pub fn delete(&mut self, reader: Reader) {
        let Some(subscription) = self.subscriptions.remove(&reader) else { return };
        let rows = subscription.cursors.iter().flat_map(|cursor| cursor.rows.values());
        let bound: Vec<u64> = rows.filter(|row| row.session_bound).map(|row| row.client).collect();
        for client in bound {
            self.count_session(client, reader, false);
        }
        self.set_wake(reader, None);
    }

    fn drop_rows(&mut self, reader: Reader, queue: u32, before: u64) -> u64 {
        let Some(cursor) = self.cursor_mut(reader, queue) else { return 0 };
        let gone: Vec<u64> = cursor.rows.range(..before).map(|(offset, _)| *offset).collect();
        for offset in &gone {
            self.put(reader, queue, *offset, None);
        }
        self.rearm(reader);
        gone.len() as u64
    }

    fn cursor_mut(&mut self, reader: Reader, queue: u32) -> Option<&mut Cursor> {
        self.subscriptions.get_mut(&reader)?.cursors.get_mut(queue as usize)
    }

    fn put(&mut self, reader: Reader, queue: u32, offset: u64, row: Option<Row>) {
        let Some(subscription) = self.subscriptions.get_mut(&reader) else { return };
        let old = subscription.put(queue, offset, row);
        if let Some(old) = old.filter(|old| old.session_bound) {
            self.count_session(old.client, reader, false);
        }
        if let Some(row) = row.filter(|row| row.session_bound) {
            self.count_session(row.client, reader, true);
        }
    }

    fn count_session(&mut self, client: u64, reader: Reader, more: bool) {
        let held = self.session_rows.entry(client).or_default();
        let count = held.entry(reader).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            held.remove(&reader);
        }
        if held.is_empty() {
            self.session_rows.remove(&client);
        }
    }

    /// Keeps the wake-up of a subscription no later than its earliest row.
    fn rearm(&mut self, reader: Reader) {
        let earliest = self.subscriptions.get(&reader).and_then(|s| s.due.first()).map(|&(at, _, _)| at);
        self.set_wake(reader, earliest);
    }

    fn set_wake(&mut self, reader: Reader, at: Option<u64>) {
        let old = match at {
            Some(at) => self.wake_of.insert(reader, at),
            None => self.wake_of.remove(&reader),
        };
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.wake.remove(&(old, reader));
        }
        if let Some(at) = at {
            self.wake.insert((at, reader));
        }
    }
}
