//! Places in queues: reading from one without a lease, asking for one, and putting a group at one.

use std::collections::HashMap;

use centaur_apis::{
    log::{CursorsSet, Position, control::Event},
    store::{
        Error, GetOffsetRequest, GetOffsetResponse, QueryOffsetRequest, QueryOffsetResponse, ReadRequest, Reason,
        ResetGroupRequest, ResetGroupResponse, ResetQueue, query_offset_request, reset_group_request::To,
    },
};
use tokio::sync::watch;

use super::{
    Found, Machine, catalog,
    consume::{POSITION_BYTES, damaged},
    produce::topic_not_found,
};
use crate::{
    filter::Filter,
    metrics,
    state::{
        index::QueueKey,
        pop::{Cursor, Hold, Reader, Row},
        topics::Topic,
    },
};

/// Messages looked at for one answer without leases.
const LOOKED_AT_MAX: usize = 256;
/// Reads of one topic that may wait for messages.
const WATCHERS_MAX: usize = 32_768;

/// What a read without leases found.
pub struct Page {
    /// Messages that may match, in order; their text is not compared yet.
    pub found: Vec<Found>,
    /// Everything before it was looked at.
    pub next_offset: u64,
    /// There is more to look at.
    pub more: bool,
    pub filter: Filter,
    /// Changes when messages come into the topic.
    pub arrivals: watch::Receiver<()>,
}

/// Who waits for messages without a lease, by topic.
#[derive(Default)]
pub(super) struct Watchers(HashMap<u32, watch::Sender<()>>);

impl Watchers {
    /// Tells those that wait for messages of a topic.
    pub(super) fn wake(&mut self, topic: u32) {
        if self.0.is_empty() {
            return;
        }
        let Some(watchers) = self.0.get(&topic) else { return };
        if watchers.send(()).is_err() {
            self.0.remove(&topic); // all have gone
        }
    }

    /// Tells those that wait for messages of a topic that there will be none: it is gone.
    pub(super) fn forget(&mut self, topic: u32) {
        self.0.remove(&topic);
    }

    fn watch(&mut self, topic: u32) -> Result<watch::Receiver<()>, Error> {
        let watchers = self.0.entry(topic).or_default();
        if watchers.receiver_count() >= WATCHERS_MAX {
            metrics::refused_busy();
            return Err(Error::new(Reason::Busy, "too many reads are waiting for this topic; read again later"));
        }
        Ok(watchers.subscribe())
    }
}

impl Machine {
    /// Looks at the messages of one queue from an offset on.
    pub fn read_queue(&mut self, request: &ReadRequest) -> Result<Page, Error> {
        let filter = self.filters.parse(request.filter.as_ref())?;
        if let Some(group) = self.state.groups.named(&request.group).filter(|group| group.consume_disabled) {
            return Err(catalog::may_not_consume(&group.name));
        }
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?;
        if !topic.is_readable() {
            return Err(catalog::gives_no_messages(&topic.settings));
        }
        let ends = *topic.queues.get(request.queue as usize).ok_or_else(|| no_queue(topic, request.queue))?;
        if request.offset > ends.end {
            let sentence = format!("offset is {}; the queue ends at {}", request.offset, ends.end);
            return Err(Error::new(Reason::IllegalOffset, sentence));
        }
        let key = QueueKey { topic: topic.settings.id, queue: request.queue };
        let arrivals = self.watchers.watch(key.topic)?;
        let from = request.offset.max(ends.start);
        let max = match &filter {
            Filter::All => (request.messages_max as usize).clamp(1, LOOKED_AT_MAX),
            filter => (LOOKED_AT_MAX / filter.cost()).max(1),
        };
        let mut entries = Vec::new();
        self.state.index.range(key, from, max, &mut entries).map_err(|error| damaged(&error))?;
        // A gap at the end, where retention has been, is behind whoever reads on.
        let next_offset =
            if entries.len() < max { ends.end } else { entries.last().map_or(ends.end, |(at, _)| at + 1) };
        let may_match = entries.into_iter().filter(|(_, entry)| filter.may_match(entry.tag_hash));
        let found = may_match.map(|(offset, entry)| Found::new(key.queue, offset, entry)).collect();
        Ok(Page { found, next_offset, more: next_offset < ends.end, filter, arrivals })
    }

    /// Where a queue begins or ends, or what was stored at a time.
    pub fn query_offset(&mut self, request: &QueryOffsetRequest) -> Result<QueryOffsetResponse, Error> {
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?;
        topic.queues.get(request.queue as usize).ok_or_else(|| no_queue(topic, request.queue))?;
        let key = QueueKey { topic: topic.settings.id, queue: request.queue };
        let to = match request.at {
            Some(query_offset_request::At::Earliest(_)) => To::Earliest(true),
            Some(query_offset_request::At::Latest(_)) | None => To::Latest(true),
            Some(query_offset_request::At::FromMs(ms)) => To::FromMs(ms),
        };
        Ok(QueryOffsetResponse { offset: self.place_in(key, &to, false)? })
    }

    /// A group's place in one queue: everything before it is finished.
    pub fn get_offset(&self, request: &GetOffsetRequest) -> Result<GetOffsetResponse, Error> {
        let group = self.state.groups.named(&request.group);
        let group = group.ok_or_else(|| catalog::group_not_found(&request.group))?.id;
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?;
        let ends = topic.queues.get(request.queue as usize).ok_or_else(|| no_queue(topic, request.queue))?;
        let reader = Reader { group, topic: topic.settings.id };
        let subscription = self.state.pop.get(reader).filter(|subscription| subscription.started);
        let cursor = subscription.and_then(|subscription| subscription.cursors.get(request.queue));
        let cursor = cursor.ok_or_else(|| {
            let sentence = format!("group {:?} has no position in topic {:?}", request.group, request.topic);
            Error::new(Reason::OffsetNotFound, sentence)
        })?;
        Ok(GetOffsetResponse { offset: cursor.floor().max(ends.start) })
    }

    /// Puts a group somewhere else in one queue, one topic or all it reads. What it had in hand is
    /// void, and the next delivery begins there.
    pub fn reset_group(&mut self, request: &ResetGroupRequest) -> Result<ResetGroupResponse, Error> {
        let to = request.to.as_ref().ok_or_else(|| {
            Error::new(Reason::Invalid, "reset names no place: give earliest, latest, a time or an offset")
        })?;
        let group = self.group_to_reset(request)?;
        let readers: Vec<Reader> = match request.topic.as_str() {
            "" => self.state.pop.of_group(group).map(|(reader, _)| reader).collect(),
            name => {
                let topic = self.state.topics.named(name).ok_or_else(|| topic_not_found(name))?;
                if let Some(queue) = request.queue.filter(|queue| *queue as usize >= topic.queues.len()) {
                    return Err(no_queue(topic, queue));
                }
                vec![Reader { group, topic: topic.settings.id }]
            }
        };
        for reader in &readers {
            self.lite_line(*reader, 0)?;
        }
        // All places are known before the first group is moved: nothing is half done.
        let mut moves = Vec::with_capacity(readers.len());
        for reader in readers {
            moves.push((reader, self.moves(reader, request, to)?));
        }
        let mut queues = Vec::new();
        for (reader, moved) in moves {
            let targets: Vec<(u32, u64)> = moved.iter().map(|queue| (queue.queue, queue.after)).collect();
            queues.extend(moved);
            if !request.dry_run {
                self.put_cursors(reader, targets)?;
            }
        }
        if !request.dry_run {
            tracing::info!(group = request.group, topic = request.topic, queues = queues.len(), "group reset");
        }
        Ok(ResetGroupResponse { queues })
    }

    fn group_to_reset(&mut self, request: &ResetGroupRequest) -> Result<u32, Error> {
        match self.state.groups.named(&request.group) {
            Some(group) => Ok(group.id),
            None if request.create_group && !request.dry_run => self.find_or_create_group(&request.group, true),
            None => Err(catalog::group_not_found(&request.group)),
        }
    }

    /// What a reset does to the queues of one topic.
    fn moves(&mut self, reader: Reader, request: &ResetGroupRequest, to: &To) -> Result<Vec<ResetQueue>, Error> {
        let Some(topic) = self.state.topics.get(reader.topic) else { return Ok(Vec::new()) };
        let name = topic.settings.name.clone();
        let count = u32::try_from(topic.queues.len()).unwrap_or(u32::MAX);
        let queues: Vec<u32> = match request.queue {
            Some(queue) => (queue..count).take(1).collect(),
            // Of lite topics, those that the group has a place in.
            None if topic.is_lite() => {
                let subscription = self.state.pop.get(reader).into_iter();
                subscription.flat_map(|subscription| &subscription.cursors).map(|(queue, _)| queue).collect()
            }
            None => (0..count).collect(),
        };
        let mut moved = Vec::with_capacity(queues.len());
        for queue in queues {
            let after = self.place_in(QueueKey { topic: reader.topic, queue }, to, request.strict)?;
            moved.push(ResetQueue { topic: name.clone(), ..self.moved(reader, queue, after) });
        }
        Ok(moved)
    }

    /// What it means for a group that its cursor in a queue is put at an offset.
    fn moved(&self, reader: Reader, queue: u32, after: u64) -> ResetQueue {
        let ends = self.state.topics.get(reader.topic).and_then(|topic| topic.queues.get(queue as usize));
        let start = ends.map_or(0, |ends| ends.start);
        let unread = Cursor::default();
        let cursor = self.state.pop.get(reader).and_then(|subscription| subscription.cursors.get(queue));
        let cursor = cursor.unwrap_or(&unread);
        let in_hand = |row: &&Row| row.hold == Hold::Leased && row.visible_at_ms > self.now_ms;
        let unfinished = cursor.rows.range(..after).count() as u64;
        ResetQueue {
            topic: String::new(),
            queue,
            before: cursor.floor().max(start),
            after,
            released: cursor.rows.values().filter(in_hand).count() as u64,
            again: cursor.fetch.saturating_sub(after),
            skipped: unfinished + after.saturating_sub(cursor.fetch.max(start)),
        }
    }

    /// Puts the cursors of a subscription at offsets; one that never read begins as usual elsewhere.
    pub(super) fn put_cursors(&mut self, reader: Reader, targets: Vec<(u32, u64)>) -> Result<(), Error> {
        self.start_reading(reader)?;
        self.make_room(targets.len() * POSITION_BYTES)?;
        let positions = targets.into_iter().map(|(queue, offset)| Position { queue, offset }).collect();
        self.commit(Event::CursorsSet(CursorsSet { group: reader.group, topic: reader.topic, positions }));
        self.runnable.insert(reader);
        Ok(())
    }

    /// The offset that a place means in a queue. `strict`: an offset outside of it is an error.
    fn place_in(&mut self, key: QueueKey, to: &To, strict: bool) -> Result<u64, Error> {
        let queue = self.state.topics.get(key.topic).and_then(|topic| topic.queues.get(key.queue as usize));
        let ends = queue.copied().unwrap_or_default();
        Ok(match *to {
            To::Earliest(_) => ends.start,
            To::Latest(_) => ends.end,
            To::FromMs(ms) => {
                let first = self.state.index.first_at_or_after(key, ms).map_err(|error| damaged(&error))?;
                first.unwrap_or(ends.end).clamp(ends.start, ends.end)
            }
            To::Offset(offset) if strict && !(ends.start..=ends.end).contains(&offset) => {
                let sentence = format!("offset is {offset}; queue {} has {} to {}", key.queue, ends.start, ends.end);
                return Err(Error::new(Reason::IllegalOffset, sentence));
            }
            To::Offset(offset) => offset.clamp(ends.start, ends.end),
        })
    }
}

fn no_queue(topic: &Topic, queue: u32) -> Error {
    let (name, queues) = (&topic.settings.name, topic.queues.len());
    Error::new(Reason::Invalid, format!("topic {name:?} has {queues} queues, and no queue {queue}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_a_topic_that_is_gone_and_whoever_waits_is_told() {
        let mut watchers = Watchers::default();
        let waiting = watchers.watch(1).expect("room");
        watchers.forget(1);
        assert!(watchers.0.is_empty() && waiting.has_changed().is_err());
    }
}
