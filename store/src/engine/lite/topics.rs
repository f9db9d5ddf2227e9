//! Lite topics that come into being with their first message or subscriber, and go when nobody
//! writes to them.

use std::{collections::BTreeSet, iter};

use centaur_apis::{
    fields::{self, system},
    log::{LiteTopicDeleted, LiteTopicSet, control::Event},
    store::{Error, ListLiteTopicsRequest, ListLiteTopicsResponse, LiteTopic, NewMessage, QueueState, Reason},
};

use super::{
    super::{Machine, produce::topic_not_found},
    groups::not_a_lite_topic,
};
use crate::state::{index::QueueKey, topics::Topic};

/// Lite topics of one store.
const LITE_TOPICS_MAX: usize = 1_000_000;
/// Bytes of a lite topic's name; source: public contract.
const NAME_BYTES_MAX: usize = 64;
/// How often lite topics are looked through for those that nobody writes to; source: public contract.
const SWEEP_MS: u64 = 120_000;
/// Lite topics looked at in one turn, and deleted in one.
const LOOKED_AT_MAX: usize = 20_000;
const DELETED_MAX: usize = 500;
/// Time between two turns of one sweep.
const TURN_MS: u64 = 10;
/// Bytes of a lite topic's end in the log, at most.
const DELETED_BYTES: usize = 48;
/// Bytes of a lite topic's beginning in the log, at most.
const NAMED_BYTES: usize = 160;
/// Names of one answer, unless another number is asked for.
const LISTED_DEFAULT: usize = 1000;
const LISTED_MAX: usize = 10_000;

/// How far lite topics were looked through, and when that goes on.
#[derive(Default)]
pub struct Sweep {
    pub due_ms: u64,
    next: Option<QueueKey>,
}

impl Machine {
    /// Whether messages may go into lite topics of a topic, and new ones be made for them.
    pub(in super::super) fn check_lite(&self, topic: &Topic, messages: &[NewMessage]) -> Result<(), Error> {
        for message in messages {
            check_name(&message.lite_topic)?;
            if message.due_ms > 0 || message.half.is_some() {
                let sentence = "a message to a lite topic cannot also be scheduled or transactional";
                return Err(Error::new(Reason::TypeConflict, sentence));
            }
        }
        self.check_lite_quota(topic.settings.id, messages.iter().map(|message| message.lite_topic.as_str()))
    }

    /// Whether there is room for those of these lite topics that are not there yet.
    pub(super) fn check_lite_quota<'a>(&self, topic: u32, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        let known = self.state.lite.names(topic);
        let new: BTreeSet<&str> = names.filter(|name| known.is_none_or(|known| known.queue(name).is_none())).collect();
        if !new.is_empty() && self.state.lite.len() + new.len() > LITE_TOPICS_MAX {
            let sentence =
                format!("store has {} lite topics; at most {LITE_TOPICS_MAX} are allowed", self.state.lite.len());
            return Err(Error::new(Reason::LiteTopicQuota, sentence));
        }
        Ok(())
    }

    /// The queue of a lite topic, which comes into being if it is not there.
    pub(in super::super) fn lite_queue(&mut self, topic: u32, name: &str) -> u32 {
        let names = self.state.lite.names(topic);
        if let Some(queue) = names.and_then(|names| names.queue(name)) {
            return queue;
        }
        let queue = names.map_or(0, |names| names.next_queue());
        self.commit(Event::LiteTopicSet(LiteTopicSet { topic, queue, name: name.to_owned(), at_ms: self.now_ms }));
        queue
    }

    /// The queue that a dead letter goes back to: that of the lite topic it names, which comes into
    /// being if it is not there. A dry run makes nothing.
    pub(in super::super) fn queue_for_letter(
        &mut self,
        topic: u32,
        properties: &[u8],
        dry_run: bool,
    ) -> Result<u32, Error> {
        let name = fields::text(properties, system::LITE_TOPIC).unwrap_or_default();
        check_name(name)?;
        self.check_lite_quota(topic, iter::once(name))?;
        self.check_space()?;
        let names = self.state.lite.names(topic);
        if dry_run {
            let known = names.and_then(|names| names.queue(name));
            return Ok(known.unwrap_or_else(|| names.map_or(0, |names| names.next_queue())));
        }
        self.make_room(NAMED_BYTES)?;
        Ok(self.lite_queue(topic, name))
    }

    /// Deletes lite topics without new messages, a part of them at a time.
    pub(super) fn sweep_lite_topics(&mut self) {
        let (old, next) = self.find_old();
        for &key in &old {
            if self.make_room(DELETED_BYTES).is_err() {
                break;
            }
            self.delete_lite_topic(key);
        }
        if !old.is_empty() {
            tracing::info!(lite_topics = old.len(), "lite topics without new messages deleted");
        }
        let wait_ms = if next.is_some() { TURN_MS } else { SWEEP_MS };
        self.lite.sweep = Sweep { due_ms: self.now_ms + wait_ms, next };
    }

    /// Lite topics to delete, and where to go on.
    fn find_old(&self) -> (Vec<QueueKey>, Option<QueueKey>) {
        let mut old = Vec::new();
        let mut looked_at = 0;
        let first = self.lite.sweep.next.unwrap_or(QueueKey { topic: 0, queue: 0 });
        for (id, names) in self.state.lite.topics().filter(|(id, _)| *id >= first.topic) {
            let Some(topic) = self.state.topics.get(id) else { continue };
            let expiry_ms = topic.settings.lite_expiry_ms.max(self.config.lite_expiry_min_ms);
            if topic.settings.lite_expiry_ms == 0 {
                continue;
            }
            let from = if id == first.topic { first.queue } else { 0 };
            for (queue, lite) in names.iter_from(from) {
                looked_at += 1;
                if looked_at > LOOKED_AT_MAX || old.len() == DELETED_MAX {
                    return (old, Some(QueueKey { topic: id, queue }));
                }
                let written_ms = topic.queues.get(queue as usize).map_or(0, |queue| queue.last_stored_ms);
                if written_ms.max(lite.created_ms).saturating_add(expiry_ms) < self.now_ms {
                    old.push(QueueKey { topic: id, queue });
                }
            }
        }
        (old, None)
    }

    /// Deletes one lite topic; who was subscribed to it is told.
    fn delete_lite_topic(&mut self, QueueKey { topic, queue }: QueueKey) {
        let Some(name) = self.state.lite.names(topic).and_then(|names| names.get(queue)).map(|lite| lite.name.clone())
        else {
            return;
        };
        let readers = self.state.topics.get(topic).into_iter().flat_map(|topic| topic.readers.iter().copied());
        let clients = readers.filter_map(|group| Some((group, self.state.lite.clients(group)?)));
        let subscribers = clients.flat_map(|(group, clients)| {
            clients.subscribers(queue, 0).filter_map(move |hash| Some((group, hash, clients.get(hash)?.name.clone())))
        });
        let told: Vec<_> = subscribers.collect();
        self.commit(Event::LiteTopicDeleted(LiteTopicDeleted { topic, queue }));
        for (group, hash, client) in told {
            self.notify(group, &client, &name);
            if let Some(heard) = self.lite.heard.get_mut(&(group, hash)) {
                heard.lose(&name);
            }
        }
    }

    /// Lite topics of a LITE topic, by name.
    pub fn list_lite_topics(&self, request: &ListLiteTopicsRequest) -> Result<ListLiteTopicsResponse, Error> {
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?;
        if !topic.is_lite() {
            return Err(not_a_lite_topic(topic));
        }
        let limit = if request.limit == 0 { LISTED_DEFAULT } else { (request.limit as usize).min(LISTED_MAX) };
        let Some(names) = self.state.lite.names(topic.settings.id) else {
            return Ok(ListLiteTopicsResponse::default());
        };
        let listed = names.after(&request.after).take(limit);
        Ok(ListLiteTopicsResponse {
            lite_topics: listed.map(|(name, queue)| self.describe_lite_topic(topic, name, queue)).collect(),
            total: names.len() as u64,
        })
    }

    fn describe_lite_topic(&self, topic: &Topic, name: &str, queue: u32) -> LiteTopic {
        let ends = topic.queues.get(queue as usize).copied().unwrap_or_default();
        let clients = topic.readers.iter().filter_map(|group| self.state.lite.clients(*group));
        let subscribers: usize = clients.map(|clients| clients.subscribers(queue, 0).count()).sum();
        LiteTopic {
            name: name.to_owned(),
            state: Some(QueueState { queue, start: ends.start, end: ends.end, last_stored_ms: ends.last_stored_ms }),
            subscribers: u32::try_from(subscribers).unwrap_or(u32::MAX),
        }
    }
}

/// Whether text can be the name of a lite topic.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_legal) {
        return Ok(());
    }
    let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
    let sentence = format!(
        "lite topic {shown:?} has {} bytes; it must have 1 to {NAME_BYTES_MAX}, letters, digits, _ and - only",
        name.len()
    );
    Err(Error::new(Reason::IllegalLiteTopic, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for (name, is_legal) in [("a", true), ("session_7-B", true), ("", false), ("a.b", false), ("ä", false)] {
            assert_eq!(check_name(name).is_ok(), is_legal, "{name}");
        }
        assert!(check_name(&"x".repeat(64)).is_ok());
        assert_eq!(check_name(&"x".repeat(65)).map_err(|error| error.reason()), Err(Reason::IllegalLiteTopic));
    }
}
