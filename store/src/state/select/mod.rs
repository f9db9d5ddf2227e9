//! Which messages a consumer gets next: fresh ones and redeliveries in fair turns, bounded in
//! messages, bytes and work. It only chooses; the lease is a record of the log.

use bytes::Bytes;

use super::{
    index::{Entry, Index, QueueKey, RunError},
    pop::{Reader, Subscription},
    topics::Topic,
};
use crate::filter::Filter;

/// Index entries looked at for one answer; a filter that passes over more goes on in the next turn.
const EXAMINED_MAX: usize = 2000;
/// Index entries read at once.
const CHUNK: usize = 64;
/// Of this many messages delivered while redeliveries wait, one is a redelivery at least.
const REDELIVERY_SHARE: u32 = 5;
/// Unfinished messages of one cursor, beyond which it hands out nothing fresh.
const CURSOR_ROWS_MAX: usize = 100_000;
/// The same for a subscription, over all its cursors.
const SUBSCRIPTION_ROWS_MAX: usize = 2_000_000;

/// What is asked for.
pub struct Want<'a> {
    pub filter: &'a Filter,
    pub messages: usize,
    pub bytes: u64,
    pub now_ms: u64,
    /// Deliveries a message gets before it is dead.
    pub attempts_max: u32,
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

/// Fresh messages of one queue. Everything before `fetch_end` that is not among them was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreshRun {
    pub queue: u32,
    pub fetch_end: u64,
    pub picks: Vec<Pick>,
}

/// What was chosen, and what was found on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub redeliveries: Vec<Pick>,
    pub fresh: Vec<FreshRun>,
    /// The work limit ended the search, not the lack of messages.
    pub more: bool,
}

impl Selection {
    pub fn messages(&self) -> usize {
        self.redeliveries.len() + self.fresh.iter().map(|run| run.picks.len()).sum::<usize>()
    }

    /// Nothing was chosen or passed over.
    pub fn is_empty(&self) -> bool {
        self.redeliveries.is_empty() && self.fresh.is_empty()
    }
}

/// Puts queues with something fresh into the ring, after the ones that wait there already: those
/// that got messages since the last look, or all when too many did.
fn refill(subscription: &mut Subscription, topic: &Topic) {
    match topic.arrivals.since(subscription.turn.seen) {
        Some(queues) => queues.for_each(|queue| subscription.turn.add(queue)),
        None => {
            for (queue, (ends, cursor)) in (0..).zip(topic.queues.iter().zip(&subscription.cursors)) {
                if cursor.fetch < ends.end {
                    subscription.turn.add(queue);
                }
            }
        }
    }
    subscription.turn.seen = Some(topic.arrivals.count());
}

/// Chooses the next messages of a subscription.
///
/// `read` gives the encoded system properties of a message, for filters that look at them.
/// Errors: an index run that cannot be read.
pub fn select(
    reader: Reader,
    subscription: &mut Subscription,
    topic: &Topic,
    index: &mut Index,
    want: &Want<'_>,
    read: &mut dyn FnMut(&Entry) -> Option<Bytes>,
) -> Result<Selection, RunError> {
    let mut selection = Selection::default();
    let mut bytes = want.bytes;
    let mut due = find_due(reader, subscription, index, want)?.into_iter().peekable();

    // What is owed to redeliveries goes first, then fresh messages, then redeliveries again.
    let messages = u32::try_from(want.messages).unwrap_or(u32::MAX);
    let owed = if due.peek().is_some() { subscription.turn.owed.saturating_add(messages) } else { 0 };
    let quota = (owed / REDELIVERY_SHARE) as usize;
    take_redeliveries(&mut selection, &mut due, quota.min(want.messages), &mut bytes);
    let fresh = select_fresh(reader, subscription, topic, index, want, read, &mut selection, &mut bytes);
    if fresh.is_err() {
        // Queues were taken out of the ring and nothing was leased: all are looked at again.
        subscription.turn.seen = None;
    }
    fresh?;
    let room = want.messages - selection.messages();
    let quota = selection.redeliveries.len() + room;
    take_redeliveries(&mut selection, &mut due, quota, &mut bytes);

    let paid = u32::try_from(selection.redeliveries.len()).unwrap_or(u32::MAX).saturating_mul(REDELIVERY_SHARE);
    let delivered = u32::try_from(selection.messages()).unwrap_or(u32::MAX);
    let still_waiting = due.peek().is_some();
    let turn = &mut subscription.turn;
    turn.owed = if still_waiting {
        turn.owed.saturating_add(delivered).saturating_sub(paid).min(messages * REDELIVERY_SHARE)
    } else {
        0
    };
    Ok(selection)
}

fn find_due(
    reader: Reader,
    subscription: &Subscription,
    index: &mut Index,
    want: &Want<'_>,
) -> Result<Vec<Pick>, RunError> {
    let mut found = Vec::new();
    for (queue, offset, row) in subscription.due(want.now_ms) {
        if found.len() == want.messages {
            break;
        }
        if u32::from(row.deliveries) >= want.attempts_max {
            continue; // dead: on its way to the dead-letter topic
        }
        // Retention takes the row away together with the message, so an entry is there.
        let Some(entry) = index.get(QueueKey { topic: reader.topic, queue }, offset)? else { continue };
        let attempt = u32::from(row.deliveries) + 1;
        found.push(Pick { queue, offset, entry, generation: row.generation + 1, attempt });
    }
    Ok(found)
}

fn take_redeliveries(
    selection: &mut Selection,
    due: &mut std::iter::Peekable<std::vec::IntoIter<Pick>>,
    up_to: usize,
    bytes: &mut u64,
) {
    while selection.redeliveries.len() < up_to
        && let Some(pick) = due.peek()
        && fits(pick.entry, selection, bytes)
    {
        selection.redeliveries.extend(due.next());
    }
}

#[allow(clippy::too_many_arguments)]
fn select_fresh(
    reader: Reader,
    subscription: &mut Subscription,
    topic: &Topic,
    index: &mut Index,
    want: &Want<'_>,
    read: &mut dyn FnMut(&Entry) -> Option<Bytes>,
    selection: &mut Selection,
    bytes: &mut u64,
) -> Result<(), RunError> {
    if subscription.rows() >= SUBSCRIPTION_ROWS_MAX {
        return Ok(());
    }
    refill(subscription, topic);
    let mut examined = 0;
    for _ in 0..subscription.turn.len() {
        let is_full = *bytes == 0 && selection.messages() > 0;
        if is_full || selection.messages() >= want.messages {
            break;
        }
        let Some(queue) = subscription.turn.take() else { break };
        let Some(cursor) = subscription.cursors.get(queue as usize) else { continue };
        let Some(ends) = topic.queues.get(queue as usize) else { continue };
        let from = cursor.fetch.max(ends.start);
        if from >= ends.end {
            continue;
        }
        if cursor.rows.len() >= CURSOR_ROWS_MAX {
            subscription.turn.add(queue);
            continue;
        }
        let key = QueueKey { topic: reader.topic, queue };
        let scan = Scan { key, from, end: ends.end };
        let run = scan_queue(scan, index, want, read, selection, bytes, &mut examined)?;
        let drained = run.fetch_end >= ends.end;
        if run.fetch_end > from {
            selection.fresh.push(run);
        }
        if !drained {
            subscription.turn.add(queue);
        }
        if examined >= EXAMINED_MAX {
            selection.more = true;
            break;
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Scan {
    key: QueueKey,
    from: u64,
    end: u64,
}

/// Takes fresh messages of one queue until there is enough, or the work limit is reached.
fn scan_queue(
    scan: Scan,
    index: &mut Index,
    want: &Want<'_>,
    read: &mut dyn FnMut(&Entry) -> Option<Bytes>,
    selection: &Selection,
    bytes: &mut u64,
    examined: &mut usize,
) -> Result<FreshRun, RunError> {
    let before = selection.messages();
    let mut run = FreshRun { queue: scan.key.queue, fetch_end: scan.from, picks: Vec::new() };
    let mut entries = Vec::new();
    while run.fetch_end < scan.end && *examined < EXAMINED_MAX {
        let wanted = want.messages - before - run.picks.len();
        if wanted == 0 {
            break;
        }
        entries.clear();
        let chunk = if want.filter.needs_text() { CHUNK } else { wanted.min(CHUNK) };
        index.range(scan.key, run.fetch_end, chunk, &mut entries)?;
        if entries.is_empty() {
            // Nothing is left of these offsets; the queue goes on behind them.
            run.fetch_end = scan.end;
            break;
        }
        for &(offset, entry) in &entries {
            let enough = before + run.picks.len() >= want.messages || *examined >= EXAMINED_MAX;
            if enough {
                return Ok(run);
            }
            *examined += 1;
            if matches(want.filter, &entry, read) {
                let some = before + run.picks.len() > 0;
                if some && u64::from(entry.length) > *bytes {
                    *bytes = 0;
                    return Ok(run);
                }
                *bytes = bytes.saturating_sub(u64::from(entry.length));
                run.picks.push(Pick { queue: scan.key.queue, offset, entry, generation: 1, attempt: 1 });
            }
            run.fetch_end = offset + 1;
        }
    }
    Ok(run)
}

fn matches(filter: &Filter, entry: &Entry, read: &mut dyn FnMut(&Entry) -> Option<Bytes>) -> bool {
    if !filter.needs_text() {
        return true;
    }
    // A message that cannot be read is not passed over in silence: whoever takes it meets the damage.
    filter.may_match(entry.tag_hash) && read(entry).is_none_or(|properties| filter.matches(&properties))
}

/// Whether the answer has room for one more message; the first always fits.
fn fits(entry: Entry, selection: &Selection, bytes: &mut u64) -> bool {
    let length = u64::from(entry.length);
    if length > *bytes && selection.messages() > 0 {
        return false;
    }
    *bytes = bytes.saturating_sub(length);
    true
}
