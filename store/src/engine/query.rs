//! Questions that change nothing: what there is, how far groups are, which messages match.

use centaur_apis::{
    fields::{self, system},
    hash64,
    store::{
        Backlog, DescribeGroupRequest, DescribeGroupResponse, DescribeResponse, DescribeTopicRequest,
        DescribeTopicResponse, Error, GetGroupRequest, GetGroupResponse, GroupSummary, ListGroupsRequest,
        ListGroupsResponse, ListTopicsRequest, ListTopicsResponse, QueryMessagesRequest, QueueProgress, QueueState,
        Reason, TopicProgress, TopicSummary, query_messages_request::By,
    },
    units::Lsn,
};

use super::{Machine, catalog::group_not_found, consume::is_system, produce::topic_not_found};
use crate::{
    log::{DiskStage, record::Message},
    state::{
        index::{Entry, QueueKey},
        pop::{Cursor, Hold, Reader, Subscription},
        topics::{Queue, Topic},
    },
};

/// Names of one answer, unless fewer are asked for.
const LIST_DEFAULT: usize = 1000;
/// Messages of one answer, unless another number is asked for.
const MESSAGES_DEFAULT: u32 = 32;
const MESSAGES_MAX: u32 = 1000;
/// Lite topics of one group's progress; the sum is of all.
const LITE_TOPICS_LISTED: usize = 1000;
/// Look-up hits that are read to compare their text.
const HITS_MAX: usize = 10_000;

/// Where one message of an answer is.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub lsn: Lsn,
    pub length: u32,
    pub queue: u32,
    pub offset: u64,
    /// Store time, ms: when the message came into its queue.
    pub stored_ms: u64,
}

impl Found {
    pub(super) fn new(queue: u32, offset: u64, entry: Entry) -> Self {
        Self { lsn: entry.lsn, length: entry.length, queue, offset, stored_ms: entry.stored_ms }
    }
}

/// What a query found without reading the log.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These messages. `complete`: there are no others.
    Places { found: Vec<Found>, complete: bool },
    /// Messages that may have the text, newest first; it has to be compared.
    Hits(Hits),
}

/// Places under a look-up hash, and what a message there must have.
#[derive(Clone, Debug)]
pub struct Hits {
    pub lsns: Vec<Lsn>,
    pub topic: u32,
    pub text: String,
    /// The field of the system properties it must stand in.
    pub field: u32,
    /// Messages wanted.
    pub limit: usize,
    /// There are more hits than these.
    pub is_cut: bool,
}

impl Hits {
    /// Whether a message is one of those that are looked for.
    pub fn matches(&self, message: &Message) -> bool {
        message.topic == self.topic && fields::texts(&message.properties, self.field).any(|value| value == self.text)
    }
}

impl Machine {
    pub fn list_topics(&self, request: &ListTopicsRequest) -> ListTopicsResponse {
        let wanted = |topic: &&Topic| request.include_system || !is_system(&topic.settings.name);
        let summary = |topic: &Topic| TopicSummary {
            topic: Some(topic.settings.clone()),
            messages: topic.messages(),
            last_stored_ms: topic.last_stored_ms(),
        };
        ListTopicsResponse {
            topics: self
                .state
                .topics
                .after(&request.after)
                .filter(wanted)
                .take(limit(request.limit))
                .map(summary)
                .collect(),
            total: self.state.topics.after("").filter(wanted).count() as u64,
        }
    }

    pub fn describe_topic(&self, request: &DescribeTopicRequest) -> Result<DescribeTopicResponse, Error> {
        let topic = self.state.topics.named(&request.name).ok_or_else(|| topic_not_found(&request.name))?;
        let queue_state = |(queue, ends): (u32, &Queue)| QueueState {
            queue,
            start: ends.start,
            end: ends.end,
            last_stored_ms: ends.last_stored_ms,
        };
        let readers = topic.readers.iter().filter_map(|group| self.state.groups.get(*group));
        // Lite topics are too many for one answer: they are listed by pages.
        let queues = if topic.is_lite() { &[] } else { topic.queues.as_slice() };
        Ok(DescribeTopicResponse {
            topic: Some(topic.settings.clone()),
            queues: (0..).zip(queues).map(queue_state).collect(),
            groups: readers.map(|group| group.name.clone()).collect(),
        })
    }

    pub fn list_groups(&mut self, request: &ListGroupsRequest) -> ListGroupsResponse {
        let groups: Vec<_> = self.state.groups.after(&request.after).take(limit(request.limit)).cloned().collect();
        let summary = |group: centaur_apis::log::Group| {
            let backlog = self.group_backlog(group.id);
            GroupSummary { group: Some(group), backlog: Some(backlog) }
        };
        ListGroupsResponse { groups: groups.into_iter().map(summary).collect(), total: self.state.groups.len() as u64 }
    }

    pub fn get_group(&self, request: &GetGroupRequest) -> Result<GetGroupResponse, Error> {
        let group = self.state.groups.named(&request.name).ok_or_else(|| group_not_found(&request.name))?;
        Ok(GetGroupResponse { group: Some(group.clone()) })
    }

    pub fn describe_group(&mut self, request: &DescribeGroupRequest) -> Result<DescribeGroupResponse, Error> {
        let group = self.state.groups.named(&request.name).ok_or_else(|| group_not_found(&request.name))?.clone();
        let readers: Vec<Reader> = self.state.pop.of_group(group.id).map(|(reader, _)| reader).collect();
        let topics = readers.into_iter().filter_map(|reader| self.progress(reader)).collect();
        Ok(DescribeGroupResponse { group: Some(group), topics, clients: Vec::new() })
    }

    pub fn describe(&self) -> DescribeResponse {
        let stage = match self.log.stage() {
            _ if !self.can_write() => "full",
            DiskStage::Ok => "ok",
            DiskStage::Tight => "tight",
            DiskStage::Refusing => "refusing",
            DiskStage::Full => "full",
        };
        DescribeResponse {
            store_group: self.config.store_group.clone(),
            leader: true,
            topics: self.state.topics.len() as u64,
            groups: self.state.groups.len() as u64,
            messages: self.state.topics.messages(),
            log_start_lsn: self.state.start.0,
            written_lsn: self.log.written().0,
            durable_lsn: self.log.durable().0,
            confirmed_lsn: self.confirmed.0,
            store_time_ms: self.now_ms,
            disk_stage: stage.to_owned(),
            failure: self.failure().unwrap_or_default().to_owned(),
            recovered_ms: self.facts.recovered_ms,
            was_clean: self.facts.was_clean,
        }
    }

    /// Finds messages without touching them.
    pub fn query(&mut self, request: &QueryMessagesRequest) -> Result<Answer, Error> {
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?;
        let (id, queues) = (topic.settings.id, topic.queues.len());
        let limit = match request.limit {
            0 => MESSAGES_DEFAULT,
            given => given.min(MESSAGES_MAX),
        } as usize;
        let found = match &request.by {
            Some(By::MessageId(text)) => return self.look_up(id, text, system::MESSAGE_ID, limit),
            Some(By::Key(text)) => return self.look_up(id, text, system::KEYS, limit),
            Some(By::Place(place)) => {
                let key = QueueKey { topic: id, queue: place.queue };
                let start = topic.queues.get(place.queue as usize).map_or(0, |queue| queue.start);
                let entry = self.state.index.get(key, place.offset).map_err(|error| damaged(&error))?;
                // Retention may have left it on the disk for somebody else.
                let entry = entry.filter(|_| place.offset >= start);
                entry.map(|entry| Found::new(place.queue, place.offset, entry)).into_iter().collect()
            }
            Some(By::FromMs(from_ms)) => self.since(id, queues, *from_ms, limit + 1)?,
            None => {
                return Err(Error::new(
                    Reason::Invalid,
                    "query names nothing to look for: give an id, a key, a time or a place",
                ));
            }
        };
        let complete = found.len() <= limit;
        Ok(Answer::Places { found: found.into_iter().take(limit).collect(), complete })
    }

    fn look_up(&mut self, topic: u32, text: &str, field: u32, limit: usize) -> Result<Answer, Error> {
        let mut lsns = self.hits(text, HITS_MAX + 1)?;
        let is_cut = lsns.len() > HITS_MAX;
        lsns.truncate(HITS_MAX);
        Ok(Answer::Hits(Hits { lsns, topic, text: text.to_owned(), field, limit, is_cut }))
    }

    /// Messages of a topic among the newest `hits_max` under a look-up hash, newest first, and where
    /// they are; their text is not compared yet.
    pub(super) fn messages_with_key(
        &mut self,
        topic: u32,
        text: &str,
        hits_max: usize,
    ) -> Result<Vec<(Lsn, Message)>, Error> {
        let hits = self.hits(text, hits_max)?;
        let messages = hits.into_iter().filter_map(|lsn| Some((lsn, self.read_at(lsn)?.0)));
        Ok(messages.filter(|(_, message)| message.topic == topic).collect())
    }

    fn hits(&mut self, text: &str, max: usize) -> Result<Vec<Lsn>, Error> {
        self.state.index.keys(hash64(text.as_bytes()), max).map_err(|error| damaged(&error))
    }

    fn read_at(&self, lsn: Lsn) -> Option<(Message, u32)> {
        let length = self.reader.record_length(lsn).ok()?;
        self.read_message(lsn, length).map(|message| (message, length))
    }

    /// The first messages stored at or after a time, queue by queue, in order of time.
    fn since(&mut self, topic: u32, queues: usize, from_ms: u64, limit: usize) -> Result<Vec<Found>, Error> {
        let mut found: Vec<Found> = Vec::new();
        for queue in 0..u32::try_from(queues).unwrap_or(u32::MAX) {
            let known = self.state.topics.get(topic).and_then(|topic| topic.queues.get(queue as usize));
            // Of a million lite topics most have nothing, or nothing as young.
            let Some(ends) = known.copied().filter(|ends| ends.start < ends.end && ends.last_stored_ms >= from_ms)
            else {
                continue;
            };
            let key = QueueKey { topic, queue };
            let Some(first) = self.state.index.first_at_or_after(key, from_ms).map_err(|error| damaged(&error))? else {
                continue;
            };
            let mut entries = Vec::new();
            self.state.index.range(key, first.max(ends.start), limit, &mut entries).map_err(|error| damaged(&error))?;
            found.extend(entries.into_iter().map(|(offset, entry)| Found::new(queue, offset, entry)));
            // A topic may have many queues: no more is held than the answer and one queue's share.
            found.sort_unstable_by_key(|found| (found.stored_ms, found.queue, found.offset));
            found.truncate(limit);
        }
        Ok(found)
    }

    fn group_backlog(&mut self, group: u32) -> Backlog {
        let readers: Vec<Reader> = self.state.pop.of_group(group).map(|(reader, _)| reader).collect();
        let mut total = Backlog::default();
        for progress in readers.into_iter().filter_map(|reader| self.progress(reader)) {
            add(&mut total, &progress.backlog.unwrap_or_default());
        }
        total
    }

    fn progress(&mut self, reader: Reader) -> Option<TopicProgress> {
        let topic = self.state.topics.get(reader.topic)?;
        let subscription = self.state.pop.get(reader)?;
        let (name, is_lite) = (topic.settings.name.clone(), topic.is_lite());
        let ends = |queue: u32| topic.queues.get(queue as usize);
        let places = subscription.cursors.iter().filter_map(|(queue, cursor)| Some((queue, cursor, ends(queue)?)));
        // Of lite topics, those with nothing to consume are left out.
        let wanted = places.filter(|(_, cursor, ends)| !is_lite || cursor.floor() < ends.end);
        let mut queues: Vec<QueueProgress> = wanted
            .map(|(queue, cursor, ends)| queue_progress(subscription, queue, *ends, cursor, self.now_ms))
            .collect();
        let mut total = Backlog::default();
        for queue in &mut queues {
            let oldest = if queue.committed < queue.end { Some(queue.committed) } else { None };
            let key = QueueKey { topic: reader.topic, queue: queue.queue };
            let entry = oldest.and_then(|offset| self.state.index.get(key, offset).ok().flatten());
            if let (Some(backlog), Some(entry)) = (&mut queue.backlog, entry) {
                backlog.oldest_ms = entry.stored_ms;
            }
            add(&mut total, &queue.backlog.unwrap_or_default());
        }
        if is_lite {
            queues.truncate(LITE_TOPICS_LISTED);
        }
        let polls = u32::try_from(self.waiters.of(reader)).unwrap_or(u32::MAX);
        let expired_unconsumed = self.state.pop.get(reader).map_or(0, |subscription| subscription.expired_unconsumed);
        Some(TopicProgress { topic: name, backlog: Some(total), queues, polls, expired_unconsumed })
    }
}

fn queue_progress(subscription: &Subscription, queue: u32, ends: Queue, cursor: &Cursor, now_ms: u64) -> QueueProgress {
    let fetch = cursor.fetch.max(ends.start);
    let mut backlog = Backlog { ready: ends.end.saturating_sub(fetch), ..Default::default() };
    for (offset, row) in &cursor.rows {
        match row.hold {
            _ if row.visible_at_ms <= now_ms => {
                backlog.ready += 1;
                backlog.blocked += u64::from(subscription.is_held_up(queue, *offset, now_ms));
            }
            Hold::Passed => backlog.ready += 1,
            Hold::Leased => backlog.in_flight += 1,
            Hold::BackingOff => backlog.waiting += 1,
        }
    }
    QueueProgress { queue, end: ends.end, committed: cursor.floor().max(ends.start), fetch, backlog: Some(backlog) }
}

fn add(total: &mut Backlog, more: &Backlog) {
    total.ready += more.ready;
    total.in_flight += more.in_flight;
    total.waiting += more.waiting;
    total.blocked += more.blocked;
    total.oldest_ms = [total.oldest_ms, more.oldest_ms].into_iter().filter(|ms| *ms > 0).min().unwrap_or_default();
}

fn limit(asked: u32) -> usize {
    if asked == 0 { LIST_DEFAULT } else { (asked as usize).min(10 * LIST_DEFAULT) }
}

fn damaged(error: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::Damaged, format!("index cannot be read: {error}"))
}
