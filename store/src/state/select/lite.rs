//! Which messages a client of a lite group gets next. Each lite topic is consumed in order, one
//! batch at a time: while a message of it is in hand, nothing more of it is given.

use std::collections::HashMap;

use super::{
    Contents, Pick, Search, Selection, Want,
    fresh::{EXAMINED_MAX, Scan},
};
use crate::state::{
    index::{Index, QueueKey, RunError},
    pop::{Cursor, Reader, Subscription},
    topics::Topic,
};

/// Lite topics looked at for one answer.
const LOOKED_AT_MAX: usize = 2000;

/// Where lite topics come from that may have something, and where they go back to.
pub trait Offers {
    /// The lite topic whose turn it is, as a queue.
    fn take(&mut self) -> Option<u32>;
    /// One that still has something.
    fn put_back(&mut self, queue: u32);
}

/// Whether something of a lite topic that ends there can be given now.
pub fn is_ready(subscription: &Subscription, queue: u32, end: u64, now_ms: u64) -> bool {
    let Some(cursor) = subscription.cursors.get(queue) else { return false };
    // All messages of a lite topic are of one message group.
    let free_at = subscription.fifo().and_then(|fifo| fifo.free_at((queue, 0)));
    let has_some = cursor.fetch < end || free_at.is_some();
    has_some && free_at.is_none_or(|at_ms| at_ms <= now_ms)
}

/// Chooses the next messages for a client among the lite topics it is offered.
///
/// `contents` says what only the messages themselves tell.
/// Errors: an index run that cannot be read; no offer is lost.
pub fn select_lite(
    reader: Reader,
    subscription: &Subscription,
    topic: &Topic,
    index: &mut Index,
    want: &Want<'_>,
    offers: &mut dyn Offers,
    contents: &mut dyn Contents,
) -> Result<Selection, RunError> {
    let mut search = Search {
        reader,
        topic,
        index,
        want,
        contents,
        selection: Selection::default(),
        bytes: want.bytes,
        examined: 0,
        taken: HashMap::new(),
    };
    let mut looked_at = Vec::new();
    let mut unserved = Vec::new();
    while !search.is_full() {
        if search.examined >= EXAMINED_MAX || looked_at.len() >= LOOKED_AT_MAX {
            search.selection.more = true;
            break;
        }
        let Some(queue) = offers.take() else { break };
        looked_at.push(queue);
        match search.take_lite(subscription, queue) {
            Ok(true) => {}
            Ok(false) => unserved.push(queue),
            Err(error) => {
                looked_at.into_iter().for_each(|queue| offers.put_back(queue));
                return Err(error);
            }
        }
    }
    unserved.into_iter().for_each(|queue| offers.put_back(queue));
    Ok(search.selection)
}

impl Search<'_> {
    /// Chooses from the lowest unfinished message of a lite topic on. `false`: it has something, and
    /// none of it is chosen; otherwise what it has next is looked at when these are settled.
    fn take_lite(&mut self, subscription: &Subscription, queue: u32) -> Result<bool, RunError> {
        let Some(cursor) = subscription.cursors.get(queue) else { return Ok(true) };
        let Some(ends) = self.topic.queues.get(queue as usize) else { return Ok(true) };
        if !is_ready(subscription, queue, ends.end, self.want.now_ms) {
            return Ok(true);
        }
        let before = self.selection.messages();
        let took_all = self.take_again(subscription, queue, cursor)?;
        let from = cursor.fetch.max(ends.start);
        let mut is_drained = false;
        if took_all && from < ends.end && !self.is_full() {
            let run = self.scan(Scan { key: self.key(queue), from, end: ends.end, order: None })?;
            is_drained = run.fetch_end >= ends.end;
            if run.fetch_end > from {
                self.selection.fresh.push(run);
            }
        }
        Ok(is_drained || self.selection.messages() > before)
    }

    /// Chooses messages that were delivered before; whether that is all of them.
    fn take_again(&mut self, subscription: &Subscription, queue: u32, cursor: &Cursor) -> Result<bool, RunError> {
        let mut left = cursor.rows.len();
        // One without attempts left is on its way to the dead-letter topic; those behind it wait.
        for (_, offset, row) in subscription.at((0, queue, 0)) {
            if self.is_full() || self.has_expired_many() {
                break;
            }
            // Retention takes the row away together with the message, so an entry is there.
            if let Some(entry) = self.index.get(self.key(queue), offset)? {
                let (generation, attempt) = (row.generation + 1, u32::from(row.deliveries) + 1);
                let pick = Pick { queue, offset, entry, generation, attempt };
                if self.is_expired(&entry) {
                    self.selection.expired.push(pick);
                } else if self.fits(entry) {
                    self.selection.redeliveries.push(pick);
                } else {
                    self.bytes = 0;
                    break;
                }
            }
            left -= 1;
        }
        Ok(left == 0)
    }

    fn key(&self, queue: u32) -> QueueKey {
        QueueKey { topic: self.reader.topic, queue }
    }
}
