//! The bytes of one record: a message in a fixed layout, or a control event as protobuf.
//! Layout: docs/format.md.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use centaur_apis::{
    fields::{self, system},
    hash64,
    log::Control,
};
use prost::Message as _;
use thiserror::Error;

/// Length, checksum, kind, flags, schema.
pub const HEADER_BYTES: usize = 12;
/// Where in a record its checksums begin.
const SUMMED_AT: usize = 8;
/// What a message record holds before its key hashes.
pub(super) const MESSAGE_FIXED_BYTES: usize = 68;
/// No record is longer; a length beyond it is damage, not data.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// Records begin at multiples of this within a block.
pub const ALIGNMENT: usize = 8;

const KIND_MESSAGE: u8 = 1;
const KIND_CONTROL: u8 = 2;
const SCHEMA: u16 = 1;

/// Flags of a message record.
const SCHEDULED: u8 = 1;
const HALF: u8 = 2;
const HAS_TTL: u8 = 4;
/// What comes before the body has a checksum of its own.
const HAS_TEXT_SUM: u8 = 8;
const TEXT_SUM_BYTES: usize = 4;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("record is cut short")]
    Truncated,
    #[error("record checksum does not match")]
    Checksum,
    #[error("record has kind {0}, which this version does not know")]
    Kind(u8),
    #[error("record has schema {0}, which this version does not know")]
    Schema(u16),
    #[error("record contents are malformed")]
    Contents,
}

/// Where a message stands when it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its queue, at this offset.
    Queued(u64),
    /// Not before this time, ms.
    Scheduled(u64),
    /// Not before its transaction is committed; its producer is first asked about it at this time, ms.
    Half(u64),
}

/// What a user sent, with its place. `head` and `properties` are encoded fields of the
/// public Message: an answer is put together around them without decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: u32,
    pub queue: u32,
    pub place: Place,
    /// Store time, ms.
    pub stored_ms: u64,
    /// How long it may wait in its queue, ms; 0: as long as the topic says.
    pub ttl_ms: u64,
    /// Hash of the tag; 0 without.
    pub tag_hash: u64,
    /// Hash of the message group; 0 without.
    pub group_hash: u64,
    /// Hashes of the message id and the keys, for look-up.
    pub key_hashes: Vec<u64>,
    pub head: Bytes,
    pub properties: Bytes,
    pub body: Bytes,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Message(Message),
    Control(Control),
}

impl Message {
    /// A message as it comes in, its look-up hashes taken from its encoded properties.
    pub fn new(
        topic: u32,
        queue: u32,
        place: Place,
        stored_ms: u64,
        head: Bytes,
        properties: Bytes,
        body: Bytes,
    ) -> Self {
        let hash =
            |number| fields::text(&properties, number).filter(|t| !t.is_empty()).map_or(0, |t| hash64(t.as_bytes()));
        let (tag_hash, group_hash) = (hash(system::TAG), hash(system::MESSAGE_GROUP));
        let id = fields::text(&properties, system::MESSAGE_ID);
        let keys = fields::texts(&properties, system::KEYS);
        let key_hashes = id.into_iter().chain(keys).map(|text| hash64(text.as_bytes())).collect();
        Self { topic, queue, place, stored_ms, ttl_ms: 0, tag_hash, group_hash, key_hashes, head, properties, body }
    }

    /// Its offset, if it is in its queue.
    pub fn offset(&self) -> Option<u64> {
        match self.place {
            Place::Queued(offset) => Some(offset),
            Place::Scheduled(_) | Place::Half(_) => None,
        }
    }

    /// Bytes the record takes in a block.
    pub fn encoded_len(&self) -> usize {
        let hashes = 8 * self.key_hashes.len() + if self.ttl_ms > 0 { 8 } else { 0 };
        let text = MESSAGE_FIXED_BYTES + hashes + self.head.len() + self.properties.len() + TEXT_SUM_BYTES;
        padded(text + self.body.len())
    }

    /// Appends the record to a block body.
    pub fn encode(&self, out: &mut BytesMut) {
        let (flag, place) = match self.place {
            Place::Queued(offset) => (0, offset),
            Place::Scheduled(due_ms) => (SCHEDULED, due_ms),
            Place::Half(check_ms) => (HALF, check_ms),
        };
        let ttl_flag = if self.ttl_ms > 0 { HAS_TTL } else { 0 };
        let start = begin(out, KIND_MESSAGE, flag | ttl_flag | HAS_TEXT_SUM);
        out.put_u32_le(self.topic);
        out.put_u32_le(self.queue);
        out.put_u64_le(place);
        out.put_u64_le(self.stored_ms);
        out.put_u64_le(self.tag_hash);
        out.put_u64_le(self.group_hash);
        out.put_u32_le(len_u32(self.head.len()));
        out.put_u32_le(len_u32(self.properties.len()));
        out.put_u32_le(len_u32(self.body.len()));
        out.put_u16_le(u16::try_from(self.key_hashes.len()).expect("keys are bounded by the properties' size"));
        out.put_u16_le(0);
        for hash in &self.key_hashes {
            out.put_u64_le(*hash);
        }
        if self.ttl_ms > 0 {
            out.put_u64_le(self.ttl_ms);
        }
        out.put_slice(&self.head);
        out.put_slice(&self.properties);
        let text_sum = checksum(&out[start + SUMMED_AT..]);
        out.put_u32_le(text_sum);
        out.put_slice(&self.body);
        finish(out, start);
    }

    fn decode(flags: u8, payload: &Bytes) -> Result<Self, Malformed> {
        let place: fn(u64) -> Place = match flags & !(HAS_TTL | HAS_TEXT_SUM) {
            0 => Place::Queued,
            SCHEDULED => Place::Scheduled,
            HALF => Place::Half,
            _ => return Err(Malformed::Contents),
        };
        let parts = Parts::of(flags, payload)?;
        let fixed = &payload[..MESSAGE_FIXED_BYTES - HEADER_BYTES];
        let hashes = payload[parts.key_hashes].chunks_exact(8);
        Ok(Self {
            topic: u32_at(fixed, 0),
            queue: u32_at(fixed, 4),
            place: place(u64_at(fixed, 8)),
            stored_ms: u64_at(fixed, 16),
            ttl_ms: if parts.ttl.is_empty() { 0 } else { u64_at(&payload[parts.ttl], 0) },
            tag_hash: u64_at(fixed, 24),
            group_hash: u64_at(fixed, 32),
            key_hashes: hashes.map(|hash| u64_at(hash, 0)).collect(),
            head: payload.slice(parts.head),
            properties: payload.slice(parts.properties),
            body: payload.slice(parts.body),
        })
    }
}

/// Where the parts of a message lie in its payload; `ttl` is empty when there is none.
struct Parts {
    key_hashes: Range<usize>,
    ttl: Range<usize>,
    head: Range<usize>,
    properties: Range<usize>,
    /// Empty when there is none.
    text_sum: Range<usize>,
    body: Range<usize>,
}

impl Parts {
    /// Of a payload that is there as a whole.
    fn of(flags: u8, payload: &[u8]) -> Result<Self, Malformed> {
        Self::within(flags, payload, payload.len())
    }

    /// Of a payload of `length` bytes, its fixed part at least.
    fn within(flags: u8, payload: &[u8], length: usize) -> Result<Self, Malformed> {
        let fixed = payload.get(..MESSAGE_FIXED_BYTES - HEADER_BYTES).ok_or(Malformed::Truncated)?;
        let keys = usize::from(u16::from_le_bytes([fixed[52], fixed[53]]));
        let mut at = fixed.len();
        let mut take = |bytes: usize| {
            let end = at.checked_add(bytes).filter(|end| *end <= length).ok_or(Malformed::Truncated)?;
            let part = at..end;
            at = end;
            Ok(part)
        };
        Ok(Self {
            key_hashes: take(8 * keys)?,
            ttl: take(if flags & HAS_TTL == 0 { 0 } else { 8 })?,
            head: take(u32_at(fixed, 40) as usize)?,
            properties: take(u32_at(fixed, 44) as usize)?,
            text_sum: take(if flags & HAS_TEXT_SUM == 0 { 0 } else { TEXT_SUM_BYTES })?,
            body: take(u32_at(fixed, 48) as usize)?,
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// The encoded head and system properties of a message whose checksum was verified before, or that
/// has not left memory; nothing behind them has to be there.
pub fn message_text(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (payload, parts) = message_parts(bytes)?;
    let part = |range: Range<usize>| payload.get(range).ok_or(Malformed::Truncated);
    Ok((part(parts.head)?, part(parts.properties)?))
}

/// How long such a message is of use once it is in its queue, ms; 0 if it does not say.
pub fn message_ttl_ms(bytes: &[u8]) -> Result<u64, Malformed> {
    let (payload, parts) = message_parts(bytes)?;
    match payload.get(parts.ttl).ok_or(Malformed::Truncated)? {
        [] => Ok(0),
        ttl => Ok(u64_at(ttl, 0)),
    }
}

/// How many bytes of a message record, from its first on, can be verified without its body; none of
/// another record, or of one from before there was a checksum for that. `bytes` are the record's
/// first, its fixed part at least, and not verified yet.
pub(super) fn text_bytes(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    match message_parts(bytes) {
        Ok((_, parts)) if parts.text_sum.is_empty() => Ok(None),
        Ok((_, parts)) => Ok(Some(HEADER_BYTES + parts.text_sum.end)),
        Err(Malformed::Kind(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the first bytes of a message record, as many as [`text_bytes`] said, are what was written.
pub(super) fn is_text_whole(bytes: &[u8]) -> bool {
    let text = bytes.len().checked_sub(TEXT_SUM_BYTES).and_then(|end| Some((bytes.get(SUMMED_AT..end)?, end)));
    text.is_some_and(|(text, end)| checksum(text).to_le_bytes() == bytes[end..])
}

/// The part of a message's payload that is there, and where the parts of all of it lie.
fn message_parts(bytes: &[u8]) -> Result<(&[u8], Parts), Malformed> {
    let length = length(bytes)?;
    let payload = &bytes[HEADER_BYTES..length.min(bytes.len())];
    match bytes[8] {
        KIND_MESSAGE => Ok((payload, Parts::within(bytes[9], payload, length - HEADER_BYTES)?)),
        kind => Err(Malformed::Kind(kind)),
    }
}

/// Appends a control event to a block body.
pub fn encode_control(control: &Control, out: &mut BytesMut) {
    let start = begin(out, KIND_CONTROL, 0);
    control.encode(out).expect("a BytesMut grows");
    finish(out, start);
}

/// Bytes a control event takes in a block.
pub fn control_len(control: &Control) -> usize {
    padded(HEADER_BYTES + control.encoded_len())
}

/// Reads one record from the front of `bytes`, verifying its checksum, and says how many bytes of
/// the block it takes.
pub fn decode(bytes: &Bytes) -> Result<(Record, usize), Malformed> {
    let length = verify(bytes)?;
    Ok((decode_verified(bytes)?, padded(length)))
}

/// Checks the length and the checksum of the record at the front of `bytes`; gives its length
/// without padding.
pub fn verify(bytes: &[u8]) -> Result<usize, Malformed> {
    let length = length(bytes)?;
    if length > bytes.len() {
        return Err(Malformed::Truncated);
    }
    let stored = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    if checksum(&bytes[SUMMED_AT..length]) == stored { Ok(length) } else { Err(Malformed::Checksum) }
}

/// Whether the bytes are one record with its padding, and its checksum matches.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    has_its_length(bytes) && verify(bytes).is_ok()
}

/// Whether the bytes have exactly the length their header claims.
pub(super) fn has_its_length(bytes: &[u8]) -> bool {
    length(bytes).is_ok_and(|length| length <= bytes.len() && bytes.len() - length < ALIGNMENT)
}

/// The length a record's header claims, without padding, within what a record may have.
pub fn length(header: &[u8]) -> Result<usize, Malformed> {
    let header = header.get(..HEADER_BYTES).ok_or(Malformed::Truncated)?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if (HEADER_BYTES..=RECORD_BYTES_MAX).contains(&length) { Ok(length) } else { Err(Malformed::Truncated) }
}

/// Reads a record whose checksum was verified before.
pub fn decode_verified(bytes: &Bytes) -> Result<Record, Malformed> {
    let length = length(bytes)?;
    if length > bytes.len() {
        return Err(Malformed::Truncated);
    }
    let header = &bytes[..HEADER_BYTES];
    let schema = u16::from_le_bytes([header[10], header[11]]);
    if schema != SCHEMA {
        return Err(Malformed::Schema(schema));
    }
    let payload = bytes.slice(HEADER_BYTES..length);
    match header[8] {
        KIND_MESSAGE => Message::decode(header[9], &payload).map(Record::Message),
        KIND_CONTROL => Control::decode(payload).map(Record::Control).map_err(|_| Malformed::Contents),
        kind => Err(Malformed::Kind(kind)),
    }
}

/// CRC-32C, as everywhere in the log.
pub fn checksum(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(crc).expect("a 32-bit checksum")
}

fn begin(out: &mut BytesMut, kind: u8, flags: u8) -> usize {
    let start = out.len();
    out.put_u64_le(0); // length and checksum, filled by `finish`
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u16_le(SCHEMA);
    start
}

fn finish(out: &mut BytesMut, start: usize) {
    let length = out.len() - start;
    let crc = checksum(&out[start + SUMMED_AT..]);
    out[start..start + 4].copy_from_slice(&len_u32(length).to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.put_bytes(0, padded(length) - length);
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

fn len_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a record is shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use centaur_apis::{
        log::{Acked, control::Event},
        v2,
    };

    use super::*;

    fn message() -> Message {
        let properties = v2::SystemProperties {
            tag: Some("red".into()),
            keys: vec!["k1".into(), "k2".into()],
            message_id: "01AB".into(),
            message_group: Some("g".into()),
            ..Default::default()
        };
        Message::new(
            3,
            1,
            Place::Queued(42),
            1_700_000_000_000,
            "head".into(),
            properties.encode_to_vec().into(),
            "body".into(),
        )
    }

    fn records() -> [Record; 4] {
        let acked = Acked { group: 1, topic: 2, queue: 3, offsets: vec![7, 1, 1] };
        [
            Record::Message(message()),
            Record::Control(Control { event: Some(Event::Acked(acked)) }),
            Record::Message(Message { place: Place::Scheduled(1_700_000_000_001), ..message() }),
            Record::Message(Message { place: Place::Half(9), ttl_ms: 60_000, ..message() }),
        ]
    }

    fn encode(record: &Record) -> Bytes {
        let mut out = BytesMut::new();
        match record {
            Record::Message(m) => m.encode(&mut out),
            Record::Control(c) => encode_control(c, &mut out),
        }
        out.freeze()
    }

    #[test]
    fn a_record_comes_back_as_it_went() {
        for record in records() {
            let bytes = encode(&record);
            assert_eq!(decode(&bytes), Ok((record, bytes.len())));
        }
        assert_eq!(encode(&records()[0]).len(), message().encoded_len());
    }

    #[test]
    fn the_text_of_a_message_is_found_without_the_rest() {
        for record in records() {
            let bytes = encode(&record);
            let Record::Message(message) = record else {
                assert_eq!(message_text(&bytes), Err(Malformed::Kind(KIND_CONTROL)));
                continue;
            };
            let text = Ok((&message.head[..], &message.properties[..]));
            assert_eq!(message_text(&bytes), text);
            let text_bytes = text_bytes(&bytes[..MESSAGE_FIXED_BYTES]).expect("a message").expect("with a checksum");
            assert_eq!(message_text(&bytes[..text_bytes]), text);
            assert_eq!(message_ttl_ms(&bytes[..text_bytes]), Ok(message.ttl_ms));
            assert!((0..text_bytes - TEXT_SUM_BYTES).all(|cut| message_text(&bytes[..cut]).is_err()));
        }
    }

    #[test]
    fn every_flipped_bit_of_the_text_is_found_without_the_rest() {
        let bytes = encode(&Record::Message(message()));
        let text_bytes = text_bytes(&bytes).expect("a message").expect("with a checksum");
        assert!(is_text_whole(&bytes[..text_bytes]));
        assert!((0..text_bytes).all(|cut| !is_text_whole(&bytes[..cut])));
        for bit in SUMMED_AT * 8..text_bytes * 8 {
            let mut flipped = bytes[..text_bytes].to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_text_whole(&flipped), "bit {bit}");
        }
    }

    /// As the first version wrote them.
    #[test]
    fn a_message_without_a_checksum_for_its_text_is_read() {
        let message = message();
        let bytes = encode(&Record::Message(message.clone()));
        let text_end = text_bytes(&bytes).expect("a message").expect("with a checksum");
        let length = length(&bytes).expect("its length");
        let mut old = BytesMut::from(&bytes[..text_end - TEXT_SUM_BYTES]);
        old.put_slice(&bytes[text_end..length]);
        old[9] &= !HAS_TEXT_SUM;
        finish(&mut old, 0);
        let old = old.freeze();
        assert_eq!(text_bytes(&old), Ok(None));
        assert_eq!(decode(&old), Ok((Record::Message(message), old.len())));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        for record in records() {
            let bytes = encode(&record);
            let length = u32::from_le_bytes(bytes[..4].try_into().expect("four")) as usize;
            for cut in 0..length {
                assert!(decode(&bytes.slice(..cut)).is_err(), "cut at {cut}");
            }
            for bit in 0..length * 8 {
                let mut flipped = bytes.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&flipped.into()).is_err(), "bit {bit}");
            }
        }
    }
}
