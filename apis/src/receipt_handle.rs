//! The token a consumer gives back to settle one lease. Made and checked by the store that leads
//! the queue; anyone else can read where it belongs and nothing more.
//!
//! 49 bytes, little endian, as unpadded base64url: version 1, key id 1, store group hash 4,
//! group 4, topic 4, queue 4, cursor epoch 4, offset 8, generation 4, keyed BLAKE3 over all of that 15.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::seal::{TAG, same, tag};

const VERSION: u8 = 1;
const SIGNED: usize = 34;
const BYTES: usize = SIGNED + TAG;
const TEXT: usize = (BYTES * 4).div_ceil(3);

/// One lease of one message: which cursor, which message, which delivery of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReceiptHandle {
    pub key_id: u8,
    pub store_group: u32,
    pub group: u32,
    pub topic: u32,
    pub queue: u32,
    /// Grows when the cursor is put somewhere else; older handles are void.
    pub epoch: u32,
    pub offset: u64,
    /// Grows with every delivery and change of visibility.
    pub generation: u32,
}

impl ReceiptHandle {
    /// The handle as the text clients carry, sealed with `key`.
    pub fn seal(&self, key: &[u8; 32]) -> String {
        let mut bytes = [0; BYTES];
        bytes[..SIGNED].copy_from_slice(&self.signed_bytes());
        let tag = tag(key, &bytes[..SIGNED]);
        bytes[SIGNED..].copy_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a handle without believing it; `None` when it cannot be one of ours.
    pub fn peek(text: &str) -> Option<Self> {
        decode(text).map(|bytes| Self::parse(&bytes))
    }

    /// Reads a handle and believes it: its seal fits one of the keys `key_of` knows.
    pub fn open<'k>(text: &str, key_of: impl Fn(u8) -> Option<&'k [u8; 32]>) -> Option<Self> {
        let bytes = decode(text)?;
        let handle = Self::parse(&bytes);
        let expected = tag(key_of(handle.key_id)?, &bytes[..SIGNED]);
        same(&expected, &bytes[SIGNED..]).then_some(handle)
    }

    fn signed_bytes(&self) -> [u8; SIGNED] {
        let mut b = [0; SIGNED];
        b[0] = VERSION;
        b[1] = self.key_id;
        b[2..6].copy_from_slice(&self.store_group.to_le_bytes());
        b[6..10].copy_from_slice(&self.group.to_le_bytes());
        b[10..14].copy_from_slice(&self.topic.to_le_bytes());
        b[14..18].copy_from_slice(&self.queue.to_le_bytes());
        b[18..22].copy_from_slice(&self.epoch.to_le_bytes());
        b[22..30].copy_from_slice(&self.offset.to_le_bytes());
        b[30..34].copy_from_slice(&self.generation.to_le_bytes());
        b
    }

    fn parse(b: &[u8; BYTES]) -> Self {
        let u32_at = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        Self {
            key_id: b[1],
            store_group: u32_at(2),
            group: u32_at(6),
            topic: u32_at(10),
            queue: u32_at(14),
            epoch: u32_at(18),
            offset: u64::from(u32_at(22)) | u64::from(u32_at(26)) << 32,
            generation: u32_at(30),
        }
    }
}

fn decode(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != TEXT {
        return None;
    }
    // The decoder wants room for whole quanta, a little more than it fills.
    let mut buffer = [0; BYTES + 3];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut buffer).ok()?;
    let bytes: [u8; BYTES] = buffer[..length].try_into().ok()?;
    (bytes[0] == VERSION).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn keys(id: u8) -> Option<&'static [u8; 32]> {
        (id == 1).then_some(&KEY)
    }

    fn any_handle() -> impl Strategy<Value = ReceiptHandle> {
        (any::<[u32; 5]>(), any::<u64>(), any::<u32>()).prop_map(|(n, offset, generation)| ReceiptHandle {
            key_id: 1,
            store_group: n[0],
            group: n[1],
            topic: n[2],
            queue: n[3],
            epoch: n[4],
            offset,
            generation,
        })
    }

    proptest! {
        #[test]
        fn a_handle_comes_back_as_it_went(handle in any_handle()) {
            let text = handle.seal(&KEY);
            prop_assert_eq!(ReceiptHandle::open(&text, keys), Some(handle));
            prop_assert_eq!(ReceiptHandle::peek(&text), Some(handle));
        }

        #[test]
        fn a_changed_handle_is_refused(handle in any_handle(), at in 0..TEXT, by in 1..64u8) {
            let mut text = handle.seal(&KEY).into_bytes();
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let old = alphabet.iter().position(|c| *c == text[at]).expect("base64url");
            text[at] = alphabet[(old + usize::from(by)) % 64];
            let text = String::from_utf8(text).expect("ascii");
            prop_assert_eq!(ReceiptHandle::open(&text, keys), None);
        }

        #[test]
        fn garbage_is_refused(text in ".{0,100}") {
            prop_assert_eq!(ReceiptHandle::open(&text, keys), None);
        }
    }
}
