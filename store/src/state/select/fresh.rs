//! Messages that the group never had: queue by queue, from where the group is.

use std::{collections::HashMap, mem};

use super::{Candidates, FreshRun, Pick, Search};
use crate::state::{
    index::{Entry, QueueKey, RunError},
    pop::{Fifo, Subscription},
    topics::Topic,
};

/// Index entries looked at for one answer, each counted at the cost of the filter; what passes over
/// more goes on in the next turn.
pub(super) const EXAMINED_MAX: usize = 2000;
/// Index entries read at once.
const CHUNK: usize = 64;
/// Unfinished messages of one cursor, beyond which it hands out nothing fresh.
const CURSOR_ROWS_MAX: usize = 100_000;
/// The same for a subscription, over all its cursors.
const SUBSCRIPTION_ROWS_MAX: usize = 2_000_000;
/// Messages of one cursor that wait for others of their message group, beyond which it hands out
/// nothing fresh.
pub const FIFO_WINDOW: usize = 4096;

/// The part of a queue to look through.
pub(super) struct Scan<'a> {
    pub key: QueueKey,
    pub from: u64,
    pub end: u64,
    pub order: Option<Order<'a>>,
}

/// What keeps message groups in order while a queue is looked through.
pub(super) struct Order<'a> {
    fifo: &'a Fifo,
    /// Messages that may yet be passed over.
    room: usize,
    /// Message groups met, and whether their next message may be taken.
    met: HashMap<u64, bool>,
}

impl Search<'_> {
    /// Takes fresh messages until there is enough, or the work limit is reached.
    pub(super) fn take_fresh(
        &mut self,
        subscription: &mut Subscription,
        candidates: &mut dyn Candidates,
    ) -> Result<(), RunError> {
        if subscription.rows() >= SUBSCRIPTION_ROWS_MAX {
            return Ok(());
        }
        refill(subscription, self.topic);
        while !self.is_full()
            && let Some(queue) = candidates.next(&mut subscription.turn)
        {
            let Some(cursor) = subscription.cursors.get(queue) else { continue };
            let Some(ends) = self.topic.queues.get(queue as usize) else { continue };
            let from = cursor.fetch.max(ends.start);
            if from >= ends.end {
                continue;
            }
            let passed = subscription.fifo().map_or(0, |fifo| fifo.passed(queue));
            if cursor.rows.len() >= CURSOR_ROWS_MAX || passed >= FIFO_WINDOW {
                subscription.turn.add(queue);
                continue;
            }
            let order = subscription.fifo().map(|fifo| Order { fifo, room: FIFO_WINDOW - passed, met: HashMap::new() });
            let key = QueueKey { topic: self.reader.topic, queue };
            let run = self.scan(Scan { key, from, end: ends.end, order })?;
            let is_drained = run.fetch_end >= ends.end;
            if run.fetch_end > from {
                self.selection.fresh.push(run);
            }
            if !is_drained {
                subscription.turn.add(queue);
            }
            if self.examined >= EXAMINED_MAX {
                self.selection.more = true;
                break;
            }
        }
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        let messages = self.selection.messages();
        (self.bytes == 0 && messages > 0) || messages >= self.want.messages
    }

    /// Takes fresh messages of one queue until there is enough, or a limit is reached.
    pub(super) fn scan(&mut self, mut scan: Scan<'_>) -> Result<FreshRun, RunError> {
        let before = self.selection.messages();
        let mut run = FreshRun { queue: scan.key.queue, fetch_end: scan.from, ..FreshRun::default() };
        let mut entries = Vec::new();
        while run.fetch_end < scan.end && self.examined < EXAMINED_MAX {
            let wanted = self.want.messages - before - run.picks.len();
            if wanted == 0 {
                break;
            }
            entries.clear();
            // Where others were passed over, more will be.
            let has_passed_over = !run.passed.is_empty() || self.selection.expired_fresh > 0;
            let is_picky = self.want.filter.needs_text() || has_passed_over;
            let chunk = if is_picky { CHUNK } else { wanted.min(CHUNK) };
            self.index.range(scan.key, run.fetch_end, chunk, &mut entries)?;
            if entries.is_empty() {
                // Nothing is left of these offsets; the queue goes on behind them.
                run.fetch_end = scan.end;
                break;
            }
            for &(offset, entry) in &entries {
                let is_enough = before + run.picks.len() >= self.want.messages || self.examined >= EXAMINED_MAX;
                if is_enough {
                    return Ok(run);
                }
                self.examined += self.want.filter.cost();
                if self.matches(&entry) {
                    if self.is_expired(&entry) {
                        self.selection.expired_fresh += 1;
                    } else if !self.take(offset, entry, &mut run, scan.order.as_mut()) {
                        return Ok(run);
                    }
                }
                run.fetch_end = offset + 1;
            }
        }
        Ok(run)
    }

    /// Takes one message, or passes over it; `false` when there is no room to do either.
    fn take(&mut self, offset: u64, entry: Entry, run: &mut FreshRun, order: Option<&mut Order<'_>>) -> bool {
        if let Some(order) = order
            && !self.may_follow(run.queue, entry.group_hash, order)
        {
            let has_room = order.room > 0;
            if has_room {
                order.room -= 1;
                run.passed.push((offset, entry));
            }
            return has_room;
        }
        let is_first = self.selection.messages() + run.picks.len() == 0;
        if !is_first && u64::from(entry.length) > self.bytes {
            self.bytes = 0;
            return false;
        }
        self.bytes = self.bytes.saturating_sub(u64::from(entry.length));
        run.picks.push(Pick { queue: run.queue, offset, entry, generation: 1, attempt: 1 });
        true
    }

    /// Takes messages that were passed over while room was kept for redeliveries, and may follow
    /// these now that they are in the answer too.
    pub(super) fn take_passed(&mut self, subscription: &Subscription) {
        let Some(fifo) = subscription.fifo() else { return };
        let mut runs = mem::take(&mut self.selection.fresh);
        let mut room = self.want.messages - self.selection.redeliveries.len();
        room -= runs.iter().map(|run| run.picks.len()).sum::<usize>();
        for run in runs.iter_mut().filter(|run| !run.passed.is_empty()) {
            let mut order = Order { fifo, room: 0, met: HashMap::new() };
            let before = run.picks.len();
            run.passed.retain(|&(offset, entry)| {
                let may_follow = self.may_follow(run.queue, entry.group_hash, &mut order);
                let is_taken = may_follow && room > 0 && u64::from(entry.length) <= self.bytes;
                if is_taken {
                    room -= 1;
                    self.bytes -= u64::from(entry.length);
                    run.picks.push(Pick { queue: run.queue, offset, entry, generation: 1, attempt: 1 });
                } else {
                    order.met.insert(entry.group_hash, false);
                }
                !is_taken
            });
            if run.picks.len() > before {
                run.picks.sort_unstable_by_key(|pick| pick.offset);
            }
        }
        self.selection.fresh = runs;
    }

    /// Whether a fresh message of a message group may be taken: all before it are finished, or in
    /// this very answer.
    fn may_follow(&self, queue: u32, hash: u64, order: &mut Order<'_>) -> bool {
        let in_answer = || self.taken.get(&(queue, hash)).copied().unwrap_or_default();
        *order.met.entry(hash).or_insert_with(|| order.fifo.count((queue, hash)) == in_answer())
    }

    fn matches(&mut self, entry: &Entry) -> bool {
        let filter = self.want.filter;
        if !filter.needs_text() {
            return true;
        }
        filter.may_match(entry.tag_hash) && self.contents.passes(entry)
    }
}

/// Notes which queues may have something fresh: those that got messages since the last look, or
/// all when too many did.
fn refill(subscription: &mut Subscription, topic: &Topic) {
    match topic.arrivals.since(subscription.turn.seen) {
        Some(queues) => queues.for_each(|queue| subscription.turn.add(queue)),
        None => {
            for (ends, (queue, cursor)) in topic.queues.iter().zip(&subscription.cursors) {
                if cursor.fetch < ends.end {
                    subscription.turn.add(queue);
                }
            }
        }
    }
    subscription.turn.seen = Some(topic.arrivals.count());
}
