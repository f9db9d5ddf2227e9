//! The answer to a send, written by hand when all went well: it is by far the most frequent answer,
//! and its ids are slices of the request.

use bytes::{Buf, BufMut, Bytes};
use centaur_apis::v2::{Code, SendMessageResponse, SendResultEntry, Status};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::refusal::{self, Refusal};

/// The encoded status `OK`: code 20000 and the text "OK".
const OK: [u8; 8] = [0x08, 0xa0, 0x9c, 0x01, 0x12, 0x02, b'O', b'K'];

/// Fields of `SendMessageResponse`.
const STATUS: u32 = 1;
const ENTRIES: u32 = 2;
/// Fields of `SendResultEntry`.
const ENTRY_STATUS: u32 = 1;
const ENTRY_MESSAGE_ID: u32 = 2;
const ENTRY_TRANSACTION_ID: u32 = 3;
const ENTRY_OFFSET: u32 = 4;
const ENTRY_RECALL_HANDLE: u32 = 5;
/// All of their keys take one byte, and so does the length of the status.
const KEY: usize = 1;
const STATUS_BYTES: usize = KEY + 1 + OK.len();

/// Room for the reply to one message, in bytes.
const REPLY_BYTES: usize = 256;
/// Buffers handed on at this size, in bytes.
const YIELD_BYTES: usize = 32 << 10;

/// How a send went.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Every message was stored.
    Stored(Vec<Stored>),
    /// Anything else.
    Other(SendMessageResponse),
}

/// Where one message is now.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// As the client sent it: text.
    pub(crate) message_id: Bytes,
    pub(crate) offset: u64,
    pub(crate) ticket: Option<Ticket>,
}

/// What a client keeps of a message that is not in its queue yet.
#[derive(Clone, Debug)]
pub(crate) enum Ticket {
    /// It recalls a scheduled message.
    Recall(String),
    /// It names the transaction of a half message.
    Transaction(String),
}

impl Reply {
    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self::Other(SendMessageResponse { status: Some(refusal.into()), entries: Vec::new() })
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Stored(_) => Code::Ok,
            Self::Other(response) => response.status.as_ref().map_or(Code::Unspecified, Status::code),
        }
    }
}

impl Stored {
    /// Clients of any kind of message look for one; without a transaction it is the message id.
    fn transaction_id(&self) -> &[u8] {
        match &self.ticket {
            Some(Ticket::Transaction(id)) => id.as_bytes(),
            _ => &self.message_id,
        }
    }

    /// Empty when the message cannot be recalled.
    fn recall_handle(&self) -> &str {
        match &self.ticket {
            Some(Ticket::Recall(handle)) => handle,
            _ => "",
        }
    }

    fn encoded_len(&self) -> usize {
        let framed = |bytes: &[u8]| KEY + encoded_len_varint(bytes.len() as u64) + bytes.len();
        let offset = if self.offset == 0 { 0 } else { KEY + encoded_len_varint(self.offset) };
        let handle = if self.recall_handle().is_empty() { 0 } else { framed(self.recall_handle().as_bytes()) };
        STATUS_BYTES + framed(&self.message_id) + framed(self.transaction_id()) + offset + handle
    }

    fn encode(&self, out: &mut impl BufMut) {
        put_bytes(out, ENTRY_STATUS, &OK);
        put_bytes(out, ENTRY_MESSAGE_ID, &self.message_id);
        put_bytes(out, ENTRY_TRANSACTION_ID, self.transaction_id());
        if self.offset != 0 {
            encode_key(ENTRY_OFFSET, WireType::Varint, out);
            encode_varint(self.offset, out);
        }
        if !self.recall_handle().is_empty() {
            put_bytes(out, ENTRY_RECALL_HANDLE, self.recall_handle().as_bytes());
        }
    }
}

impl From<Stored> for SendResultEntry {
    fn from(stored: Stored) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            status: Some(refusal::ok()),
            message_id: text(&stored.message_id),
            transaction_id: text(stored.transaction_id()),
            offset: i64::try_from(stored.offset).unwrap_or(i64::MAX),
            recall_handle: stored.recall_handle().to_owned(),
        }
    }
}

fn encode_stored(entries: &[Stored], out: &mut impl BufMut) {
    put_bytes(out, STATUS, &OK);
    for entry in entries {
        encode_key(ENTRIES, WireType::LengthDelimited, out);
        encode_varint(entry.encoded_len() as u64, out);
        entry.encode(out);
    }
}

fn put_bytes(out: &mut impl BufMut, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

/// Gives send requests undecoded and writes replies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendCodec;

impl Codec for SendCodec {
    type Encode = Reply;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for SendCodec {
    type Item = Reply;
    type Error = tonic::Status;

    fn encode(&mut self, reply: Reply, out: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        match reply {
            Reply::Stored(entries) => {
                encode_stored(&entries, out);
                Ok(())
            }
            Reply::Other(response) => response.encode(out).map_err(|error| tonic::Status::internal(error.to_string())),
        }
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(REPLY_BYTES, YIELD_BYTES)
    }
}

impl Decoder for SendCodec {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        // None in advance: a request mostly comes in one piece, which makes it just large enough.
        BufferSettings::new(0, YIELD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_ticket() -> impl Strategy<Value = Option<Ticket>> {
        proptest::option::of(prop_oneof![".{1,80}".prop_map(Ticket::Recall), ".{1,80}".prop_map(Ticket::Transaction),])
    }

    fn any_stored() -> impl Strategy<Value = Stored> {
        (".{1,200}", 0..u64::MAX / 2, any_ticket()).prop_map(|(id, offset, ticket)| Stored {
            message_id: id.into_bytes().into(),
            offset,
            ticket,
        })
    }

    proptest! {
        #[test]
        fn a_reply_by_hand_is_the_reply_by_the_book(stored in proptest::collection::vec(any_stored(), 0..5)) {
            let mut by_hand = Vec::new();
            encode_stored(&stored, &mut by_hand);
            let entries: Vec<SendResultEntry> = stored.into_iter().map(SendResultEntry::from).collect();
            let by_the_book = SendMessageResponse { status: Some(refusal::ok()), entries };
            prop_assert_eq!(by_hand, by_the_book.encode_to_vec());
        }
    }
}
