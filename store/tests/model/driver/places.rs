//! Looking messages up, and places in queues.

use centaur_apis::store::{
    Delivery, GetOffsetRequest, QueryMessagesRequest, QueryMessagesResponse, QueryOffsetRequest, ReadRequest, Reason,
    ResetGroupRequest, query_messages_request::By, query_offset_request::At,
};

use super::{Driver, consume::filter_of};
use crate::{
    harness::{UNLIMITED, message_id, reason},
    reference::{Ask, Group, Message, Queue, Reader, Reset, Target, Topic, check_same},
};

/// Messages looked at for one answer without leases.
const READ_MAX: usize = 256;

impl Driver {
    pub(super) async fn query(&mut self, topic: &str, by: By, limit: u32) {
        let request = QueryMessagesRequest { topic: topic.to_owned(), by: Some(by.clone()), limit };
        let answer = self.client.query_messages(request).await.map_err(|status| reason(&status));
        let Some(known) = self.model.topics.get(topic) else {
            assert_eq!(answer.map(drop), Err(Reason::TopicNotFound));
            return;
        };
        let QueryMessagesResponse { messages, complete } = answer.expect("answered").into_inner();
        let found: Vec<&Delivery> = messages.iter().collect();
        match by {
            By::FromMs(_) | By::Place(_) => check_queued(known, &by, limit as usize, &found, complete),
            By::MessageId(_) | By::Key(_) => {
                let waits = |message: &Message| self.model.waits(topic, message);
                check_named(known, &waits, &by, limit as usize, &found, complete);
            }
        }
    }

    pub(super) async fn read(&mut self, ask: Ask, queue: u32, offset: u64) {
        let request = ReadRequest {
            topic: ask.reader.1.clone(),
            queue,
            offset,
            messages_max: u32::try_from(ask.messages).expect("few"),
            bytes_max: ask.bytes,
            filter: filter_of(&ask),
            ..Default::default()
        };
        let answer = self.client.read(request).await;
        let answer = answer.map(tonic::Response::into_inner).map_err(|status| reason(&status));
        let queue = match self.queue(&ask.reader.1, queue) {
            Err(refusal) => return assert_eq!(answer.map(drop), Err(refusal)),
            Ok(queue) if offset > queue.end() => {
                return assert_eq!(answer.map(drop), Err(Reason::IllegalOffset));
            }
            Ok(queue) => queue,
        };
        let answer = answer.expect("answered");
        let from = offset.max(queue.start);
        assert!((from..=queue.end()).contains(&answer.next_offset), "{} is next", answer.next_offset);
        let wanted = |message: &Message| ask.matches(message);
        let passed = queue.kept().filter(|(at, _)| (from..answer.next_offset).contains(at));
        let expected: Vec<_> = passed.filter(|(_, message)| wanted(message)).collect();
        assert_eq!(places(&answer.messages), expected.iter().map(|(at, _)| *at).collect::<Vec<_>>());
        for (found, (_, message)) in answer.messages.iter().zip(expected) {
            check_same(message, found);
            assert!(found.handle.is_empty() && found.stored_ms == message.stored_ms);
        }
        let all = queue.kept().filter(|(at, message)| *at >= from && wanted(message)).count();
        assert!(answer.messages.len() <= ask.messages);
        assert_eq!(answer.messages.is_empty(), all == 0, "one of {all} messages at least");
        if ask.tags.is_none() && ask.bytes == UNLIMITED {
            assert_eq!(answer.messages.len(), all.min(ask.messages).min(READ_MAX));
        }
    }

    pub(super) async fn query_offset(&mut self, topic: &str, queue: u32, target: Target) {
        let at = match target {
            Target::Earliest => At::Earliest(true),
            Target::Latest | Target::Offset(_) => At::Latest(true),
            Target::FromMs(ms) => At::FromMs(ms),
        };
        let answer =
            self.client.query_offset(QueryOffsetRequest { topic: topic.to_owned(), queue, at: Some(at) }).await;
        let answer = answer.map(|answer| answer.into_inner().offset).map_err(|status| reason(&status));
        let expected = self.queue(topic, queue).map(|queue| target.place_in(queue, false).expect("every queue has it"));
        assert_eq!(answer, expected);
    }

    pub(super) async fn get_offset(&mut self, reader: Reader, queue: u32) {
        let (group, topic) = reader.clone();
        let is_known = self.model.groups.contains_key(&group);
        let expected = match self.queue(&topic, queue).map(drop) {
            _ if !is_known => Err(Reason::GroupNotFound),
            Err(refusal) => Err(refusal),
            Ok(()) => self.model.committed(&reader, queue).ok_or(Reason::OffsetNotFound),
        };
        let answer = self.client.get_offset(GetOffsetRequest { group, topic, queue }).await;
        assert_eq!(answer.map(|answer| answer.into_inner().offset).map_err(|status| reason(&status)), expected);
    }

    pub(super) async fn reset(&mut self, reset: Reset, dry_run: bool, create_group: bool) {
        let request = ResetGroupRequest {
            group: reset.group.clone(),
            topic: reset.topic.clone().unwrap_or_default(),
            queue: reset.queue,
            dry_run,
            strict: reset.strict,
            create_group,
            to: Some(reset.target.to_send()),
        };
        let answer = self.client.reset_group(request).await;
        let answer = answer.map(|answer| answer.into_inner().queues).map_err(|status| reason(&status));
        if !self.model.groups.contains_key(&reset.group) {
            if dry_run || !create_group {
                return assert_eq!(answer, Err(Reason::GroupNotFound));
            }
            let described = self.describe_group(&reset.group).await.expect("it came into being");
            self.model.put_group(&reset.group, Group::from(&described.group.expect("settings")));
        }
        let is_there = |topic: &String| match reset.queue {
            None if self.model.topics.contains_key(topic) => Ok(()),
            queue => self.queue(topic, queue.unwrap_or_default()).map(drop),
        };
        if let Some(Err(refusal)) = reset.topic.as_ref().map(is_there) {
            return assert_eq!(answer, Err(refusal));
        }
        let Some(moves) = self.model.moves(&reset) else { return assert_eq!(answer, Err(Reason::IllegalOffset)) };
        let mut moved = answer.expect("it is moved");
        moved.sort_by(|a, b| (&a.topic, a.queue).cmp(&(&b.topic, b.queue)));
        assert_eq!(moved, moves);
        if !dry_run {
            self.model.reset(&reset, &moves);
        }
    }

    fn queue(&self, topic: &str, queue: u32) -> Result<&Queue, Reason> {
        let topic = self.model.topics.get(topic).ok_or(Reason::TopicNotFound)?;
        topic.queues.get(queue as usize).ok_or(Reason::Invalid)
    }
}

fn places(messages: &[Delivery]) -> Vec<u64> {
    messages.iter().map(|message| message.offset).collect()
}

/// What is in its queue, in the order of coming there.
fn check_queued(topic: &Topic, by: &By, limit: usize, found: &[&Delivery], complete: bool) {
    let queues = (0..).zip(&topic.queues);
    let queued = queues.flat_map(|(queue, q)| q.kept().map(move |(offset, message)| (queue, offset, message)));
    let is_wanted = |(queue, offset, message): &(u32, u64, &Message)| match by {
        By::FromMs(from_ms) => message.stored_ms >= *from_ms,
        By::Place(place) => (*queue, *offset) == (place.queue, place.offset),
        By::MessageId(_) | By::Key(_) => false,
    };
    let mut expected: Vec<_> = queued.filter(is_wanted).collect();
    expected.sort_by_key(|(queue, offset, message)| (message.stored_ms, *queue, *offset));
    assert_eq!(complete, expected.len() <= limit);
    expected.truncate(limit);
    let places: Vec<_> = found.iter().map(|found| (found.queue, found.offset)).collect();
    assert_eq!(places, expected.iter().map(|(queue, offset, _)| (*queue, *offset)).collect::<Vec<_>>());
    for (found, (_, _, message)) in found.iter().zip(expected) {
        check_same(message, found);
        assert_eq!(found.stored_ms, message.stored_ms);
    }
}

/// What has an id or a key, the newest first, also when it is in no queue yet. What is in none any
/// more may still be found.
fn check_named(
    topic: &Topic,
    waits: &dyn Fn(&Message) -> bool,
    by: &By,
    limit: usize,
    found: &[&Delivery],
    complete: bool,
) {
    let is_named = |message: &Message| match by {
        By::MessageId(id) => message.id == *id,
        By::Key(key) => message.keys.contains(key),
        By::FromMs(_) | By::Place(_) => false,
    };
    let queued = (0..).zip(&topic.queues).flat_map(|(number, queue)| {
        let messages = (0..).zip(&queue.messages);
        messages.map(move |(offset, message): (u64, _)| (message, offset >= queue.start, Some((number, offset))))
    });
    let apart = topic.apart.iter().map(|message| (message, waits(message), None));
    let mut known: Vec<_> = queued.chain(apart).filter(|(message, ..)| is_named(message)).collect();
    known.sort_by_key(|(message, ..)| std::cmp::Reverse(message.order));
    let kept: Vec<_> =
        known.iter().filter(|(_, is_kept, _)| *is_kept).map(|(message, _, at)| (*message, *at)).collect();
    let mut known = known.into_iter();
    let all = found;
    for (at, found) in all.iter().enumerate() {
        // Of a message that was sent twice, the one that is gone is not the one that is found, unless more are
        // found than are kept, or none of those that are kept would be shown like this.
        let found_yet = all[at..].iter().filter(|one| is_same(one, found)).count();
        let is_shown_so = |message: &Message, place: Option<(u32, u64)>| {
            !message.is_direct || (place, message.stored_ms) == (Some((found.queue, found.offset)), found.stored_ms)
        };
        let is_there = |message: &Message, place| {
            let kept_yet = || kept.iter().filter(|(one, _)| one.order < message.order && is_the(one, found));
            let is_other = || found_yet > kept_yet().count() || !kept_yet().any(|(one, at)| is_shown_so(one, *at));
            if message.is_direct { place == Some((found.queue, found.offset)) } else { is_other() }
        };
        let next = known
            .by_ref()
            .find(|(message, is_kept, place)| *is_kept || (is_the(message, found) && is_there(message, *place)));
        let (message, _, place) = next.expect("nothing else is found");
        assert!(is_the(message, found), "{} was left out", message.id);
        check_same(message, found);
        // Others are shown as they were stored, without a place.
        if message.is_direct {
            assert_eq!((Some((found.queue, found.offset)), found.stored_ms), (place, message.stored_ms));
        }
    }
    assert!(all.len() <= limit);
    let left: Vec<&str> = known.filter(|(_, is_kept, _)| *is_kept).map(|(message, ..)| message.id.as_str()).collect();
    assert!(left.is_empty() || !complete, "{left:?} were left out");
    assert!(complete || all.len() == limit, "the answer is cut");
}

fn is_same(one: &Delivery, other: &Delivery) -> bool {
    message_id(&one.properties) == message_id(&other.properties) && one.body == other.body
}

fn is_the(message: &Message, found: &Delivery) -> bool {
    message_id(&found.properties) == message.id && found.body == message.body
}
