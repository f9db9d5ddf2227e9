//! Scheduled messages: each comes into its queue when it is due, in the order of their times; until
//! then it can be taken back.

use std::{collections::HashMap, mem, ops::RangeInclusive};

use centaur_apis::{
    log::{TimerRecalled, TimersFired, control::Event},
    store::{Error, ListScheduledRequest, Reason, RecallRequest},
    ticket::{Purpose, Ticket},
    units::Lsn,
};
use prost::Message as _;

use super::{Machine, consume::damaged, produce::topic_not_found};
use crate::{
    config::Flush,
    log::{ReadError, record::Place},
    metrics,
    state::index::{Timer, TimerPlace, TimerScan},
};

/// Of messages that are due, the fewest and the most that come in one turn of the thread: soon enough
/// for them, and not long to wait for who sends next.
const BATCH: RangeInclusive<usize> = 64..=256;
/// The same when each turn waits for the disk, which takes longer than this.
const BATCH_SYNC: RangeInclusive<usize> = 500..=1000;
/// A message that comes due is as much work as storing this many bytes of others, about.
const WORK_BYTES: u64 = 256;
/// Bytes of the log that a recall takes, or what holds other events, generously.
const EVENT_BYTES: usize = 64;
/// Messages of one list, unless another number is asked for.
const LISTED_DEFAULT: u32 = 100;
const LISTED_MAX: u32 = 1000;
/// Messages looked at for a list in one turn of the thread.
const LOOKED_AT_MAX: usize = 4096;

/// Whoever wrote within this time will write again soon, ms: nobody is to wait for a long turn then.
const SOON_MS: u64 = 20;

/// How much others sent, for messages that come due to leave them their half.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Bytes of messages since others came due last.
    bytes: u64,
    /// When others wrote last, store time, ms.
    wrote_ms: u64,
}

impl Others {
    /// A message was sent.
    pub(super) fn add(&mut self, bytes: u32) {
        self.bytes += u64::from(bytes);
    }

    /// Bytes others wrote since messages came due last; none if nobody is about to write.
    fn take(&mut self, now_ms: u64) -> Option<u64> {
        let bytes = mem::take(&mut self.bytes);
        if bytes > 0 {
            self.wrote_ms = now_ms;
        }
        (now_ms.saturating_sub(self.wrote_ms) < SOON_MS).then_some(bytes)
    }
}

/// How many messages may come due in a turn in which others wrote that many bytes: both get half of
/// the work.
fn batch_size(others_bytes: Option<u64>, flush: Flush) -> usize {
    let batch = match flush {
        Flush::Sync => BATCH_SYNC,
        Flush::Async => BATCH,
    };
    let fair = others_bytes.map(|bytes| usize::try_from(bytes / WORK_BYTES).unwrap_or(usize::MAX));
    fair.map_or(*batch.end(), |fair| fair.clamp(*batch.start(), *batch.end()))
}

/// A list of scheduled messages on its way: looked for in many turns of the thread.
pub struct Listing {
    topic: Option<u32>,
    limit: usize,
    scan: TimerScan,
    /// The list is as long as it gets.
    pub is_complete: bool,
    pub found: Vec<Listed>,
    /// Scheduled and not recalled, as far as the request names.
    pub total: u64,
    /// What a list of the others begins after; empty: there are none.
    pub next: String,
}

/// One scheduled message of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub lsn: Lsn,
    pub length: u32,
    pub topic: String,
    pub due_ms: u64,
    /// What recalls it.
    pub ticket: String,
}

impl Machine {
    /// Gives messages that are due their places: some in each turn, so that nobody waits for all.
    pub(super) fn fire_due(&mut self) {
        let others_bytes = self.others.take(self.now_ms);
        self.fire(batch_size(others_bytes, self.config.flush));
        self.upcoming.refill(&self.state.index, self.now_ms);
    }

    /// Has messages done with that were recalled and would have come by now, when none came after them
    /// that does it: retention keeps what is not done with.
    pub(super) fn pass_recalled(&mut self) {
        let (mut scan, mut waiting) = (TimerScan::new(self.state.timers.done()), Vec::new());
        let begun = scan.after();
        if !self.upcoming.is_over(self.now_ms) || self.state.index.timers_after(&mut scan, 1, &mut waiting).is_err() {
            return; // what is due has its turn first; an index that cannot be read is told of there
        }
        let is_past = scan.after() > begun && scan.after().due_ms <= self.now_ms;
        if is_past && self.has_any_room(EVENT_BYTES) {
            let done = TimersFired { due_ms: self.now_ms, lsn: u64::MAX, at_ms: self.now_ms, ..Default::default() };
            self.commit(Event::TimersFired(done));
        }
    }

    /// Tells how many messages wait, and how late they are.
    pub(super) fn report_scheduled(&self) {
        let late_ms = self.upcoming.first_due_ms().map_or(0, |due_ms| self.now_ms.saturating_sub(due_ms));
        metrics::scheduled(self.state.timers.pending_total(), late_ms);
    }

    fn fire(&mut self, max: usize) {
        let due = self.upcoming.due(self.now_ms, max);
        let Some(last) = due.last() else { return };
        let last = last.place;
        let (fired, dropped) = self.released(&due, last);
        // Without room they stay due, and have another turn.
        if self.make_room(fired.encoded_len() + EVENT_BYTES).is_err() {
            return;
        }
        self.upcoming.forget_to(last);
        metrics::fired(fired.released.len() as u64);
        self.commit(Event::TimersFired(fired));
        self.report_scheduled();
        if dropped > 0 {
            tracing::info!(messages = dropped, "scheduled messages are due and dropped: their topics were deleted");
        }
    }

    /// Places at the ends of their queues for those that have a queue, and how many have none.
    fn released(&self, due: &[Timer], last: TimerPlace) -> (TimersFired, u64) {
        let mut ends = HashMap::new();
        let mut released = Vec::with_capacity(due.len());
        let mut dropped = 0u64;
        for timer in due {
            let key = timer.message.queue;
            let topic = self.state.topics.get(key.topic);
            let Some(queue) = topic.and_then(|topic| topic.queues.get(key.queue as usize)) else {
                dropped += 1;
                continue;
            };
            let end = ends.entry(key).or_insert(queue.end);
            released.push(timer.released(*end));
            *end += 1;
        }
        let TimerPlace { due_ms, lsn } = last;
        (TimersFired { due_ms, lsn: lsn.0, at_ms: self.now_ms, released, done: due.len() as u64 }, dropped)
    }

    /// Takes a scheduled message back; says where its record is, and how many bytes it has.
    pub fn recall(&mut self, request: &RecallRequest) -> Result<(Lsn, u32), Error> {
        let ticket = self.recall_ticket(request)?;
        let place = TimerPlace { due_ms: ticket.due_ms, lsn: ticket.lsn };
        let was_recalled = self.state.index.is_recalled(place).map_err(|error| damaged(&error))?;
        if place <= self.state.timers.done() && !was_recalled {
            return Err(Error::new(Reason::TooLate, "ticket is of a message that is delivered already"));
        }
        let timer = self.state.index.timer(place).map_err(|error| damaged(&error))?;
        // The ticket is ours, but the log was cut since, or its topic was deleted.
        let timer = timer.filter(|timer| timer.message.queue.topic == ticket.topic);
        let timer = timer.ok_or_else(|| Error::new(Reason::TooLate, "ticket is of a message that is gone"))?;
        if !was_recalled {
            self.make_room(EVENT_BYTES)?;
            let TimerPlace { due_ms, lsn } = place;
            self.commit(Event::TimerRecalled(TimerRecalled { topic: ticket.topic, due_ms, lsn: lsn.0 }));
            self.upcoming.forget(place);
            metrics::recalled();
        } else if let Err(ReadError::Gone { .. } | ReadError::Retired { .. }) = self.reader.record_length(place.lsn) {
            return Err(Error::new(Reason::TooLate, "ticket is of a message that was recalled and is gone"));
        }
        Ok((place.lsn, timer.message.length))
    }

    /// A ticket that this store made, for a message of the topic that is named.
    fn recall_ticket(&self, request: &RecallRequest) -> Result<Ticket, Error> {
        let invalid = |why: &str| Err(Error::new(Reason::Invalid, format!("ticket is not valid: {why}")));
        let Some(ticket) = Ticket::open(&request.ticket, |id| self.state.handle_key(id)) else {
            return invalid("it was not made by this store");
        };
        if ticket.store_group != self.store_group {
            return invalid("it is of another store group");
        }
        if ticket.purpose != Purpose::Recall {
            return invalid("it is not of a scheduled message");
        }
        if self.was_lost(&ticket) {
            return Err(Error::new(Reason::TooLate, "ticket is of a message that a power failure took"));
        }
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?;
        if ticket.topic == topic.settings.id {
            return Ok(ticket);
        }
        match self.state.topics.get(ticket.topic) {
            Some(_) => invalid("it is of another topic"),
            None => Err(Error::new(Reason::TooLate, "ticket is of a message that is gone with its topic")),
        }
    }

    /// Begins a list of scheduled messages.
    pub fn start_listing(&self, request: &ListScheduledRequest) -> Result<Listing, Error> {
        let timers = &self.state.timers;
        let (topic, total) = match request.topic.as_str() {
            "" => (None, timers.pending_total()),
            name => {
                let topic = self.state.topics.named(name).ok_or_else(|| topic_not_found(name))?;
                (Some(topic.settings.id), timers.pending(topic.settings.id))
            }
        };
        let limit = if request.limit == 0 { LISTED_DEFAULT } else { request.limit.min(LISTED_MAX) } as usize;
        let after = parse_place(&request.after)?.unwrap_or_default();
        let scan = TimerScan::new(timers.done().max(after));
        let (is_complete, found, next) = (total == 0, Vec::new(), String::new());
        Ok(Listing { topic, limit, scan, is_complete, found, total, next })
    }

    /// Looks for more messages of a list.
    pub fn list_more(&self, mut listing: Listing) -> Result<Listing, Error> {
        let mut timers = Vec::new();
        let read = self.state.index.timers_after(&mut listing.scan, LOOKED_AT_MAX, &mut timers);
        listing.is_complete = !read.map_err(|error| damaged(&error))?;
        // What came due since the list was begun is on it no more.
        let done = self.state.timers.done();
        for timer in timers.iter().filter(|timer| timer.place > done) {
            if listing.topic.is_none_or(|topic| topic == timer.message.queue.topic) {
                listing.found.extend(self.listed(timer));
            }
            if listing.found.len() as u64 >= listing.total {
                listing.is_complete = true;
                break;
            }
            if listing.found.len() >= listing.limit {
                listing.is_complete = true;
                listing.next = place_text(timer.place);
                break;
            }
        }
        Ok(listing)
    }

    fn listed(&self, timer: &Timer) -> Option<Listed> {
        let Timer { place: TimerPlace { due_ms, lsn }, message } = *timer;
        let topic = self.state.topics.get(message.queue.topic)?;
        Some(Listed {
            lsn,
            length: message.length,
            topic: topic.settings.name.clone(),
            due_ms,
            ticket: self.ticket(message.queue.topic, lsn, Place::Scheduled(due_ms)).unwrap_or_default(),
        })
    }
}

/// A place in the order of coming due, as who asks for a list gives it back.
fn place_text(place: TimerPlace) -> String {
    format!("{}-{}", place.due_ms, place.lsn.0)
}

/// `None`: from the first one on.
fn parse_place(text: &str) -> Result<Option<TimerPlace>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let place = text
        .split_once('-')
        .and_then(|(due_ms, lsn)| Some(TimerPlace { due_ms: due_ms.parse().ok()?, lsn: Lsn(lsn.parse().ok()?) }));
    let sentence = || format!("after is {text:?}; give what the list before named as the next");
    place.map(Some).ok_or_else(|| Error::new(Reason::Invalid, sentence()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_send_keep_half_of_the_work() {
        assert_eq!(batch_size(None, Flush::Async), 256);
        assert_eq!(batch_size(Some(0), Flush::Async), 64);
        assert_eq!(batch_size(Some(100 * WORK_BYTES), Flush::Async), 100);
        assert_eq!(batch_size(Some(1 << 20), Flush::Async), 256);
        assert_eq!(batch_size(Some(0), Flush::Sync), 500);
        assert_eq!(batch_size(Some(1 << 20), Flush::Sync), 1000);
    }

    #[test]
    fn who_sent_a_moment_ago_is_expected_to_send_again() {
        let mut others = Others::default();
        assert_eq!(others.take(1_000), None);
        others.add(300);
        others.add(200);
        assert_eq!(others.take(1_000), Some(500));
        assert_eq!(others.take(1_000 + SOON_MS - 1), Some(0));
        assert_eq!(others.take(1_000 + SOON_MS), None);
    }
}
