//! A published message, read where it lies in the request: no field is copied, and what the client
//! encoded is stored as it came. Requests that are not encoded the way every client does it are
//! written anew first.

use bytes::Bytes;
use centaur_apis::{
    fields::{Fields, Value, message, system},
    v2::{MessageType, SendMessageRequest},
};
use prost::Message as _;
use prost_types::{Duration, Timestamp};

/// Field of `SendMessageRequest` that holds a message.
const REQUEST_MESSAGE: u32 = 1;
/// Fields of `Resource`, of an entry of a map, and of a timestamp or duration.
const FIRST: u32 = 1;
const SECOND: u32 = 2;

/// One message of a request.
#[derive(Debug, Default)]
pub(crate) struct Published<'a> {
    /// Its fields topic and user_properties, encoded.
    pub(crate) head: &'a [u8],
    /// Namespace and name.
    pub(crate) topic: (&'a str, &'a str),
    pub(crate) user_properties: Vec<(&'a str, &'a str)>,
    pub(crate) system: Option<System<'a>>,
    pub(crate) body: &'a [u8],
}

/// What a client says in the system properties; what only the server may say is passed over.
#[derive(Debug, Default)]
pub(crate) struct System<'a> {
    pub(crate) tag: &'a str,
    pub(crate) keys: Vec<&'a str>,
    pub(crate) message_id: &'a str,
    pub(crate) body_encoding: i32,
    pub(crate) message_type: i32,
    pub(crate) born: Option<Timestamp>,
    pub(crate) born_host: &'a str,
    pub(crate) delivery: Option<Timestamp>,
    pub(crate) message_group: &'a str,
    pub(crate) trace_context: Option<&'a str>,
    pub(crate) recovery: Option<Duration>,
    pub(crate) lite_topic: Option<&'a str>,
    pub(crate) priority: Option<i32>,
}

/// The messages of an encoded `SendMessageRequest`; `None` when it has to be written anew.
pub(crate) fn read(request: &[u8]) -> Option<Vec<Published<'_>>> {
    let mut messages = Vec::with_capacity(1);
    walk(request, |number, value| {
        let (REQUEST_MESSAGE, Value::Bytes(encoded)) = (number, value) else { return None };
        messages.push(Published::read(encoded)?);
        Some(())
    })?;
    Some(messages)
}

/// The same request as `read` wants it; an error when it is none.
pub(crate) fn rewrite(request: Bytes) -> Result<Bytes, prost::DecodeError> {
    Ok(SendMessageRequest::decode(request)?.encode_to_vec().into())
}

impl<'a> Published<'a> {
    fn read(encoded: &'a [u8]) -> Option<Self> {
        let mut read = Self::default();
        let mut fields = Fields::new(encoded);
        let mut topics = 0;
        let mut is_past_head = false;
        let mut bodies = 0;
        while let Some((number, value)) = fields.next() {
            let Value::Bytes(bytes) = value else { return None };
            match number {
                message::TOPIC if !is_past_head => {
                    read.topic = pair(bytes)?;
                    topics += 1;
                }
                message::USER_PROPERTIES if !is_past_head => read.user_properties.push(pair(bytes)?),
                message::SYSTEM_PROPERTIES if read.system.is_none() => read.system = Some(System::read(bytes)?),
                message::BODY => {
                    read.body = bytes;
                    bodies += 1;
                }
                _ => return None,
            }
            if number == message::TOPIC || number == message::USER_PROPERTIES {
                read.head = &encoded[..encoded.len() - fields.remaining()];
            } else {
                is_past_head = true;
            }
        }
        (!fields.is_broken() && topics <= 1 && bodies <= 1).then_some(read)
    }
}

impl<'a> System<'a> {
    fn read(encoded: &'a [u8]) -> Option<Self> {
        let mut read = Self::default();
        walk(encoded, |number, value| {
            match (number, value) {
                (system::TAG, Value::Bytes(b)) => read.tag = text(b)?,
                (system::KEYS, Value::Bytes(b)) => read.keys.push(text(b)?),
                (system::MESSAGE_ID, Value::Bytes(b)) => read.message_id = text(b)?,
                (system::BODY_ENCODING, Value::Varint(v)) => read.body_encoding = v as i32,
                (system::MESSAGE_TYPE, Value::Varint(v)) => read.message_type = v as i32,
                (system::BORN_TIMESTAMP, Value::Bytes(b)) if read.born.is_none() => {
                    let (seconds, nanos) = numbers(b)?;
                    read.born = Some(Timestamp { seconds, nanos });
                }
                (system::BORN_HOST, Value::Bytes(b)) => read.born_host = text(b)?,
                (system::DELIVERY_TIMESTAMP, Value::Bytes(b)) if read.delivery.is_none() => {
                    let (seconds, nanos) = numbers(b)?;
                    read.delivery = Some(Timestamp { seconds, nanos });
                }
                (system::MESSAGE_GROUP, Value::Bytes(b)) => read.message_group = text(b)?,
                (system::TRACE_CONTEXT, Value::Bytes(b)) => read.trace_context = Some(text(b)?),
                (system::ORPHANED_TRANSACTION_RECOVERY_DURATION, Value::Bytes(b)) if read.recovery.is_none() => {
                    let (seconds, nanos) = numbers(b)?;
                    read.recovery = Some(Duration { seconds, nanos });
                }
                (system::LITE_TOPIC, Value::Bytes(b)) => read.lite_topic = Some(text(b)?),
                (system::PRIORITY, Value::Varint(v)) => read.priority = Some(v as i32),
                // The server's own fields, whatever a client puts there.
                (system::BODY_DIGEST | system::STORE_TIMESTAMP..=system::STORE_HOST, _)
                | (system::RECEIPT_HANDLE..=system::DELIVERY_ATTEMPT | system::DEAD_LETTER_QUEUE, _) => {}
                _ => return None,
            }
            Some(())
        })?;
        Some(read)
    }

    /// What the client says it is.
    pub(crate) fn message_type(&self) -> MessageType {
        MessageType::try_from(self.message_type).unwrap_or(MessageType::Unspecified)
    }
}

/// Hands every field to `take`; `None` at the first it does not take, or that is not a field.
fn walk<'a>(encoded: &'a [u8], mut take: impl FnMut(u32, Value<'a>) -> Option<()>) -> Option<()> {
    let mut fields = Fields::new(encoded);
    for (number, value) in fields.by_ref() {
        take(number, value)?;
    }
    (!fields.is_broken()).then_some(())
}

/// A message of two texts.
fn pair(encoded: &[u8]) -> Option<(&str, &str)> {
    let (mut first, mut second) = (None, None);
    walk(encoded, |number, value| {
        let Value::Bytes(bytes) = value else { return None };
        let slot = match number {
            FIRST => &mut first,
            SECOND => &mut second,
            _ => return None,
        };
        slot.replace(text(bytes)?).is_none().then_some(())
    })?;
    Some((first.unwrap_or(""), second.unwrap_or("")))
}

/// A message of two numbers, the second small.
fn numbers(encoded: &[u8]) -> Option<(i64, i32)> {
    let (mut seconds, mut nanos) = (0, 0);
    walk(encoded, |number, value| {
        match (number, value) {
            (FIRST, Value::Varint(v)) => seconds = v.cast_signed(),
            (SECOND, Value::Varint(v)) => nanos = v as i32,
            _ => return None,
        }
        Some(())
    })?;
    Some((seconds, nanos))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::{Message, Resource, SystemProperties};
    use proptest::prelude::*;

    use super::*;

    fn any_message() -> impl Strategy<Value = Message> {
        let texts = || proptest::collection::vec(".{0,20}", 0..4);
        let properties = proptest::collection::btree_map(".{0,10}", ".{0,50}", 0..5);
        let optional = || proptest::option::of(".{0,20}");
        let time = || proptest::option::of((any::<i64>(), any::<i32>()));
        let numbers = (0..4i32, 0..8i32, proptest::option::of(any::<i32>()), any::<i32>());
        let body = proptest::collection::vec(any::<u8>(), 0..100);
        (texts(), properties, (optional(), optional(), optional(), optional()), (time(), time()), numbers, body)
            .prop_map(|(keys, user_properties, (tag, group, trace, lite), (born, delivery), numbers, body)| {
                let system = SystemProperties {
                    tag,
                    message_id: keys.concat(),
                    keys,
                    body_encoding: numbers.0,
                    message_type: numbers.1,
                    born_timestamp: born.map(|(seconds, nanos)| Timestamp { seconds, nanos }),
                    delivery_timestamp: delivery.map(|(seconds, nanos)| Timestamp { seconds, nanos }),
                    message_group: group,
                    trace_context: trace,
                    lite_topic: lite,
                    priority: numbers.2,
                    queue_id: numbers.3,
                    delivery_attempt: Some(numbers.3),
                    receipt_handle: Some("forged".into()),
                    ..Default::default()
                };
                let topic = Resource { resource_namespace: "ns".into(), name: "orders".into() };
                Message { topic: Some(topic), user_properties, system_properties: Some(system), body: body.into() }
            })
    }

    fn check(messages: &[Message], read: &[Published<'_>]) {
        assert_eq!(messages.len(), read.len());
        for (message, read) in messages.iter().zip(read) {
            let system = message.system_properties.as_ref().expect("set");
            let given = read.system.as_ref().expect("set");
            assert_eq!(read.topic, ("ns", "orders"));
            assert_eq!(read.body, message.body);
            let properties: Vec<_> = message.user_properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(read.user_properties, properties);
            let head = Message { system_properties: None, body: Bytes::new(), ..message.clone() };
            assert_eq!(read.head, head.encode_to_vec());
            assert_eq!(given.tag, system.tag.as_deref().unwrap_or(""));
            assert_eq!(given.keys, system.keys);
            assert_eq!(given.message_id, system.message_id);
            assert_eq!((given.body_encoding, given.message_type), (system.body_encoding, system.message_type));
            assert_eq!((given.born, given.delivery), (system.born_timestamp, system.delivery_timestamp));
            assert_eq!(given.message_group, system.message_group.as_deref().unwrap_or(""));
            assert_eq!(given.trace_context, system.trace_context.as_deref());
            assert_eq!(given.lite_topic, system.lite_topic.as_deref());
            assert_eq!(given.priority, system.priority);
        }
    }

    proptest! {
        #[test]
        fn a_request_is_read_as_it_was_meant(messages in proptest::collection::vec(any_message(), 0..4)) {
            let encoded = SendMessageRequest { messages: messages.clone() }.encode_to_vec();
            check(&messages, &read(&encoded).expect("plain"));
        }

        #[test]
        fn a_message_given_in_parts_is_put_together(message in any_message()) {
            let (mut rest, mut first) = (message.clone(), Message::default());
            first.system_properties = rest.system_properties.clone();
            rest.system_properties = Some(SystemProperties { queue_id: 1, ..Default::default() });
            let mut parts = first.encode_to_vec();
            parts.extend(rest.encode_to_vec());
            let mut encoded = vec![0x0a];
            prost::encoding::encode_varint(parts.len() as u64, &mut encoded);
            encoded.extend(parts);
            prop_assert!(read(&encoded).is_none());
            let rewritten = rewrite(encoded.into()).expect("a request");
            check(&[message], &read(&rewritten).expect("plain"));
        }

        #[test]
        fn what_is_read_is_a_request(
            messages in proptest::collection::vec(any_message(), 1..3),
            at in any::<prop::sample::Index>(), to in any::<u8>(), end in any::<prop::sample::Index>(),
        ) {
            let mut encoded = SendMessageRequest { messages }.encode_to_vec();
            let at = at.index(encoded.len());
            encoded[at] = to;
            encoded.truncate(end.index(encoded.len()) + 1);
            // Nothing panics, and a rewritten request is always readable.
            let _ = read(&encoded);
            if let Ok(rewritten) = rewrite(encoded.into()) {
                prop_assert!(read(&rewritten).is_some());
            }
        }
    }

    #[test]
    fn garbage_is_neither_read_nor_rewritten() {
        let garbage: &[u8] = b"\x0a\xff\xff\xff\xff\x0f";
        assert!(read(garbage).is_none());
        assert!(rewrite(Bytes::from_static(garbage)).is_err());
    }
}
