//! Reads single fields out of an encoded public `Message` or `SystemProperties` without decoding
//! all of it. The store keeps the client's fields encoded; this is how it finds the few it needs.

/// Field numbers of `apache.rocketmq.v2.SystemProperties`; source: public contract.
pub mod system {
    pub const TAG: u32 = 1;
    pub const KEYS: u32 = 2;
    pub const MESSAGE_ID: u32 = 3;
    pub const BODY_DIGEST: u32 = 4;
    pub const BODY_ENCODING: u32 = 5;
    pub const MESSAGE_TYPE: u32 = 6;
    pub const BORN_TIMESTAMP: u32 = 7;
    pub const BORN_HOST: u32 = 8;
    pub const STORE_TIMESTAMP: u32 = 9;
    pub const STORE_HOST: u32 = 10;
    pub const DELIVERY_TIMESTAMP: u32 = 11;
    pub const RECEIPT_HANDLE: u32 = 12;
    pub const QUEUE_ID: u32 = 13;
    pub const QUEUE_OFFSET: u32 = 14;
    pub const INVISIBLE_DURATION: u32 = 15;
    pub const DELIVERY_ATTEMPT: u32 = 16;
    pub const MESSAGE_GROUP: u32 = 17;
    pub const TRACE_CONTEXT: u32 = 18;
    pub const ORPHANED_TRANSACTION_RECOVERY_DURATION: u32 = 19;
    pub const DEAD_LETTER_QUEUE: u32 = 20;
    pub const LITE_TOPIC: u32 = 21;
    pub const PRIORITY: u32 = 22;
}

/// Field numbers of `apache.rocketmq.v2.Message`.
pub mod message {
    pub const TOPIC: u32 = 1;
    pub const USER_PROPERTIES: u32 = 2;
    pub const SYSTEM_PROPERTIES: u32 = 3;
    pub const BODY: u32 = 4;
}

/// One field of an encoded message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed64(u64),
    Fixed32(u32),
}

/// Walks the fields of an encoded message in wire order; ends early at the first malformed one.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    is_broken: bool,
}

impl<'a> Fields<'a> {
    pub fn new(encoded: &'a [u8]) -> Self {
        Self { rest: encoded, is_broken: false }
    }

    /// Whether the walk ended before the end, at something that is not a field.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// How many bytes are left to walk.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = u32::try_from(self.varint()?).ok().filter(|key| *key >> 3 > 0)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        // Most keys and lengths are this short.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Some(u64::from(*byte));
        }
        let mut value = 0u64;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            // The tenth byte has room for one bit.
            if i == 9 && *byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        if length > self.rest.len() {
            return None;
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.is_broken {
            return None;
        }
        let field = self.field();
        self.is_broken = field.is_none();
        field
    }
}

/// The last value of a text field, as protobuf has it; `None` when absent or not text.
pub fn text(encoded: &[u8], number: u32) -> Option<&str> {
    texts(encoded, number).last()
}

/// Every value of a repeated text field, in order.
pub fn texts(encoded: &[u8], number: u32) -> impl Iterator<Item = &str> {
    Fields::new(encoded).filter_map(move |(n, value)| match value {
        Value::Bytes(bytes) if n == number => std::str::from_utf8(bytes).ok(),
        _ => None,
    })
}

/// The last value of an integer field.
pub fn integer(encoded: &[u8], number: u32) -> Option<u64> {
    let is_it = |(n, value)| match value {
        Value::Varint(v) if n == number => Some(v),
        _ => None,
    };
    Fields::new(encoded).filter_map(is_it).last()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::v2::SystemProperties;

    #[test]
    fn finds_what_was_encoded() {
        let encoded = SystemProperties {
            tag: Some("red".into()),
            keys: vec!["k1".into(), "k 2".into()],
            message_id: "ID".into(),
            message_type: 2,
            message_group: Some("g".into()),
            ..Default::default()
        }
        .encode_to_vec();
        assert_eq!(text(&encoded, system::TAG), Some("red"));
        assert_eq!(texts(&encoded, system::KEYS).collect::<Vec<_>>(), ["k1", "k 2"]);
        assert_eq!(text(&encoded, system::MESSAGE_GROUP), Some("g"));
        assert_eq!(integer(&encoded, system::MESSAGE_TYPE), Some(2));
        assert_eq!(text(&encoded, system::LITE_TOPIC), None);
    }

    #[test]
    fn every_cut_within_a_field_is_noticed() {
        let encoded = SystemProperties { message_id: "ID".into(), queue_id: 300, ..Default::default() }.encode_to_vec();
        let is_broken = |bytes: &[u8]| {
            let mut fields = Fields::new(bytes);
            while fields.next().is_some() {}
            fields.is_broken()
        };
        let broken: Vec<bool> = (0..=encoded.len()).map(|end| is_broken(&encoded[..end])).collect();
        // Four bytes of message_id, three of queue_id.
        assert_eq!(broken, [false, true, true, true, false, true, true, false]);
        assert!(is_broken(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]));
    }

    proptest! {
        #[test]
        fn hostile_bytes_end_the_walk(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let walked = Fields::new(&bytes).count();
            prop_assert!(walked <= bytes.len());
        }
    }
}
