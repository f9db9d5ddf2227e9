//! Retention: what time and size take out of the queues, and what becomes of its segments. A queue
//! loses its oldest messages by a record. A segment goes when nothing in it is needed; before that
//! it is thinned when most of it is not.

use std::collections::BTreeMap;

use centaur_apis::{
    log::{QueueStart, SegmentRetired, control::Event, group::Backoff},
    units::Lsn,
};

use super::{Machine, consume::Lease, needed::Needed, origin::Cause};
use crate::{
    log::{self, DiskStage, Failure, SegmentInfo, Thinned, Thinning},
    metrics,
    state::{
        index::{QueueKey, Run, RunError, Stretch},
        snapshot_file,
    },
};

/// How often retention is looked at.
const CHECK_MS: u64 = 10_000;
/// The same when the disk is nearly full.
const HURRY_MS: u64 = 1_000;
/// How often a segment that holds too much to be thinned is looked at again: a part of its age,
/// within these.
const AGE_PART: u64 = 16;
const LOOK_MS_MIN: u64 = 10_000;
const LOOK_MS_MAX: u64 = 3_600_000;
/// Bytes of one queue's new start in the log, at most.
const QUEUE_START_BYTES: usize = 26;
/// A message that a group has not finished is dead-lettered so long after its retention ended, the
/// group's pauses between deliveries aside.
const ROW_GRACE_MS: u64 = 24 * 3_600_000;
/// Messages dead-lettered for their age in one turn; more have another one soon.
const BURIED_MAX: usize = 32;
/// Messages tried for that, should some of them not be readable.
const AGED_MAX: usize = 1024;
/// Segments looked at in one turn, fewer where they have messages of many queues, and segments
/// removed; and the time between two turns, which others have.
const LOOKS_MAX: usize = 16;
const STRETCHES_MAX: usize = 20_000;
const REMOVED_MAX: usize = 4;
const PAUSE_MS: u64 = 100;

/// The open segment is sealed when its first message is older than this part of the shortest time
/// that messages are kept: they go only with their whole segment. The time is no shorter than the
/// other, for each segment costs a file and a snapshot.
const ROLL_PART: u64 = 4;
const ROLL_MS_MIN: u64 = 15 * 60_000;

/// What is known of sealed segments.
#[derive(Debug, Default)]
pub(super) struct Retention {
    /// When the next look is due, store time, ms.
    pub due_ms: u64,
    /// By the base of the segment.
    looks: BTreeMap<Lsn, Look>,
    /// A segment that is looked at, thinned, or indexed again, in the background.
    busy_with: Option<Lsn>,
}

/// When a segment is worth a look, store time, ms.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Something in it may be too old.
    expiry_ms: u64,
    /// Less of it may be needed.
    thin_ms: u64,
    /// All of it was taken out of the queues, for its size.
    was_forced: bool,
    /// Records that were needed when they were looked for last; 0: they were not.
    records: u64,
    /// Nothing in it is needed, nor ever will be.
    is_unneeded: bool,
}

/// What counting says of a segment, without reading its entries.
struct Share {
    /// Its messages that are in their queues still, and those that were.
    queued: u64,
    entries: u64,
    /// Its scheduled messages that wait, and those that did.
    waiting: u64,
    timers: u64,
}

impl Retention {
    /// Has everything looked at again: topics keep their messages for other times now.
    pub(super) fn look_again(&mut self) {
        self.looks.clear();
        self.due_ms = 0;
    }
}

impl Machine {
    /// Takes what is too old out of the queues, and looks what that leaves of the segments.
    pub(super) fn keep_retention(&mut self) {
        let hurry = self.log.stage() != DiskStage::Ok;
        self.retention.due_ms = self.now_ms + if hurry { HURRY_MS } else { CHECK_MS };
        self.roll_in_time();
        self.pass_recalled();
        self.expire_queues();
        self.remove_unneeded();
        if self.retention.busy_with.is_none() {
            self.look_at_one();
        }
        let oldest = self.log.segments().first().map_or(Lsn(0), |segment| segment.base);
        self.retention.looks.retain(|base, _| *base >= oldest);
    }

    /// Begins another segment when the open one has been open for so long that its messages would
    /// be kept much too long with it.
    fn roll_in_time(&mut self) {
        let span_ms = (self.shortest_retention() / ROLL_PART).max(ROLL_MS_MIN);
        let is_old =
            |open: &SegmentInfo| open.base < open.end && open.first_store_ms.saturating_add(span_ms) < self.now_ms;
        let is_due = self.log.segments().last().is_some_and(is_old);
        if is_due && self.log.stage() == DiskStage::Ok && self.has_messages_that_stay() {
            self.write_block();
            self.roll(true);
        }
    }

    /// Whether there are messages that retention cannot remove yet. Sealing a segment without any
    /// would go on for ever, for removing one leaves a record.
    fn has_messages_that_stay(&self) -> bool {
        let finished = self.finished_segments().len();
        self.state.index.open_bytes() > 0
            || self.log.segments()[finished..].iter().any(|one| !self.state.index.stretches_in(one.base).is_empty())
    }

    /// Moves the starts of queues behind messages that are older than their topics keep them, or
    /// that the log has no room for.
    fn expire_queues(&mut self) {
        let mut left = self.log.segments().iter().map(size).sum::<u64>();
        let (mut looks, mut seen) = (0, 0);
        let finished = self.finished_segments().len();
        for (at, segment) in self.log.segments().into_iter().filter(|segment| segment.sealed).enumerate() {
            // A segment that a start may read again frees nothing yet.
            let is_forced = at < finished && self.config.retention_bytes.is_some_and(|max| left > max);
            left -= size(&segment);
            let look = self.retention.looks.get(&segment.base).copied().unwrap_or_default();
            if look.expiry_ms > self.now_ms && (look.was_forced || !is_forced) {
                continue;
            }
            if looks == LOOKS_MAX || seen >= STRETCHES_MAX {
                self.retention.due_ms = self.now_ms + PAUSE_MS;
                return;
            }
            looks += 1;
            let stretches = self.state.index.stretches_in(segment.base);
            seen += stretches.len();
            let starts = self.starts_behind(&segment, &stretches, is_forced);
            if !starts.is_empty() {
                if !self.has_any_room((starts.len() + 4) * QUEUE_START_BYTES) {
                    tracing::error!(base_lsn = segment.base.0, "disk is too full for a note of what retention takes");
                    return;
                }
                self.commit(Event::SegmentRetired(SegmentRetired { end_lsn: 0, starts }));
            }
            let expiry_ms = self.next_expiry(&segment);
            let was_forced = look.was_forced || is_forced;
            let look = Look { expiry_ms, thin_ms: self.now_ms, was_forced, ..look };
            self.retention.looks.insert(segment.base, look);
        }
    }

    /// When something in a segment may be too old next, ms.
    fn next_expiry(&self, segment: &SegmentInfo) -> u64 {
        let spans = self.state.topics.retentions().chain([self.config.retention_ms]);
        let times = spans.map(|span_ms| segment.last_store_ms.saturating_add(span_ms).saturating_add(1));
        times.filter(|at| *at > self.now_ms).min().unwrap_or(u64::MAX)
    }

    /// Sealed segments that no start needs to read again, oldest first.
    fn finished_segments(&self) -> Vec<SegmentInfo> {
        // A disk that fills up is worse than a start that finds its one snapshot damaged.
        let is_pressed = matches!(self.log.stage(), DiskStage::Refusing | DiskStage::Full);
        let newest = || snapshot_file::kept(&self.config.data_dir).first().copied();
        let replay_from = match self.housekeeper.replay_from() {
            None if is_pressed => newest(),
            known => known,
        };
        let replay_from = replay_from.unwrap_or(Lsn(0));
        let finished = |segment: &SegmentInfo| segment.sealed && segment.end <= replay_from;
        self.log.segments().into_iter().take_while(finished).collect()
    }

    fn starts_behind(&self, segment: &SegmentInfo, stretches: &[Stretch], is_forced: bool) -> Vec<QueueStart> {
        let expired = |stretch: &&Stretch| {
            let Some(topic) = self.state.topics.get(stretch.queue.topic) else { return false };
            let Some(queue) = topic.queues.get(stretch.queue.queue as usize) else { return false };
            let retention_ms = self.retention_of(stretch.queue.topic);
            let too_old = segment.last_store_ms.saturating_add(retention_ms) < self.now_ms;
            (is_forced || too_old) && queue.start < stretch.end()
        };
        let start = |stretch: &Stretch| QueueStart {
            topic: stretch.queue.topic,
            queue: stretch.queue.queue,
            offset: stretch.end(),
        };
        stretches.iter().filter(expired).map(start).collect()
    }

    /// How long a topic keeps its messages, ms.
    fn retention_of(&self, topic: u32) -> u64 {
        let own = self.state.topics.get(topic).map_or(0, |topic| topic.settings.retention_ms);
        if own == 0 { self.config.retention_ms } else { own }
    }

    /// The shortest time that any messages are kept, ms.
    fn shortest_retention(&self) -> u64 {
        self.state.topics.retentions().fold(self.config.retention_ms, u64::min)
    }

    /// Removes the oldest segments as long as nothing in them is needed.
    fn remove_unneeded(&mut self) {
        for _ in 0..REMOVED_MAX {
            let Some(oldest) = self.finished_segments().first().copied() else { return };
            let is_unneeded = self.retention.looks.get(&oldest.base).is_some_and(|look| look.is_unneeded);
            if !is_unneeded || self.retention.busy_with == Some(oldest.base) || !self.remove(&oldest) {
                return;
            }
        }
        self.retention.due_ms = self.now_ms + PAUSE_MS; // there may be more
    }

    /// How much of a segment is needed, by counting.
    fn share(&self, segment: &SegmentInfo, stretches: &[Stretch]) -> Result<Share, RunError> {
        let mut foreign = Vec::new();
        self.state.index.foreign_into(segment.base..segment.end, &mut foreign)?;
        let elsewhere = foreign.iter().filter(|message| message.offset >= self.start_of(message.queue)).count() as u64;
        let (waiting, timers) = self.state.index.count_timers(segment.base, self.state.timers.done())?;
        Ok(Share {
            queued: stretches.iter().map(|stretch| self.queued(stretch)).sum::<u64>() + elsewhere,
            entries: stretches.iter().map(|stretch| u64::from(stretch.count)).sum(),
            // Some may be of topics that are gone, or recalled.
            waiting: waiting.min(self.state.timers.pending_total()),
            timers,
        })
    }

    /// How many messages of a stretch are in their queue still.
    fn queued(&self, stretch: &Stretch) -> u64 {
        stretch.end().saturating_sub(self.start_of(stretch.queue).max(stretch.first))
    }

    /// The first offset that a queue has; none is large enough when there is no such queue.
    pub(super) fn start_of(&self, key: QueueKey) -> u64 {
        let queues = self.state.topics.get(key.topic).map(|topic| &topic.queues);
        queues.and_then(|queues| queues.get(key.queue as usize)).map_or(u64::MAX, |queue| queue.start)
    }

    /// Removes one segment; whether it is gone. The record comes first and is on disk before the
    /// files go: a crash leaves files that the next start removes, never a queue that points at
    /// nothing.
    fn remove(&mut self, segment: &SegmentInfo) -> bool {
        if !self.has_any_room(4 * QUEUE_START_BYTES) {
            tracing::error!(base_lsn = segment.base.0, "disk is too full to note that a segment goes; free some space");
            return false;
        }
        self.commit(Event::SegmentRetired(SegmentRetired { end_lsn: segment.end.0, starts: Vec::new() }));
        self.write_block();
        self.sync();
        if !self.can_write() {
            return false;
        }
        self.state.index.remove_oldest(segment.base);
        match self.log.remove_oldest(segment.base) {
            Ok(()) => {
                metrics::segment_removed();
                tracing::info!(base_lsn = segment.base.0, end_lsn = segment.end.0, "segment removed");
                true
            }
            // It stays the oldest one and would be next again: it has its turn at the next look.
            Err(error) => {
                tracing::error!(base_lsn = segment.base.0, %error, "segment that is not needed cannot be removed");
                false
            }
        }
    }

    /// Has what is needed of the first segment that is mostly not needed found in the background.
    fn look_at_one(&mut self) {
        // What was taken out of queues a moment ago must be on disk before its records go.
        self.write_block();
        self.sync();
        if !self.can_write() {
            return;
        }
        let (mut looks, mut seen) = (0, 0);
        let segments = self.finished_segments();
        let oldest = segments.first().map(|segment| segment.base);
        for segment in segments {
            // One of which nothing is needed goes when it is the oldest, and is made small until then.
            let is_settled = segment.thinned || Some(segment.base) == oldest;
            let is_due = |look: &&mut Look| look.thin_ms <= self.now_ms && !(look.is_unneeded && is_settled);
            let Some(look) = self.retention.looks.get_mut(&segment.base).filter(is_due) else { continue };
            if looks == LOOKS_MAX || seen >= STRETCHES_MAX {
                self.retention.due_ms = self.now_ms + PAUSE_MS;
                return;
            }
            looks += 1;
            let age_ms = self.now_ms.saturating_sub(segment.last_store_ms);
            look.thin_ms = self.now_ms + (age_ms / AGE_PART).clamp(LOOK_MS_MIN, LOOK_MS_MAX);
            let stretches = self.state.index.stretches_in(segment.base);
            seen += stretches.len();
            if self.bury_aged(&segment, &stretches) > 0 {
                // There may be more, and what was moved is not on disk yet: the rest of the look has
                // its turn when nothing is left to be moved.
                self.look_at_once_more(segment.base);
                return;
            }
            // Most segments are told by counting.
            let references = match self.is_mostly_needed(&segment, &stretches) {
                Ok(true) => continue,
                Ok(false) => self.references(&segment),
                Err(error) => Err(error),
            };
            match references {
                Ok(references) if self.state.index.has_run(segment.base) => {
                    self.retention.busy_with = Some(segment.base);
                    self.housekeeper.find_needed(self.reader.clone(), references);
                    return;
                }
                // Its run cannot be written, maybe for want of the space that it takes.
                Ok(references) => match references.find(&self.state.index, &self.reader) {
                    Ok(needed) => self.note_needed(segment.base, &needed),
                    Err(error) => unreadable(&segment, &error),
                },
                Err(error) => unreadable(&segment, &error),
            }
        }
    }

    fn look_at_once_more(&mut self, base: Lsn) {
        self.retention.due_ms = self.now_ms + PAUSE_MS;
        if let Some(look) = self.retention.looks.get_mut(&base) {
            look.thin_ms = self.now_ms;
        }
    }

    /// Whether a segment holds mostly what is needed, as far as counting tells.
    fn is_mostly_needed(&self, segment: &SegmentInfo, stretches: &[Stretch]) -> Result<bool, RunError> {
        if size(segment) * 2 <= self.taken_by(segment) {
            return Ok(false); // it was sealed early
        }
        let Share { queued, entries, waiting, timers } = self.share(segment, stretches)?;
        let known = self.retention.looks.get(&segment.base).filter(|look| segment.thinned && look.records > 0);
        let total = known.map_or(entries + timers, |look| look.records);
        Ok((queued + waiting) * 2 > total)
    }

    /// Has a segment removed or rewritten, now that it is known what is needed of it. None: that could
    /// not be found.
    pub(super) fn weigh(&mut self, base: Lsn, needed: Option<Needed>) {
        self.retention.busy_with = None;
        self.retention.due_ms = self.now_ms; // it may go, and another one may be waiting
        let Some(needed) = needed else { return };
        self.note_needed(base, &needed);
        let segments = self.finished_segments();
        let Some(at) = segments.iter().position(|segment| segment.base == base) else { return };
        let Needed { records, bytes } = needed;
        let is_going = at == 0 && records.is_empty();
        let is_smaller = log::thinned_bytes(records.len() as u64, bytes) * 2 <= self.taken_by(&segments[at]);
        if is_smaller && !is_going {
            tracing::info!(base_lsn = base.0, records = records.len(), "segment is being thinned");
            self.retention.busy_with = Some(base);
            self.housekeeper.thin(self.reader.clone(), segments[at], Thinning { base, live: records });
        }
    }

    /// Bytes that a segment takes. The empty part of its file counts when not all in it is young: until
    /// then it stays whole, for state can be made from it again.
    fn taken_by(&self, segment: &SegmentInfo) -> u64 {
        let is_young = segment.last_store_ms.saturating_add(self.shortest_retention()) >= self.now_ms;
        if is_young { size(segment) } else { segment.bytes_on_disk }
    }

    fn note_needed(&mut self, base: Lsn, needed: &Needed) {
        if let Some(look) = self.retention.looks.get_mut(&base) {
            look.records = needed.records.len() as u64;
            look.is_unneeded = needed.records.is_empty();
        }
    }

    /// Takes over what the background made of a segment, none when it could not, and has its index run
    /// made again: most of what that has is gone.
    pub(super) fn adopt_thinned(&mut self, base: Lsn, thinned: Option<&Thinned>) {
        self.retention.busy_with = None;
        let Some(thinned) = thinned else { return };
        self.retention.due_ms = self.now_ms; // another one may be waiting
        match self.log.adopt_thinned(thinned) {
            Ok(()) => metrics::segment_thinned(),
            Err(Failure::Removal { path, error }) => {
                tracing::warn!(path = %path.display(), %error, "file of a thinned segment stays until the next start");
            }
            Err(failure) => {
                tracing::error!(base_lsn = base.0, error = %failure, "thinned segment cannot be used");
                return;
            }
        }
        if let Some(segment) = self.log.segments().into_iter().find(|segment| segment.base == base) {
            self.retention.busy_with = Some(base);
            self.housekeeper.reindex(self.reader.clone(), segment);
        }
    }

    /// Takes over the index run that was made again for a thinned segment; none when it could not be.
    pub(super) fn adopt_smaller(&mut self, run: Option<Run>) {
        self.retention.busy_with = None;
        self.retention.due_ms = self.now_ms; // another one may be waiting
        if let Some(run) = run {
            self.state.index.replace(run);
        }
    }

    /// Moves messages to the dead-letter topics that are in no queue any more and that their groups
    /// had every chance to finish; says how many.
    fn bury_aged(&mut self, segment: &SegmentInfo, stretches: &[Stretch]) -> usize {
        let mut aged = Vec::new();
        for (reader, queue, offset) in self.held_before_starts(stretches) {
            let pauses_ms = self.pauses_of(reader.group);
            let span_ms = self.retention_of(reader.topic).saturating_add(pauses_ms).saturating_add(ROW_GRACE_MS);
            let is_aged = |stored_ms: u64| stored_ms.saturating_add(span_ms) < self.now_ms;
            let row = self.state.pop.get(reader).and_then(|subscription| subscription.row(queue, offset));
            if !is_aged(segment.first_store_ms) || row.is_none_or(|row| row.visible_at_ms > self.now_ms) {
                continue;
            }
            let entry = self.state.index.get(QueueKey { topic: reader.topic, queue }, offset);
            if entry.is_ok_and(|entry| entry.is_some_and(|entry| is_aged(entry.stored_ms))) {
                aged.push(Lease { reader, queue, offset });
            }
            if aged.len() == AGED_MAX {
                break;
            }
        }
        // One that cannot be moved now has its turn at a later look.
        let mut bury = |lease: &Lease| self.check_space().and_then(|()| self.bury(*lease, Cause::Aged)).is_ok();
        aged.iter().filter(|lease| bury(lease)).take(BURIED_MAX).count()
    }

    /// The pauses of a group between the deliveries of one message, all of them together, ms.
    fn pauses_of(&self, group: u32) -> u64 {
        let Some(group) = self.state.groups.get(group) else { return 0 };
        match &group.backoff {
            Some(Backoff::Customized(steps)) => steps.next_ms.iter().fold(0, |sum, ms| sum.saturating_add(*ms)),
            Some(Backoff::Exponential(steps)) => steps.max_ms.saturating_mul(u64::from(group.max_attempts.min(64))),
            None => 0,
        }
    }
}

fn unreadable(segment: &SegmentInfo, error: &dyn std::fmt::Display) {
    tracing::error!(base_lsn = segment.base.0, %error, "segment cannot be looked at for retention");
}

/// Bytes of log that a segment stands for, or that are left of it.
fn size(segment: &SegmentInfo) -> u64 {
    if segment.thinned { segment.bytes_on_disk } else { segment.end.0 - segment.base.0 }
}
