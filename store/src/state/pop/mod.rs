//! Who holds which message until when. One cursor for each (group, topic, queue), one row for each
//! message that was handed out and is not finished. Redelivery reads the original: a row whose
//! time has come is due by comparison, no job has to run for it. Where message groups are in order,
//! what had to be passed over has a row as well.

mod attempts;
mod fifo;
mod holders;
mod row;
mod subscription;
#[cfg(test)]
mod tests;
mod turn;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    iter,
};

use centaur_apis::log::{Acked, CursorsSet, DeadLettered, Leased, Position, SessionEnded, VisibilityChanged};

use super::{cursors::Cursors, offsets};
use holders::Holders;

pub use fifo::Fifo;
pub use row::{Cursor, Hold, Row};
pub use subscription::{Due, Rules, Subscription};
pub use turn::Turn;

/// A group's interest in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    pub group: u32,
    pub topic: u32,
}

/// One message of an answer: enough to give the same answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    pub queue: u32,
    pub offset: u64,
    pub generation: u32,
}

/// Every subscription of the store group.
#[derive(Clone, Debug, Default)]
pub struct Pop {
    subscriptions: BTreeMap<Reader, Subscription>,
    /// When the earliest row of each subscription becomes visible.
    wake: BTreeSet<(u64, Reader)>,
    wake_of: HashMap<Reader, u64>,
    /// Rows that live as long as the clients that hold them.
    sessions: Holders,
    /// Rows that clients of lite groups hold.
    lite: Holders,
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
        let next = self.subscriptions.get(&reader).and_then(|s| s.next_after(now_ms));
        self.set_wake(reader, next);
    }

    /// Clients that hold rows which live as long as they do.
    pub fn sessions(&self) -> impl Iterator<Item = u64> {
        self.sessions.all()
    }

    /// How many such rows a client holds.
    pub fn rows_held(&self, session: u64) -> u64 {
        self.sessions.count(session)
    }

    /// What a client of a lite group has in hand, by queue and offset.
    pub fn held_of_lite(&self, client: u64, reader: Reader) -> impl Iterator<Item = (u32, u64)> {
        self.lite.of_in(client, reader)
    }

    /// Puts cursors at positions; their rows are gone and their handles void.
    ///
    /// `queues` is how many the topic has; none for a LITE topic, whose readers have cursors only in
    /// queues that they were put into.
    pub fn set_cursors(&mut self, event: &CursorsSet, queues: Option<usize>, rules: Rules) {
        let reader = Reader { group: event.group, topic: event.topic };
        let cursors = if queues.is_some() { Cursors::default() } else { Cursors::Some(BTreeMap::new()) };
        self.subscriptions.entry(reader).or_insert_with(|| Subscription::new(rules, cursors));
        match queues {
            Some(queues) => self.grow(reader, queues),
            None => event.positions.iter().for_each(|position| self.add_cursor(reader, position.queue)),
        }
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
        let Some(subscription) = self.subscriptions.get_mut(&reader) else { return };
        subscription.cursors.grow(queues);
    }

    fn add_cursor(&mut self, reader: Reader, queue: u32) {
        if let Some(subscription) = self.subscriptions.get_mut(&reader) {
            subscription.cursors.add(queue);
        }
    }

    /// Has a reader of all lite topics begin with the first message of a new one.
    pub fn put_cursor(&mut self, reader: Reader, position: Position) {
        self.add_cursor(reader, position.queue);
        if let Some(cursor) = self.cursor_mut(reader, position.queue) {
            cursor.fetch = position.offset;
        }
    }

    /// Takes the cursor of one queue of a LITE topic away, with its rows.
    pub fn remove_cursor(&mut self, reader: Reader, queue: u32) {
        self.drop_rows(reader, queue, u64::MAX);
        if let Some(subscription) = self.subscriptions.get_mut(&reader) {
            subscription.cursors.remove(queue);
        }
    }

    /// Follows a group's settings in all its subscriptions.
    pub fn set_rules(&mut self, group: u32, rules: Rules) {
        let readers: Vec<Reader> = self.of_group(group).map(|(reader, _)| reader).collect();
        for reader in readers {
            if let Some(subscription) = self.subscriptions.get_mut(&reader) {
                subscription.set_rules(rules);
            }
            self.rearm(reader);
        }
    }

    /// Takes a subscription back from a snapshot.
    pub fn restore(&mut self, reader: Reader, subscription: Subscription) {
        let is_lite = subscription.is_lite();
        for (queue, offset, row) in subscription.all_rows() {
            self.hold(reader, is_lite, queue, offset, row);
        }
        self.subscriptions.insert(reader, subscription);
        self.arm(reader, 0);
    }

    pub fn lease(&mut self, event: &Leased) {
        let reader = Reader { group: event.group, topic: event.topic };
        let mut granted = Vec::with_capacity(event.offsets.len());
        // Redeliveries name no message groups: they are known.
        let mut hashes = event.keys.iter().copied().chain(iter::repeat(0));
        for (offset, hash) in offsets::unpack(&event.offsets).zip(&mut hashes) {
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
            self.put(reader, event.queue, offset, Some(row), hash);
        }
        for (offset, hash) in offsets::unpack(&event.passed).zip(&mut hashes) {
            self.put(reader, event.queue, offset, Some(Row::passed(event.leased_at_ms)), hash);
        }
        if event.fetch_end > 0
            && let Some(cursor) = self.cursor_mut(reader, event.queue)
        {
            cursor.fetch = event.fetch_end;
        }
        if let Some(subscription) = self.subscriptions.get_mut(&reader) {
            if subscription.is_ordered() {
                granted.iter().for_each(|g| subscription.serve(g.queue, g.offset, event.leased_at_ms));
            }
            if event.attempt != 0 {
                subscription.remember(event.attempt, granted);
            }
        }
        self.rearm(reader);
    }

    pub fn ack(&mut self, event: &Acked) {
        let reader = Reader { group: event.group, topic: event.topic };
        for offset in offsets::unpack(&event.offsets) {
            self.take(reader, event.queue, offset);
        }
        self.rearm(reader);
    }

    pub fn dead_letter(&mut self, event: &DeadLettered) {
        let reader = Reader { group: event.group, topic: event.topic };
        self.take(reader, event.queue, event.offset);
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
        self.put(reader, event.queue, event.offset, Some(row), 0);
        self.rearm(reader);
    }

    /// Lets go of every row that lived as long as this client.
    pub fn end_session(&mut self, event: &SessionEnded) {
        let held = self.sessions.of(event.session);
        let ended: Vec<_> = held.filter(|(reader, ..)| event.group == 0 || event.group == reader.group).collect();
        for (reader, queue, offset) in ended {
            let row = self.subscriptions.get(&reader).and_then(|subscription| subscription.row(queue, offset));
            let Some(&row) = row else { continue };
            let row = Row { visible_at_ms: event.visible_at_ms, session_bound: false, ..row };
            self.put(reader, queue, offset, Some(row), 0);
            self.rearm(reader);
        }
    }

    /// Goes on behind what retention took from a queue; says how many messages that some group never
    /// had. What is in a group's hands stays there.
    pub fn retire(&mut self, topic: u32, queue: u32, start: u64, groups: &BTreeSet<u32>) -> u64 {
        let mut unconsumed = 0;
        for &group in groups {
            let Some(subscription) = self.subscriptions.get_mut(&Reader { group, topic }) else { continue };
            let Some(cursor) = subscription.cursors.get_mut(queue).filter(|cursor| cursor.fetch < start) else {
                continue;
            };
            let lost = start - cursor.fetch;
            cursor.fetch = start;
            subscription.expired_unconsumed += lost;
            unconsumed += lost;
        }
        unconsumed
    }

    pub fn delete(&mut self, reader: Reader) {
        let Some(subscription) = self.subscriptions.remove(&reader) else { return };
        let is_lite = subscription.is_lite();
        for (queue, offset, row) in subscription.all_rows() {
            self.let_go(reader, is_lite, queue, offset, row);
        }
        self.set_wake(reader, None);
    }

    fn drop_rows(&mut self, reader: Reader, queue: u32, before: u64) -> u64 {
        let Some(cursor) = self.cursor_mut(reader, queue) else { return 0 };
        let gone: Vec<u64> = cursor.rows.range(..before).map(|(offset, _)| *offset).collect();
        for offset in &gone {
            self.take(reader, queue, *offset);
        }
        self.rearm(reader);
        gone.len() as u64
    }

    fn cursor_mut(&mut self, reader: Reader, queue: u32) -> Option<&mut Cursor> {
        self.subscriptions.get_mut(&reader)?.cursors.get_mut(queue)
    }

    /// Puts a row in place; `hash` is that of its message group if it is new.
    fn put(&mut self, reader: Reader, queue: u32, offset: u64, row: Option<Row>, hash: u64) {
        let subscription = self.subscriptions.get_mut(&reader);
        let Some(subscription) = subscription.filter(|one| one.cursors.get(queue).is_some()) else { return };
        let is_lite = subscription.is_lite();
        if let Some(old) = subscription.put(queue, offset, row, hash) {
            self.let_go(reader, is_lite, queue, offset, &old);
        }
        if let Some(row) = row {
            self.hold(reader, is_lite, queue, offset, &row);
        }
    }

    /// Notes who holds a row, if it is one that a client does not keep when it goes.
    fn hold(&mut self, reader: Reader, is_lite: bool, queue: u32, offset: u64, row: &Row) {
        if row.session_bound {
            self.sessions.add(row.client, reader, queue, offset);
        }
        if is_lite && row.hold == Hold::Leased {
            self.lite.add(row.client, reader, queue, offset);
        }
    }

    /// The reverse of it.
    fn let_go(&mut self, reader: Reader, is_lite: bool, queue: u32, offset: u64, row: &Row) {
        if row.session_bound {
            self.sessions.remove(row.client, reader, queue, offset);
        }
        if is_lite && row.hold == Hold::Leased {
            self.lite.remove(row.client, reader, queue, offset);
        }
    }

    fn take(&mut self, reader: Reader, queue: u32, offset: u64) {
        self.put(reader, queue, offset, None, 0);
    }

    /// Keeps the wake-up of a subscription no later than its earliest row.
    fn rearm(&mut self, reader: Reader) {
        let earliest = self.subscriptions.get(&reader).and_then(Subscription::earliest);
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
