//! What of a sealed segment is needed: records that something refers to. State says, on its own
//! thread, what refers to a segment; what that means is read from the segment's index run, which takes
//! longer, elsewhere. Nothing comes to be needed again, so the answer is never too small.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use centaur_apis::{
    log::{Control, control::Event},
    units::Lsn,
};
use thiserror::Error;

use super::{
    Machine,
    start::{OpenError, each_record},
};
use crate::{
    log::{self, SegmentInfo, record::Record},
    state::{
        index::{Foreign, Index, QueueKey, RunError, Stretch, TimerPlace},
        pop::Reader,
    },
};

/// Why it is not known what is needed of a segment.
#[derive(Debug, Error)]
pub enum NeededError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Read(#[from] log::ReadError),
}

/// What refers to the records of a segment: messages in their queues, in the hands of a group,
/// scheduled, or in a transaction.
#[derive(Debug)]
pub struct References {
    pub segment: SegmentInfo,
    /// Offsets in their queues, of messages that came into them in this segment.
    queued: Vec<(QueueKey, Range<u64>)>,
    /// The same that some group has in hand, before the starts of their queues.
    held: Vec<(QueueKey, u64)>,
    /// Records of messages that came into their queues later, and are there or in hand.
    released: Vec<Lsn>,
    undecided: Vec<(Lsn, u32)>,
    /// Scheduled messages behind this place wait, if their topics are among these.
    timers_done: TimerPlace,
    topics: HashSet<u32>,
}

/// What of a segment is needed.
pub struct Needed {
    /// Sorted by place, with their lengths.
    pub records: Vec<(Lsn, u32)>,
    pub bytes: u64,
}

impl References {
    /// Finds the records. `index` has the segment's run; others may be missing.
    pub fn find(self, index: &Index, reader: &log::Reader) -> Result<Needed, NeededError> {
        let here = self.segment.base..self.segment.end;
        let mut records: BTreeMap<Lsn, u32> = self.undecided.into_iter().collect();
        let mut entries = Vec::new();
        for (queue, offsets) in self.queued {
            entries.clear();
            let count = usize::try_from(offsets.end - offsets.start).unwrap_or(usize::MAX);
            index.range(queue, offsets.start, count, &mut entries)?;
            records.extend(entries.iter().map(|(_, entry)| (entry.lsn, entry.length)));
        }
        for (queue, offset) in self.held {
            records.extend(index.get(queue, offset)?.map(|entry| (entry.lsn, entry.length)));
        }
        // Of those that were stored before they came into their queues, some lie in older segments.
        records.retain(|lsn, _| here.contains(lsn));
        for lsn in self.released {
            records.insert(lsn, reader.record_length(lsn)?);
        }
        let mut timers = Vec::new();
        index.timers_in(here.start, self.timers_done, &mut timers)?;
        let known = timers.into_iter().filter(|timer| self.topics.contains(&timer.message.queue.topic));
        records.extend(known.map(|timer| (timer.place.lsn, timer.message.length)));
        let bytes = records.values().map(|length| u64::from(*length)).sum();
        Ok(Needed { records: records.into_iter().collect(), bytes })
    }
}

/// Adds to what is kept of a segment the records that say of messages what no message says itself: which
/// came into their queues here, were recalled or decided. Its index run is made again from them.
pub fn add_events(reader: &log::Reader, segment: &SegmentInfo, live: &mut Vec<(Lsn, u32)>) -> Result<(), OpenError> {
    let before = live.len();
    each_record(reader, segment, segment.base..segment.end, &mut |lsn, length, record| {
        let Record::Control(Control { event: Some(event) }) = record else { return };
        if matches!(event, Event::TimersFired(_) | Event::TimerRecalled(_) | Event::TransactionEnded(_)) {
            live.push((lsn, length));
        }
    })?;
    if live.len() > before {
        live.sort_unstable();
    }
    Ok(())
}

impl Machine {
    /// What refers to the records of a segment.
    pub(super) fn references(&self, segment: &SegmentInfo) -> Result<References, RunError> {
        let here = segment.base..segment.end;
        let timers = &self.state.timers;
        let stretches = self.state.index.stretches_in(segment.base);
        let queued = stretches.iter().map(|stretch| {
            let start = self.start_of(stretch.queue).clamp(stretch.first, stretch.end());
            (stretch.queue, start..stretch.end())
        });
        let held = self.held_before_starts(&stretches);
        let held = held.map(|(reader, queue, offset)| (QueueKey { topic: reader.topic, queue }, offset));
        let (waiting, _) = self.state.index.count_timers(segment.base, timers.done())?;
        let topics = (waiting > 0).then(|| self.state.topics.after("").map(|topic| topic.settings.id));
        Ok(References {
            segment: *segment,
            queued: queued.filter(|(_, offsets)| !offsets.is_empty()).collect(),
            held: held.collect(),
            released: self.released_from(here.clone())?,
            undecided: self.state.transactions.undecided_in(here).collect(),
            timers_done: timers.done(),
            topics: topics.into_iter().flatten().collect(),
        })
    }

    /// Messages of these stretches that are in no queue any more, and that some group has in hand.
    pub(super) fn held_before_starts<'a>(
        &'a self,
        stretches: &'a [Stretch],
    ) -> impl Iterator<Item = (Reader, u32, u64)> + 'a {
        let out = stretches.iter().filter(|stretch| self.start_of(stretch.queue) > stretch.first);
        out.flat_map(move |stretch| {
            let QueueKey { topic, queue } = stretch.queue;
            let offsets = stretch.first..stretch.end().min(self.start_of(stretch.queue));
            let groups = self.state.topics.get(topic).into_iter().flat_map(|topic| topic.readers.iter().copied());
            groups.flat_map(move |group| {
                let reader = Reader { group, topic };
                let cursor = self.state.pop.get(reader).and_then(|subscription| subscription.cursors.get(queue));
                let rows = cursor.map(|cursor| cursor.rows.range(offsets.clone()));
                rows.into_iter().flatten().map(move |(offset, _)| (reader, queue, *offset))
            })
        })
    }

    /// Records of messages that came into their queues in later segments, and are in them still or in
    /// the hands of a group.
    fn released_from(&self, lsns: Range<Lsn>) -> Result<Vec<Lsn>, RunError> {
        let mut released: Vec<Foreign> = Vec::new();
        self.state.index.foreign_into(lsns, &mut released)?;
        released.retain(|message| message.offset >= self.start_of(message.queue) || self.is_held(message));
        Ok(released.into_iter().map(|message| message.lsn).collect())
    }

    fn is_held(&self, message: &Foreign) -> bool {
        let QueueKey { topic, queue } = message.queue;
        let groups = self.state.topics.get(topic).into_iter().flat_map(|topic| topic.readers.iter());
        let mut subscriptions = groups.filter_map(|group| self.state.pop.get(Reader { group: *group, topic }));
        subscriptions.any(|subscription| subscription.row(queue, message.offset).is_some())
    }
}
