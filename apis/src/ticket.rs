//! The token a producer keeps for a message that is not in its queue yet: it recalls a scheduled
//! message, or names the transaction of a half message. Made and checked by the store.
//!
//! 42 bytes, little endian, as unpadded base64url: version 2, key id 1, purpose 1, store group hash
//! 4, topic 4, LSN 8, due time 8, keyed BLAKE3 over all of that 15.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    seal::{TAG, same, tag},
    units::Lsn,
};

/// Receipt handles have version 1.
const VERSION: u8 = 2;
const SIGNED: usize = 27;
const BYTES: usize = SIGNED + TAG;
const TEXT: usize = (BYTES * 4).div_ceil(3);

/// What a ticket is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Recall,
    Transaction,
}

/// One stored message that waits for its time or its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub key_id: u8,
    pub purpose: Purpose,
    pub store_group: u32,
    pub topic: u32,
    /// Of the message's record.
    pub lsn: Lsn,
    /// When it is due, ms; 0 for a transaction.
    pub due_ms: u64,
}

impl Ticket {
    /// The ticket as the text clients carry, sealed with `key`.
    pub fn seal(&self, key: &[u8; 32]) -> String {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.key_id;
        bytes[2] = self.purpose as u8;
        bytes[3..7].copy_from_slice(&self.store_group.to_le_bytes());
        bytes[7..11].copy_from_slice(&self.topic.to_le_bytes());
        bytes[11..19].copy_from_slice(&self.lsn.0.to_le_bytes());
        bytes[19..27].copy_from_slice(&self.due_ms.to_le_bytes());
        let tag = tag(key, &bytes[..SIGNED]);
        bytes[SIGNED..].copy_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a ticket and believes it: its seal fits one of the keys `key_of` knows.
    pub fn open<'k>(text: &str, key_of: impl Fn(u8) -> Option<&'k [u8; 32]>) -> Option<Self> {
        if text.len() != TEXT {
            return None;
        }
        // The decoder wants room for whole quanta, a little more than it fills.
        let mut buffer = [0; BYTES + 3];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut buffer).ok()?;
        let b: [u8; BYTES] = buffer[..length].try_into().ok()?;
        if b[0] != VERSION || !same(&tag(key_of(b[1])?, &b[..SIGNED]), &b[SIGNED..]) {
            return None;
        }
        let u32_at = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let purpose = match b[2] {
            0 => Purpose::Recall,
            1 => Purpose::Transaction,
            _ => return None,
        };
        Some(Self {
            key_id: b[1],
            purpose,
            store_group: u32_at(3),
            topic: u32_at(7),
            lsn: Lsn(u64_at(11)),
            due_ms: u64_at(19),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn keys(id: u8) -> Option<&'static [u8; 32]> {
        (id == 1).then_some(&KEY)
    }

    fn any_ticket() -> impl Strategy<Value = Ticket> {
        (any::<[u32; 2]>(), any::<[u64; 2]>(), any::<bool>()).prop_map(
            |([store_group, topic], [lsn, due_ms], recalls)| {
                let purpose = if recalls { Purpose::Recall } else { Purpose::Transaction };
                Ticket { key_id: 1, purpose, store_group, topic, lsn: Lsn(lsn), due_ms }
            },
        )
    }

    proptest! {
        #[test]
        fn a_ticket_comes_back_as_it_went(ticket in any_ticket()) {
            prop_assert_eq!(Ticket::open(&ticket.seal(&KEY), keys), Some(ticket));
        }

        #[test]
        fn a_changed_ticket_is_refused(ticket in any_ticket(), at in 0..TEXT, by in 1..64u8) {
            let mut text = ticket.seal(&KEY).into_bytes();
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let old = alphabet.iter().position(|c| *c == text[at]).expect("base64url");
            text[at] = alphabet[(old + usize::from(by)) % 64];
            let text = String::from_utf8(text).expect("ascii");
            prop_assert_eq!(Ticket::open(&text, keys), None);
        }
    }
}
