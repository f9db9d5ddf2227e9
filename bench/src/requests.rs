//! Requests of the public contract, encoded once before the load starts. Only the message ids and
//! what sets messages apart by kind change from call to call, and they are written in place while
//! the request goes to the wire.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, Bytes};
use centaur_apis::v2;
use prost::Message as _;

/// Digits of a message's number at the end of its id.
const NUMBER_DIGITS: usize = 16;
/// Stands for the number while a template is made; nothing else in a request has such a run.
const PLACEHOLDER: [u8; NUMBER_DIGITS] = [b'~'; NUMBER_DIGITS];
/// Stands in a message for which of several it belongs to: eight hexadecimal digits that count up
/// from message to message and begin anew.
pub(crate) const MEMBER: &str = "^^^^^^^^";
const MEMBER_DIGITS: usize = MEMBER.len();
/// How long a lease lasts; longer than any call of a load takes.
const INVISIBLE_SECONDS: i64 = 60;
/// How long a parked receive waits; the longest that the contract allows.
pub(crate) const POLL_SECONDS: i64 = 20;

/// Tells the messages of this run from those of others: 18 characters before every number.
#[derive(Clone, Debug)]
pub(crate) struct Run(String);

/// An encoded request with places for what differs between messages.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    encoded: Bytes,
    places: Arc<[Place]>,
    messages: u64,
    /// How many members there are.
    members: u64,
}

/// Where something is written into a template.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    /// Which message of the request it is in.
    message: u64,
    holds: Holds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Number,
    Member,
}

/// What goes to the wire.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// Bytes as they are.
    Whole(Bytes),
    /// A template whose messages are numbered from `first` on.
    Numbered { template: Template, first: u64 },
}

/// The echo's message: one field of bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Blob {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) content: Bytes,
}

impl Run {
    /// A name that no other run on this machine has.
    pub(crate) fn begin() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mixed = (now.as_micros() as u64) << 16 | u64::from(std::process::id() & 0xffff);
        Self(format!("01{mixed:016X}"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of a message of this run; `None` for the messages of others.
    pub(crate) fn number_of(&self, message_id: &str) -> Option<u64> {
        let digits = message_id.strip_prefix(self.0.as_str())?;
        if digits.len() != NUMBER_DIGITS {
            return None;
        }
        u64::from_str_radix(digits, 16).ok()
    }

    /// A SendMessage request of `batch` messages with bodies of `size` bytes.
    pub(crate) fn send(&self, topic: &str, size: usize, batch: usize) -> Template {
        Template::new(&self.message(topic, size), batch, 1)
    }

    /// A normal message with a body of `size` bytes, to make a template of.
    pub(crate) fn message(&self, topic: &str, size: usize) -> v2::Message {
        let placeholder = String::from_utf8_lossy(&PLACEHOLDER);
        v2::Message {
            topic: Some(resource(topic)),
            system_properties: Some(v2::SystemProperties {
                message_id: format!("{}{placeholder}", self.0),
                message_type: v2::MessageType::Normal.into(),
                body_encoding: v2::Encoding::Identity.into(),
                born_timestamp: Some(SystemTime::now().into()),
                born_host: "bench".into(),
                ..Default::default()
            }),
            body: body(size),
            ..Default::default()
        }
    }
}

impl Template {
    /// A SendMessage request of `batch` messages like this one, which has a number and may have
    /// places for one of `members`.
    pub(crate) fn new(message: &v2::Message, batch: usize, members: u64) -> Self {
        let encoded = v2::SendMessageRequest { messages: vec![message.clone(); batch] }.encode_to_vec();
        let mut places: Vec<_> = (0..encoded.len()).filter_map(|at| Place::find(&encoded, at)).collect();
        // All messages have as many places.
        let per_message = (places.len() / batch.max(1)).max(1);
        for (i, place) in places.iter_mut().enumerate() {
            place.message = (i / per_message) as u64;
        }
        Self { encoded: encoded.into(), places: places.into(), messages: batch as u64, members: members.max(1) }
    }

    pub(crate) fn numbered(&self, first: u64) -> Payload {
        Payload::Numbered { template: self.clone(), first }
    }

    /// Messages in one request.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// An echo request of exactly as many bytes.
    pub(crate) fn echo(&self) -> Payload {
        let length = self.encoded.len();
        // The key takes one byte and the length as many as it needs.
        let content = length.saturating_sub(1 + prost::length_delimiter_len(length));
        Payload::Whole(Blob { content: body(content) }.encode_to_vec().into())
    }
}

impl Payload {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Numbered { template, .. } => template.encoded.len(),
        }
    }

    pub(crate) fn write(&self, out: &mut impl BufMut) {
        match self {
            Self::Whole(bytes) => out.put_slice(bytes),
            Self::Numbered { template, first } => template.write(*first, out),
        }
    }
}

impl Template {
    fn write(&self, first: u64, out: &mut impl BufMut) {
        let mut written = 0;
        for place in self.places.iter() {
            out.put_slice(&self.encoded[written..place.at]);
            let number = first + place.message;
            match place.holds {
                Holds::Number => out.put_slice(&digits::<NUMBER_DIGITS>(number)),
                Holds::Member => out.put_slice(&digits::<MEMBER_DIGITS>(number % self.members)),
            }
            written = place.at + place.holds.digits();
        }
        out.put_slice(&self.encoded[written..]);
    }
}

impl Place {
    fn find(encoded: &[u8], at: usize) -> Option<Self> {
        let rest = &encoded[at..];
        let holds = if rest.starts_with(&PLACEHOLDER) {
            Holds::Number
        } else if rest.starts_with(MEMBER.as_bytes()) {
            Holds::Member
        } else {
            return None;
        };
        Some(Self { at, message: 0, holds })
    }
}

impl Holds {
    fn digits(self) -> usize {
        match self {
            Self::Number => NUMBER_DIGITS,
            Self::Member => MEMBER_DIGITS,
        }
    }
}

/// The filter that lets every message through.
pub(crate) fn everything() -> v2::FilterExpression {
    v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: "*".into() }
}

/// A ReceiveMessage request for what passes `filter`, with a poll of the longest kind.
pub(crate) fn receive(group: &str, queue: &v2::MessageQueue, filter: v2::FilterExpression, batch: i32) -> Bytes {
    let request = v2::ReceiveMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(queue.clone()),
        filter_expression: Some(filter),
        batch_size: batch,
        invisible_duration: Some(prost_types::Duration { seconds: INVISIBLE_SECONDS, nanos: 0 }),
        auto_renew: false,
        long_polling_timeout: Some(prost_types::Duration { seconds: POLL_SECONDS, nanos: 0 }),
        attempt_id: None,
    };
    request.encode_to_vec().into()
}

/// One AckMessage request for everything that one receive brought.
pub(crate) fn ack(group: &str, topic: &str, entries: Vec<v2::AckMessageEntry>) -> Bytes {
    let request = v2::AckMessageRequest { group: Some(resource(group)), topic: Some(resource(topic)), entries };
    request.encode_to_vec().into()
}

pub(crate) fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

/// Text that does not repeat at once, and never holds a placeholder.
fn body(size: usize) -> Bytes {
    (0..size).map(|i| b'a' + (i % 23) as u8).collect()
}

fn digits<const N: usize>(number: u64) -> [u8; N] {
    std::array::from_fn(|i| b"0123456789ABCDEF"[(number >> (4 * (N - 1 - i)) & 15) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(payload: &Payload) -> Vec<u8> {
        let mut out = Vec::new();
        payload.write(&mut out);
        assert_eq!(out.len(), payload.len());
        out
    }

    #[test]
    fn every_message_gets_its_own_number() {
        let run = Run::begin();
        let template = run.send("orders", 1024, 32);
        assert_eq!(template.messages(), 32);
        let sent = written(&template.numbered(0xfe));
        let request = v2::SendMessageRequest::decode(sent.as_slice()).expect("a request");
        for (number, message) in (0xfe..).zip(&request.messages) {
            let id = &message.system_properties.as_ref().expect("properties").message_id;
            assert_eq!(run.number_of(id), Some(number));
            assert_eq!(message.body.len(), 1024);
        }
    }

    #[test]
    fn members_take_turns() {
        let mut message = Run::begin().message("orders", 10);
        message.user_properties.insert("half".into(), format!("h-{MEMBER}"));
        let properties = message.system_properties.as_mut().expect("properties");
        properties.message_group = Some(format!("g-{MEMBER}"));
        let sent = written(&Template::new(&message, 3, 18).numbered(16));
        let request = v2::SendMessageRequest::decode(sent.as_slice()).expect("a request");
        let member = |message: &v2::Message| {
            let group = message.system_properties.as_ref().and_then(|properties| properties.message_group.clone());
            (message.user_properties["half"].clone(), group.expect("a group"))
        };
        let members: Vec<_> = request.messages.iter().map(member).collect();
        let expected =
            ["00000010", "00000011", "00000000"].map(|digits| (format!("h-{digits}"), format!("g-{digits}")));
        assert_eq!(members, expected);
    }

    #[test]
    fn messages_of_others_have_no_number() {
        let run = Run("01AAAAAAAAAAAAAAAA".into());
        for id in ["", "01AAAAAAAAAAAAAAAA", "01AAAAAAAAAAAAAAAB0000000000000001", "01AAAAAAAAAAAAAAAA000000000000000x"]
        {
            assert_eq!(run.number_of(id), None, "{id:?}");
        }
        assert_eq!(run.number_of("01AAAAAAAAAAAAAAAA000000000000002A"), Some(42));
    }

    #[test]
    fn an_echo_is_as_long_as_the_send_it_stands_for() {
        for size in [0, 1, 100, 127, 1024, 20_000, 4 << 20] {
            let template = Run::begin().send("orders", size, 1);
            let difference = template.echo().len().abs_diff(template.numbered(0).len());
            assert!(difference <= 1, "{size}: {difference}");
        }
    }
}
