//! What a dead letter says of its past: written when a message is moved to a dead-letter topic, and
//! taken out again when it is sent to its own topic once more.

use bytes::{Bytes, BytesMut};
use centaur_apis::{
    fields::{self, Fields, Value, message, system},
    v2,
};
use prost::{
    Message as _,
    encoding::{self, message as submessage, string},
};

use crate::log::record::Message;

/// User properties of a dead letter: names that operators know.
const GROUP: &str = "DLQ_GROUP";
const ATTEMPTS: &str = "DLQ_ATTEMPTS";
const REASON: &str = "DLQ_REASON";
const ORIGIN_QUEUE: &str = "DLQ_ORIGIN_QUEUE";
const ORIGIN_OFFSET: &str = "DLQ_ORIGIN_OFFSET";
/// How long the message was of use; only of one that had a time of its own.
const ORIGIN_TTL_MS: &str = "DLQ_ORIGIN_TTL_MS";
const TIME_MS: &str = "DLQ_TIME_MS";
const NAMES: [&str; 7] = [GROUP, ATTEMPTS, REASON, ORIGIN_QUEUE, ORIGIN_OFFSET, ORIGIN_TTL_MS, TIME_MS];

/// Fields of an entry of a protobuf map.
const KEY: u32 = 1;
const VALUE: u32 = 2;

/// Why a message is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    AttemptsExhausted,
    /// Its consumer did not want it any more.
    Forwarded,
    /// It was not finished long after its topic stopped keeping it.
    Aged,
}

impl Cause {
    fn text(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts exhausted",
            Self::Forwarded => "forwarded by client",
            Self::Aged => "older than its topic keeps messages",
        }
    }
}

/// Where a message came from when it died, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub topic: &'a str,
    pub queue: u32,
    pub offset: u64,
    pub group: &'a str,
    /// Deliveries to the group.
    pub attempts: u16,
    pub cause: Cause,
    /// Store time, ms.
    pub at_ms: u64,
}

impl Origin<'_> {
    /// The head and the properties of a message as it stands in a dead-letter topic.
    pub fn write_into(&self, original: &Message, grave: &str) -> (Bytes, Bytes) {
        let mut head = renamed(&original.head, grave);
        let ttl_ms = (original.ttl_ms > 0).then(|| (ORIGIN_TTL_MS, original.ttl_ms.to_string()));
        let values = [
            (GROUP, self.group.to_owned()),
            (ATTEMPTS, self.attempts.to_string()),
            (REASON, self.cause.text().to_owned()),
            (ORIGIN_QUEUE, self.queue.to_string()),
            (ORIGIN_OFFSET, self.offset.to_string()),
            (TIME_MS, self.at_ms.to_string()),
        ];
        for (name, value) in values.into_iter().chain(ttl_ms) {
            let mut entry = Vec::new();
            string::encode(KEY, &name.to_owned(), &mut entry);
            string::encode(VALUE, &value, &mut entry);
            encoding::bytes::encode(message::USER_PROPERTIES, &entry, &mut head);
        }
        let message_id = fields::text(&original.properties, system::MESSAGE_ID).unwrap_or_default().to_owned();
        let origin = v2::DeadLetterQueue { topic: self.topic.to_owned(), message_id };
        let mut properties = without(&original.properties, |number, _| number == system::DEAD_LETTER_QUEUE);
        submessage::encode(system::DEAD_LETTER_QUEUE, &origin, &mut properties);
        (head.freeze(), properties.freeze())
    }
}

/// A dead letter as it was before it died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revived {
    pub topic: String,
    pub queue: u32,
    /// How long it is of use once it is in its queue again; 0: as its topic says.
    pub ttl_ms: u64,
    pub message_id: String,
    pub head: Bytes,
    pub properties: Bytes,
}

impl Revived {
    /// `None`: the message does not say where it came from.
    pub fn read(letter: &Message) -> Option<Self> {
        let origins = Fields::new(&letter.properties).filter_map(|field| match field {
            (system::DEAD_LETTER_QUEUE, Value::Bytes(encoded)) => v2::DeadLetterQueue::decode(encoded).ok(),
            _ => None,
        });
        let topic = origins.last()?.topic;
        let told = |name| told_number(&letter.head, name).unwrap_or_default();
        Some(Self {
            queue: u32::try_from(told(ORIGIN_QUEUE)).unwrap_or_default(),
            ttl_ms: told(ORIGIN_TTL_MS),
            message_id: fields::text(&letter.properties, system::MESSAGE_ID).unwrap_or_default().to_owned(),
            head: renamed(&letter.head, &topic).freeze(),
            properties: without(&letter.properties, |number, _| number == system::DEAD_LETTER_QUEUE).freeze(),
            topic,
        })
    }
}

/// The number that a user property of an encoded head gives.
fn told_number(head: &[u8], name: &str) -> Option<u64> {
    let told = Fields::new(head).filter_map(|field| match field {
        (message::USER_PROPERTIES, Value::Bytes(entry)) if fields::text(entry, KEY) == Some(name) => {
            fields::text(entry, VALUE)?.parse().ok()
        }
        _ => None,
    });
    told.last()
}

/// The encoded head of a message under another topic; nothing in it says that it ever died.
fn renamed(head: &[u8], topic: &str) -> BytesMut {
    let topic = v2::Resource { name: topic.to_owned(), ..Default::default() };
    let mut renamed = BytesMut::new();
    submessage::encode(message::TOPIC, &topic, &mut renamed);
    renamed.unsplit(without(head, |number, value| match (number, value) {
        (message::TOPIC, _) => true,
        (message::USER_PROPERTIES, Value::Bytes(entry)) => {
            fields::text(entry, KEY).is_some_and(|key| NAMES.contains(&key))
        }
        _ => false,
    }));
    renamed
}

/// Encoded fields as they are, but for some.
fn without(encoded: &[u8], is_left_out: impl Fn(u32, Value<'_>) -> bool) -> BytesMut {
    let mut kept = BytesMut::with_capacity(encoded.len());
    let mut fields = Fields::new(encoded);
    loop {
        let start = encoded.len() - fields.remaining();
        let Some((number, value)) = fields.next() else { return kept };
        if !is_left_out(number, value) {
            kept.extend_from_slice(&encoded[start..encoded.len() - fields.remaining()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::log::record::Place;

    fn original() -> Message {
        let head = v2::Message {
            topic: Some(v2::Resource { name: "orders".into(), ..Default::default() }),
            user_properties: [("color".to_owned(), "red".to_owned())].into(),
            ..Default::default()
        };
        let properties = v2::SystemProperties {
            message_id: "01AB".into(),
            tag: Some("t".into()),
            message_group: Some("g".into()),
            born_timestamp: Some(prost_types::Timestamp { seconds: 7, nanos: 8 }),
            ..Default::default()
        };
        let (head, properties) = (head.encode_to_vec().into(), properties.encode_to_vec().into());
        Message { ttl_ms: 60_000, ..Message::new(1, 3, Place::Queued(9), 1, head, properties, "body".into()) }
    }

    fn bury(message: &Message, group: &str, cause: Cause) -> Message {
        let origin = Origin { topic: "orders", queue: 3, offset: 9, group, attempts: 17, cause, at_ms: 1_234 };
        let (head, properties) = origin.write_into(message, &format!("%DLQ%{group}"));
        Message { ttl_ms: 0, head, properties, ..message.clone() }
    }

    fn user_properties(letter: &Message) -> BTreeMap<String, String> {
        v2::Message::decode(letter.head.as_ref()).expect("a head").user_properties
    }

    #[test]
    fn a_dead_letter_says_where_it_came_from_and_why() {
        let letter = bury(&original(), "workers", Cause::AttemptsExhausted);
        let expected = [
            ("color", "red"),
            ("DLQ_GROUP", "workers"),
            ("DLQ_ATTEMPTS", "17"),
            ("DLQ_REASON", "attempts exhausted"),
            ("DLQ_ORIGIN_QUEUE", "3"),
            ("DLQ_ORIGIN_OFFSET", "9"),
            ("DLQ_ORIGIN_TTL_MS", "60000"),
            ("DLQ_TIME_MS", "1234"),
        ];
        assert_eq!(user_properties(&letter), expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let properties = v2::SystemProperties::decode(letter.properties.as_ref()).expect("properties");
        let origin = v2::DeadLetterQueue { topic: "orders".into(), message_id: "01AB".into() };
        assert_eq!(properties.dead_letter_queue, Some(origin));
    }

    #[test]
    fn a_dead_letter_sent_again_is_what_it_was() {
        let revived = Revived::read(&bury(&original(), "workers", Cause::Forwarded)).expect("a dead letter");
        let Message { ttl_ms, head, properties, .. } = original();
        let (topic, message_id) = ("orders".into(), "01AB".into());
        let expected = Revived { topic, queue: 3, ttl_ms, message_id, head, properties };
        assert_eq!(revived, expected);
    }

    #[test]
    fn one_that_dies_twice_tells_of_its_last_death() {
        let again = bury(&bury(&original(), "workers", Cause::AttemptsExhausted), "sorters", Cause::Forwarded);
        let properties = user_properties(&again);
        assert_eq!(properties.len(), 7);
        assert_eq!(properties["DLQ_GROUP"], "sorters");
        assert_eq!(properties["DLQ_REASON"], "forwarded by client");
        assert_eq!(Fields::new(&again.head).count(), 8);
    }

    #[test]
    fn a_message_of_another_kind_is_no_dead_letter() {
        assert_eq!(Revived::read(&original()), None);
    }
}
