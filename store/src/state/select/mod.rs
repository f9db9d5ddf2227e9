//! Which messages a consumer gets next: fresh ones and redeliveries in fair turns, bounded in
//! messages, bytes and work. It only chooses; the lease is a record of the log.

mod candidates;
mod contents;
mod fresh;
mod lite;

use std::{collections::HashMap, iter::Peekable, vec};

use super::{
    index::{Entry, Index, QueueKey, RunError},
    pop::{Reader, Subscription},
    topics::Topic,
};
use crate::filter::Filter;

pub use candidates::{Candidates, HighestFirst, InTurn};
pub use contents::Contents;
pub use lite::{Offers, is_ready, select_lite};

/// Of this many messages delivered while redeliveries wait, one is a redelivery at least.
const REDELIVERY_SHARE: u32 = 5;
/// The same for a group whose message groups are in order: what waits there is mostly older than
/// what was never looked at, and not delivered yet.
const ORDERED_SHARE: u32 = 2;
/// Messages settled for one answer because they are of no use any more.
const EXPIRED_MAX: usize = 256;

/// What is asked for.
pub struct Want<'a> {
    pub filter: &'a Filter,
    pub messages: usize,
    pub bytes: u64,
    pub now_ms: u64,
}

/// One chosen message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    pub queue: u32,
    pub offset: u64,
    pub entry: Entry,
    /// Of the lease it is about to get.
    pub generation: u32,
    /// Which delivery this is, from 1.
    pub attempt: u32,
}

/// Fresh messages of one queue. Everything before `fetch_end` that is in neither list did not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FreshRun {
    pub queue: u32,
    pub fetch_end: u64,
    pub picks: Vec<Pick>,
    /// Messages that wait for others of their message group, with their offsets.
    pub passed: Vec<(u64, Entry)>,
}

/// What was chosen, and what was found on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub redeliveries: Vec<Pick>,
    pub fresh: Vec<FreshRun>,
    /// What would be redelivered and has outlived its time: it is to be settled.
    pub expired: Vec<Pick>,
    /// Fresh messages that were passed over because they have outlived theirs.
    pub expired_fresh: u64,
    /// The work limit ended the search, not the lack of messages.
    pub more: bool,
}

impl Selection {
    pub fn messages(&self) -> usize {
        self.redeliveries.len() + self.fresh.iter().map(|run| run.picks.len()).sum::<usize>()
    }

    /// Nothing was chosen, passed over or found to have outlived its time.
    pub fn is_empty(&self) -> bool {
        self.redeliveries.is_empty() && self.fresh.is_empty() && self.expired.is_empty()
    }
}

/// A search for the messages of one answer.
struct Search<'a> {
    reader: Reader,
    topic: &'a Topic,
    index: &'a mut Index,
    want: &'a Want<'a>,
    contents: &'a mut dyn Contents,
    selection: Selection,
    /// Bytes the answer has room for.
    bytes: u64,
    /// Index entries looked at.
    examined: usize,
    /// Unfinished messages that are in the answer, or settled with it, by key, where message groups
    /// are in order.
    taken: HashMap<(u32, u64), usize>,
}

/// Chooses the next messages of a subscription.
///
/// `candidates` says where they may come from, `contents` what only the messages themselves tell.
/// Errors: an index run that cannot be read.
pub fn select(
    reader: Reader,
    subscription: &mut Subscription,
    topic: &Topic,
    index: &mut Index,
    want: &Want<'_>,
    candidates: &mut dyn Candidates,
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
    let mut due = search.find_due(subscription, candidates)?.into_iter().peekable();

    // What is owed to redeliveries goes first, then fresh messages, then redeliveries again.
    let share = if subscription.is_ordered() { ORDERED_SHARE } else { REDELIVERY_SHARE };
    let messages = u32::try_from(want.messages).unwrap_or(u32::MAX);
    let owed = if due.peek().is_some() { subscription.turn.owed.saturating_add(messages) } else { 0 };
    let quota = (owed / share) as usize;
    search.take_redeliveries(&mut due, quota.min(want.messages));
    search.note_taken(subscription);
    let fresh = search.take_fresh(subscription, candidates);
    if fresh.is_err() {
        // Queues lost their turn and nothing was leased: all are looked at again.
        subscription.turn.seen = None;
    }
    fresh?;
    let room = want.messages - search.selection.messages();
    let quota = search.selection.redeliveries.len() + room;
    search.take_redeliveries(&mut due, quota);
    search.note_taken(subscription);
    search.take_passed(subscription);

    let selection = search.selection;
    let paid = u32::try_from(selection.redeliveries.len()).unwrap_or(u32::MAX).saturating_mul(share);
    let delivered = u32::try_from(selection.messages()).unwrap_or(u32::MAX);
    let still_waiting = due.peek().is_some();
    let turn = &mut subscription.turn;
    turn.owed = if still_waiting {
        turn.owed.saturating_add(delivered).saturating_sub(paid).min(messages.saturating_mul(share))
    } else {
        0
    };
    Ok(selection)
}

impl Search<'_> {
    /// As many due messages as the answer has room for; those of one message group stand together,
    /// in their order.
    fn find_due(&mut self, subscription: &Subscription, candidates: &dyn Candidates) -> Result<Vec<Pick>, RunError> {
        let mut found = Vec::new();
        let places = candidates.due(subscription, self.want.now_ms);
        for (queue, offset, row) in places.flat_map(|place| subscription.at(place)) {
            if found.len() >= self.want.messages || self.has_expired_many() {
                break;
            }
            // Retention takes the row away together with the message, so an entry is there.
            let Some(entry) = self.index.get(QueueKey { topic: self.reader.topic, queue }, offset)? else { continue };
            let attempt = u32::from(row.deliveries) + 1;
            let pick = Pick { queue, offset, entry, generation: row.generation + 1, attempt };
            if self.is_expired(&entry) {
                self.selection.expired.push(pick);
            } else {
                found.push(pick);
            }
        }
        Ok(found)
    }

    fn take_redeliveries(&mut self, due: &mut Peekable<vec::IntoIter<Pick>>, up_to: usize) {
        while self.selection.redeliveries.len() < up_to
            && let Some(pick) = due.peek()
            && self.fits(pick.entry)
        {
            self.selection.redeliveries.extend(due.next());
        }
    }

    fn note_taken(&mut self, subscription: &Subscription) {
        if !subscription.is_ordered() {
            return;
        }
        self.taken.clear();
        for pick in self.selection.redeliveries.iter().chain(&self.selection.expired) {
            *self.taken.entry((pick.queue, pick.entry.group_hash)).or_default() += 1;
        }
    }

    /// Whether the answer has room for one more message; the first always fits.
    fn fits(&mut self, entry: Entry) -> bool {
        let length = u64::from(entry.length);
        if length > self.bytes && self.selection.messages() > 0 {
            return false;
        }
        self.bytes = self.bytes.saturating_sub(length);
        true
    }
}
