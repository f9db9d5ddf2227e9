//! Public message ↔ stored message. What the client owns is stored as encoded fields of the public
//! contract; on the way out the server's fields are put beside them, and nothing is decoded.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes};
use centaur_apis::{
    fields::{message, system},
    store::{Delivery, NewMessage},
    v2::{self, DigestType, Encoding, MessageType},
};
use prost::{
    DecodeError, Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use prost_types::Timestamp;

use crate::{
    digest::{Hex, md5_hex},
    published::{Published, System},
};

/// Field of `ReceiveMessageResponse` that holds a message.
const RESPONSE_MESSAGE: u32 = 2;

/// A checked message as the store takes it: slices of `request` and the client's properties.
/// `kind` is what the message is by its content.
pub(crate) fn to_store(
    request: &Bytes,
    message: &Published<'_>,
    kind: MessageType,
    peer: Option<SocketAddr>,
    now_ms: u64,
) -> NewMessage {
    let properties = message.system.as_ref().map_or_else(Vec::new, |system| properties(system, kind, peer, now_ms));
    NewMessage {
        head: request.slice_ref(message.head),
        properties: properties.into(),
        body: request.slice_ref(message.body),
        ..Default::default()
    }
}

/// The client's system properties, encoded. What is not named here is the server's to say.
fn properties(system: &System<'_>, kind: MessageType, peer: Option<SocketAddr>, now_ms: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(room(system));
    if !system.tag.is_empty() {
        put_bytes(&mut out, system::TAG, system.tag.as_bytes());
    }
    for key in &system.keys {
        put_bytes(&mut out, system::KEYS, key.as_bytes());
    }
    put_bytes(&mut out, system::MESSAGE_ID, system.message_id.as_bytes());
    let is_packed = system.body_encoding == Encoding::Gzip as i32;
    let encoding = if is_packed { Encoding::Gzip } else { Encoding::Identity };
    put_integer(&mut out, system::BODY_ENCODING, encoding as u64);
    put_integer(&mut out, system::MESSAGE_TYPE, kind as u64);
    let born = system.born.filter(is_valid).unwrap_or(timestamp(now_ms));
    put_timestamp(&mut out, system::BORN_TIMESTAMP, born);
    if !system.born_host.trim().is_empty() {
        put_bytes(&mut out, system::BORN_HOST, system.born_host.as_bytes());
    } else if let Some(peer) = peer {
        put_bytes(&mut out, system::BORN_HOST, peer.to_string().as_bytes());
    }
    if let Some(delivery) = system.delivery {
        let readable = if is_valid(&delivery) { delivery } else { timestamp(now_ms) };
        put_timestamp(&mut out, system::DELIVERY_TIMESTAMP, readable);
    }
    if !system.message_group.is_empty() {
        put_bytes(&mut out, system::MESSAGE_GROUP, system.message_group.as_bytes());
    }
    if let Some(trace_context) = system.trace_context {
        put_bytes(&mut out, system::TRACE_CONTEXT, trace_context.as_bytes());
    }
    // What has no effect on a message of this kind is not told of it.
    if let Some(lite_topic) = system.lite_topic.filter(|_| kind == MessageType::Lite) {
        put_bytes(&mut out, system::LITE_TOPIC, lite_topic.as_bytes());
    }
    if let Some(priority) = system.priority.filter(|_| kind == MessageType::Priority) {
        put_integer(&mut out, system::PRIORITY, u64::from(priority.unsigned_abs()));
    }
    out
}

/// About how many bytes the properties take.
fn room(system: &System<'_>) -> usize {
    let keys: usize = system.keys.iter().map(|key| key.len() + 4).sum();
    let texts = [system.tag, system.message_id, system.born_host, system.message_group].map(str::len);
    let options = [system.trace_context, system.lite_topic].map(|text| text.map_or(0, str::len));
    128 + keys + texts.iter().sum::<usize>() + options.iter().sum::<usize>()
}

/// One stored message on its way to a client.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head: Bytes,
    stored: Bytes,
    body: Bytes,
    /// The server's fields of the system properties, encoded.
    added: Vec<u8>,
}

impl Outgoing {
    /// Puts the server's fields beside the stored ones; `store_host` is the broker's name.
    pub(crate) fn new(delivery: Delivery, digest: &Hex, store_host: &str) -> Self {
        let mut added = Vec::with_capacity(96 + store_host.len() + delivery.handle.len());
        put_digest(&mut added, digest);
        put_timestamp(&mut added, system::STORE_TIMESTAMP, timestamp(delivery.stored_ms));
        put_bytes(&mut added, system::STORE_HOST, store_host.as_bytes());
        if !delivery.handle.is_empty() {
            put_bytes(&mut added, system::RECEIPT_HANDLE, delivery.handle.as_bytes());
        }
        put_integer(&mut added, system::QUEUE_ID, delivery.queue.into());
        put_integer(&mut added, system::QUEUE_OFFSET, delivery.offset);
        put_integer(&mut added, system::DELIVERY_ATTEMPT, delivery.attempt.max(1).into());
        Self { head: delivery.head, stored: delivery.properties, body: delivery.body, added }
    }

    /// The bytes of the `ReceiveMessageResponse` that carries this message.
    pub(crate) fn encoded_len(&self) -> usize {
        let message = self.message_len();
        key_len(RESPONSE_MESSAGE) + encoded_len_varint(message as u64) + message
    }

    /// Writes exactly `encoded_len` bytes.
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        put_length(out, RESPONSE_MESSAGE, self.message_len());
        self.encode_message(out);
    }

    fn encode_message(&self, out: &mut impl BufMut) {
        out.put_slice(&self.head);
        // One field, not two: not every decoder merges a message given in parts.
        put_length(out, message::SYSTEM_PROPERTIES, self.stored.len() + self.added.len());
        out.put_slice(&self.stored);
        out.put_slice(&self.added);
        put_length(out, message::BODY, self.body.len());
        out.put_slice(&self.body);
    }

    fn message_len(&self) -> usize {
        let properties = self.stored.len() + self.added.len();
        let framed = |field, length| key_len(field) + encoded_len_varint(length as u64) + length;
        self.head.len() + framed(message::SYSTEM_PROPERTIES, properties) + framed(message::BODY, self.body.len())
    }
}

/// Stored messages as the public contract has them, for the answers that are not put together by
/// hand. An error when a store gives something else than what was once published.
pub(crate) fn to_public(deliveries: Vec<Delivery>, store_host: &str) -> Result<Vec<v2::Message>, DecodeError> {
    let bodies: Vec<Bytes> = deliveries.iter().map(|delivery| delivery.body.clone()).collect();
    let digests = md5_hex(&bodies);
    let read = |(delivery, digest): (Delivery, &_)| {
        let outgoing = Outgoing::new(delivery, digest, store_host);
        let mut encoded = Vec::with_capacity(outgoing.message_len());
        outgoing.encode_message(&mut encoded);
        v2::Message::decode(Bytes::from(encoded))
    };
    deliveries.into_iter().zip(&digests).map(read).collect()
}

/// A wall-clock time in ms as protobuf has it.
pub(crate) fn timestamp(ms: u64) -> Timestamp {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    // Below 10^9 by construction.
    let nanos = (ms % 1000) as i32 * 1_000_000;
    Timestamp { seconds, nanos }
}

/// Whether other clients can read a time: its seconds lie in the years 1 to 9999.
fn is_valid(at: &Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&at.seconds) && (0..1_000_000_000).contains(&at.nanos)
}

fn put_digest(out: &mut Vec<u8>, digest: &Hex) {
    const TYPE: u32 = 1;
    const CHECKSUM: u32 = 2;
    let length = 2 + 2 + digest.len();
    put_length(out, system::BODY_DIGEST, length);
    put_integer(out, TYPE, DigestType::Md5 as u64);
    put_bytes(out, CHECKSUM, digest);
}

fn put_timestamp(out: &mut Vec<u8>, field: u32, at: Timestamp) {
    put_length(out, field, at.encoded_len());
    at.encode_raw(out);
}

fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_length(out, field, bytes.len());
    out.put_slice(bytes);
}

fn put_integer(out: &mut Vec<u8>, field: u32, value: u64) {
    encode_key(field, WireType::Varint, out);
    encode_varint(value, out);
}

fn put_length(out: &mut impl BufMut, field: u32, length: usize) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use centaur_apis::v2::{
        Digest, Message, ReceiveMessageResponse, Resource, SendMessageRequest, SystemProperties,
        receive_message_response::Content,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{digest::md5_hex, published::read};

    const NOW_MS: u64 = 1_700_000_000_123;

    fn published(keys: Vec<String>, properties: BTreeMap<String, String>, body: Vec<u8>) -> Message {
        let system_properties = SystemProperties {
            tag: Some("red".into()),
            keys,
            message_id: "01AB".into(),
            message_group: Some("g".into()),
            trace_context: Some("trace".into()),
            ..Default::default()
        };
        Message {
            topic: Some(Resource { resource_namespace: "ns".into(), name: "orders".into() }),
            user_properties: properties,
            system_properties: Some(system_properties),
            body: body.into(),
        }
    }

    fn stored(message: Message, kind: MessageType, peer: Option<SocketAddr>) -> NewMessage {
        let request = Bytes::from(SendMessageRequest { messages: vec![message] }.encode_to_vec());
        let messages = read(&request).expect("plain");
        to_store(&request, &messages[0], kind, peer, NOW_MS)
    }

    fn delivered(stored: NewMessage, queue: u32, offset: u64, attempt: u32) -> Delivery {
        Delivery {
            head: stored.head,
            properties: stored.properties,
            body: stored.body,
            handle: "handle".into(),
            queue,
            offset,
            attempt,
            stored_ms: NOW_MS,
            visible_at_ms: 0,
            unplaced: false,
        }
    }

    fn sent_and_received(message: Message, queue: u32, offset: u64, attempt: u32) -> Message {
        let new = stored(message, MessageType::Fifo, None);
        let digest = md5_hex(std::slice::from_ref(&new.body)).remove(0);
        let outgoing = Outgoing::new(delivered(new, queue, offset, attempt), &digest, "broker");
        let mut frame = Vec::new();
        outgoing.encode(&mut frame);
        assert_eq!(frame.len(), outgoing.encoded_len());
        match ReceiveMessageResponse::decode(frame.as_slice()).expect("a frame").content {
            Some(Content::Message(message)) => message,
            other => panic!("{other:?} is not a message"),
        }
    }

    proptest! {
        #[test]
        fn what_was_published_arrives_with_the_servers_fields(
            keys in proptest::collection::vec(".{0,20}", 0..5),
            properties in proptest::collection::btree_map(".{0,20}", ".{0,200}", 0..20),
            body in proptest::collection::vec(any::<u8>(), 1..5000),
            queue in 0..1000u32, offset in 0..u64::MAX / 2, attempt in 1..100u32,
        ) {
            let message = published(keys, properties, body);
            let digest = md5_hex(std::slice::from_ref(&message.body)).remove(0);
            let mut expected = message.clone();
            let system = expected.system_properties.as_mut().expect("set");
            system.body_digest = Some(Digest {
                r#type: DigestType::Md5.into(),
                checksum: String::from_utf8_lossy(&digest).into_owned(),
            });
            system.body_encoding = Encoding::Identity.into();
            system.message_type = MessageType::Fifo.into();
            system.born_timestamp = Some(timestamp(NOW_MS));
            system.store_timestamp = Some(timestamp(NOW_MS));
            system.store_host = "broker".into();
            system.receipt_handle = Some("handle".into());
            system.queue_id = queue as i32;
            system.queue_offset = Some(offset as i64);
            system.delivery_attempt = Some(attempt as i32);
            prop_assert_eq!(sent_and_received(message, queue, offset, attempt), expected);
        }
    }

    #[test]
    fn a_message_reads_the_same_in_every_answer() {
        let message = published(vec!["k".into()], BTreeMap::new(), vec![1, 2, 3]);
        let received = sent_and_received(message.clone(), 3, 7, 2);
        let given = delivered(stored(message, MessageType::Fifo, None), 3, 7, 2);
        assert_eq!(to_public(vec![given], "broker"), Ok(vec![received]));
        let damaged = Delivery { properties: Bytes::from_static(&[0xff]), ..Default::default() };
        assert!(to_public(vec![damaged], "broker").is_err());
    }

    #[test]
    fn what_has_no_effect_is_not_kept() {
        let mut message = published(vec![], BTreeMap::new(), vec![1]);
        let system = message.system_properties.as_mut().expect("set");
        system.lite_topic = Some("lite".into());
        system.priority = Some(3);
        system.delivery_timestamp = Some(Timestamp { seconds: i64::MIN, nanos: -1 });
        let kept = |kind| SystemProperties::decode(stored(message.clone(), kind, None).properties).expect("encoded");
        let half = kept(MessageType::Transaction);
        assert_eq!((half.lite_topic, half.priority), (None, None));
        assert_eq!(half.delivery_timestamp, Some(timestamp(NOW_MS)), "others could not read the one given");
        assert_eq!(kept(MessageType::Lite).lite_topic.as_deref(), Some("lite"));
        assert_eq!(kept(MessageType::Priority).priority, Some(3));
    }

    #[test]
    fn a_producer_cannot_speak_for_the_server() {
        let mut message = published(vec![], BTreeMap::new(), vec![1]);
        let system = message.system_properties.as_mut().expect("set");
        system.delivery_attempt = Some(1_234_567);
        system.queue_id = 99;
        system.queue_offset = Some(5);
        system.receipt_handle = Some("forged".into());
        system.store_host = "elsewhere".into();
        system.body_digest = Some(Digest { r#type: DigestType::Crc32.into(), checksum: "0".into() });
        let new = stored(message, MessageType::Normal, None);
        let kept = SystemProperties::decode(new.properties).expect("encoded");
        assert_eq!((kept.delivery_attempt, kept.queue_id, kept.queue_offset), (None, 0, None));
        assert_eq!((kept.receipt_handle, kept.body_digest, kept.store_host.as_str()), (None, None, ""));
    }

    #[test]
    fn what_a_producer_leaves_out_is_filled_in() {
        let mut message = published(vec![], BTreeMap::new(), vec![1]);
        let system = message.system_properties.as_mut().expect("set");
        system.born_timestamp = Some(Timestamp { seconds: 1, nanos: -5 });
        system.born_host = " ".into();
        system.body_encoding = 77;
        system.tag = Some(String::new());
        let peer = "10.1.2.3:4567".parse().ok();
        let kept = stored(message.clone(), MessageType::Normal, peer).properties;
        let kept = SystemProperties::decode(kept).expect("encoded");
        assert_eq!(kept.born_timestamp, Some(timestamp(NOW_MS)));
        assert_eq!(kept.born_host, "10.1.2.3:4567");
        assert_eq!(kept.body_encoding(), Encoding::Identity);
        assert_eq!(kept.tag, None);

        let system = message.system_properties.as_mut().expect("set");
        system.born_timestamp = Some(Timestamp { seconds: 1, nanos: 5 });
        system.born_host = "client".into();
        system.body_encoding = Encoding::Gzip.into();
        let kept = SystemProperties::decode(stored(message, MessageType::Normal, peer).properties);
        let kept = kept.expect("encoded");
        assert_eq!(kept.born_timestamp, Some(Timestamp { seconds: 1, nanos: 5 }));
        assert_eq!((kept.born_host.as_str(), kept.body_encoding()), ("client", Encoding::Gzip));
    }
}
