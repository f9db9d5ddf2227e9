//! Dead letters: that all of them come, once and as they have to be, and that each is sent again
//! once.

use std::collections::BTreeMap;

use centaur_apis::{
    store::{
        Delivery, DescribeTopicResponse, Place, QueryMessagesRequest, Reason, RedriveRequest, RedriveResult,
        query_messages_request::By, redrive_result::Outcome,
    },
    v2,
};
use prost::Message as _;

use super::{Driver, PATIENCE};
use crate::{
    harness::reason,
    reference::{Cause, Dead, Message, Origin, Queue, Redriven, Reference},
};

impl Driver {
    /// Finds every message that died in the dead-letter topic of its group: all of them, once, and
    /// nothing else.
    pub(super) async fn settle_graves(&mut self) {
        for (group, mut dead) in std::mem::take(&mut self.model.graves) {
            let name = format!("%DLQ%{group}");
            let before = self.model.topics.get(&name).map_or(0, |topic| topic.queues[0].end());
            let described = self.wait_for_end(&name, before + dead.len() as u64).await;
            self.model.put_topic(&described.topic.expect("settings"));
            for offset in before..described.queues[0].end {
                let found = self.message_at(&name, 0, offset).await;
                let is_it = |dead: &Dead| is_origin(dead, &found);
                let at = dead.iter().position(is_it).expect("a message that died");
                let letter = buried(dead.swap_remove(at), &name, &group, found);
                assert_eq!(self.model.append(&name, 0, vec![letter]), offset);
            }
            assert!(dead.is_empty());
        }
    }

    pub(super) async fn redrive(&mut self, group: &str, places: Vec<Place>, dry_run: bool) {
        let grave = format!("%DLQ%{group}");
        let request = RedriveRequest { group: group.to_owned(), places: places.clone(), dry_run };
        let answer = self.client.redrive(request).await.map_err(|status| reason(&status));
        if !self.model.topics.contains_key(&grave) {
            assert_eq!(answer.map(drop), Err(Reason::TopicNotFound));
            return;
        }
        let results = answer.expect("answered").into_inner().results;
        assert_eq!(results.len(), places.len());
        let ends: Vec<u64> = self.model.topics[&grave].queues.iter().map(Queue::end).collect();
        for (Place { queue, offset }, result) in places.into_iter().zip(results) {
            // One that comes into this very topic by the same call was not there before.
            let was_there = ends.get(queue as usize).is_some_and(|end| offset < *end);
            let redriven = |model: &Reference| model.redrive(&grave, queue, offset, result.queue);
            let expected = if was_there { redriven(&self.model) } else { Redriven::Nothing };
            assert_eq!(shown(&result), expected, "of {queue}/{offset}");
            let Redriven::Sent(topic, to, at) = expected else { continue };
            let letter = self.model.topics[&grave].queues[queue as usize].get(offset).clone();
            assert_eq!(result.message_id, letter.id);
            if !dry_run {
                let found = self.message_at(&topic, to, at).await;
                let again = revived(letter, &topic, found);
                self.model.note_redriven(&grave, (queue, offset), to, again);
            }
        }
    }

    async fn message_at(&mut self, topic: &str, queue: u32, offset: u64) -> Delivery {
        let by = Some(By::Place(Place { queue, offset }));
        let request = QueryMessagesRequest { topic: topic.to_owned(), by, limit: 1 };
        self.client.query_messages(request).await.expect("found").into_inner().messages.remove(0)
    }

    async fn wait_for_end(&mut self, topic: &str, end: u64) -> DescribeTopicResponse {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let described = self.describe_topic(topic).await;
            let found = described.as_ref().map_or(0, |described| described.queues[0].end);
            match described {
                Ok(described) if found >= end => {
                    assert_eq!(found, end, "messages of {topic}");
                    return described;
                }
                _ => assert!(std::time::Instant::now() < deadline, "{topic} has {found} of {end} messages"),
            }
        }
    }
}

fn shown(result: &RedriveResult) -> Redriven {
    match result.outcome() {
        Outcome::Sent => Redriven::Sent(result.topic.clone(), result.queue, result.offset),
        Outcome::Already => Redriven::Already(result.topic.clone()),
        Outcome::Refused => match result.error.as_ref().map(|error| error.reason()) {
            Some(Reason::OffsetNotFound) => Redriven::Nothing,
            Some(Reason::Precondition) => Redriven::NoDeadLetter,
            Some(Reason::TopicNotFound) => Redriven::NoTopic,
            other => panic!("refused because of {other:?}"),
        },
    }
}

fn is_origin(dead: &Dead, found: &Delivery) -> bool {
    let properties = v2::SystemProperties::decode(found.properties.as_ref()).expect("properties");
    let user_properties = user_properties(&found.head);
    let number = |name| user_properties.get(name).and_then(|text| text.parse().ok());
    properties
        .dead_letter_queue
        .is_some_and(|origin| (origin.topic, origin.message_id) == (dead.topic.clone(), dead.message.id.clone()))
        && number("DLQ_ORIGIN_QUEUE") == Some(u64::from(dead.queue))
        && number("DLQ_ORIGIN_OFFSET") == Some(dead.offset)
}

/// A dead message as the dead-letter topic has to hold it: it is there to be looked at, however long
/// that takes.
fn buried(dead: Dead, topic: &str, group: &str, found: Delivery) -> Message {
    check_body(&dead.message, topic, &found);
    let reason = match dead.cause {
        Cause::Exhausted => "attempts exhausted",
        Cause::Forwarded => "forwarded by client",
    };
    let story = user_properties(&found.head);
    let told: Vec<&str> =
        ["DLQ_GROUP", "DLQ_REASON", "DLQ_ATTEMPTS", "DLQ_TIME_MS"].map(|name| story[name].as_str()).into();
    assert_eq!(told, [group, reason, &dead.attempts.to_string(), &found.stored_ms.to_string()]);
    let Message { ttl_ms, .. } = dead.message;
    let origin = Some(Origin { topic: dead.topic, queue: dead.queue, ttl_ms });
    Message { head: found.head, properties: found.properties, origin, ttl_ms: 0, ..dead.message }
}

/// A dead letter as it has to be when it was sent again: nothing tells of its death, and it is of
/// use as long as it was.
fn revived(letter: Message, topic: &str, found: Delivery) -> Message {
    check_body(&letter, topic, &found);
    let properties = v2::SystemProperties::decode(found.properties.as_ref()).expect("properties");
    assert_eq!(properties.dead_letter_queue, None);
    assert!(user_properties(&found.head).keys().all(|name| !name.starts_with("DLQ_")));
    let ttl_ms = letter.origin.as_ref().map_or(0, |origin| origin.ttl_ms);
    Message { head: found.head, properties: found.properties, origin: None, ttl_ms, ..letter }
}

/// Asserts that a message is the same but for its topic and what tells of its death.
fn check_body(sent: &Message, topic: &str, found: &Delivery) {
    let properties = |encoded: &[u8]| v2::SystemProperties {
        dead_letter_queue: None,
        ..v2::SystemProperties::decode(encoded).expect("properties")
    };
    let own = |head: &[u8]| {
        let mut own = user_properties(head);
        own.retain(|name, _| !name.starts_with("DLQ_"));
        own
    };
    let head = v2::Message::decode(found.head.as_ref()).expect("a message");
    assert_eq!(head.topic.expect("a topic").name, topic);
    assert_eq!(own(&found.head), own(&sent.head));
    assert_eq!(properties(&found.properties), properties(&sent.properties));
    assert_eq!(found.body, sent.body);
}

fn user_properties(head: &[u8]) -> BTreeMap<String, String> {
    v2::Message::decode(head).expect("a message").user_properties
}
