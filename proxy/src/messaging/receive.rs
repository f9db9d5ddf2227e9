//! ReceiveMessage: check, wait for messages, write them out. The answer is a stream of frames put
//! together by hand: stored messages are never decoded, and bodies are copied once, into the frame.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use bytes::Bytes;
use centaur_apis::{
    store::{ChangeVisibilityRequest, Delivery, Error, PopRequest},
    v2::{ClientType, Code, ReceiveMessageRequest, ReceiveMessageResponse, Status, receive_message_response::Content},
};
use futures_util::future::join_all;
use prost::Message as _;
use prost_types::Timestamp;
use tokio_stream::Stream;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::lite;
use crate::{
    Inner,
    caller::Caller,
    convert::{self, Outgoing},
    digest::md5_hex,
    refusal::{self, Refusal},
    sessions::{RECEIVES_MAX, Sign, is_lite},
    stores::{Client, Stores},
    validate, wall_ms,
};

/// Pause before an error is answered, so that clients that ask again at once do no harm.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// When messages that were leased but not written become visible again, in ms.
const RELEASE_MS: u64 = 1_000;

/// Room for an answer without messages, in bytes.
const EMPTY_ANSWER_BYTES: usize = 256;
/// Frames are handed on together up to this size, in bytes.
const YIELD_BYTES: usize = 32 << 10;

/// Takes messages for a consumer; waits for some if there are none.
///
/// Cancel: safe; the store learns that nobody waits, or the messages are released.
pub(crate) async fn receive(proxy: &Inner, caller: &Caller<'_>, request: ReceiveMessageRequest) -> Answer {
    match take(proxy, caller, &request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            pause(caller).await;
            Answer::without_messages(refusal.into())
        }
    }
}

/// Holds an error back for a moment, within the caller's deadline.
pub(crate) async fn pause(caller: &Caller<'_>) {
    tokio::time::sleep(caller.remaining.map_or(ERROR_PAUSE, |remaining| ERROR_PAUSE.min(remaining / 2))).await;
}

async fn take(proxy: &Inner, caller: &Caller<'_>, request: &ReceiveMessageRequest) -> Result<Answer, Refusal> {
    let Some(session) = proxy.sessions.enter(caller, Sign::Receives) else {
        return Err(too_many_clients(proxy));
    };
    let polling = {
        let wanted = request.long_polling_timeout.as_ref();
        validate::polling(wanted, caller.remaining, session.request_timeout(), caller.version)?
    };
    let topic = validate::topic(request.message_queue.as_ref().and_then(|queue| queue.topic.as_ref()))?;
    let group = validate::group(request.group.as_ref())?;
    let (invisible_ms, session_bound) = validate::lease(request)?;
    let filter = validate::filter(request.filter_expression.as_ref())?;
    let attempt = validate::attempt(request)?;
    let kind = session.kind();
    lite::fits(kind, proxy.routes.known_group(group).as_deref())?;
    let _waiting = session.wait().ok_or_else(too_many_receives)?;
    let wait = if proxy.draining.is_cancelled() { Duration::ZERO } else { polling };
    let pop = PopRequest {
        group: group.to_owned(),
        topic: topic.to_owned(),
        client: caller.client.to_owned(),
        filter: Some(filter),
        messages_max: batch_size(proxy, caller, kind, request).await,
        bytes_max: proxy.config.receive_bytes_max,
        invisible_ms,
        session_bound,
        attempt: attempt.to_owned(),
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        // A group that would come into being here would not be a lite one.
        create_group: proxy.config.create_groups_on_demand && !is_lite(kind),
    };
    let popped = tokio::select! {
        // A message that is there is given out also while draining.
        biased;
        popped = proxy.stores.pop(pop) => popped.map_err(|error| unavailable(proxy, topic, error))?,
        () = proxy.draining.cancelled(), if !wait.is_zero() => return Ok(nothing_new()),
        () = session.left() => return Ok(nothing_new()),
    };
    if popped.deliveries.is_empty() {
        return Ok(nothing_new());
    }
    let origin = Origin { stores: proxy.stores.clone(), group: group.to_owned(), topic: topic.to_owned() };
    Ok(Answer::with_messages(popped.deliveries, origin, proxy.config.store_group.as_str()))
}

/// How many messages one answer may have.
///
/// The C++ push consumer tries what fails among several messages in order again by itself, for ever,
/// and nothing comes behind it. One alone goes back, and has the pauses and the end of its group.
async fn batch_size(proxy: &Inner, caller: &Caller<'_>, kind: ClientType, request: &ReceiveMessageRequest) -> u32 {
    let wanted = validate::batch_size(request.batch_size);
    if caller.language != "CPP" || kind == ClientType::SimpleConsumer {
        return wanted;
    }
    let name = request.group.as_ref().map_or("", |group| group.name.as_str());
    match proxy.routes.group(name).await {
        Ok(Some(group)) if group.fifo => 1,
        _ => wanted,
    }
}

fn nothing_new() -> Answer {
    Answer::without_messages(no_new_message().into())
}

pub(crate) fn no_new_message() -> Refusal {
    Refusal::new(Code::MessageNotFound, "no new message")
}

pub(crate) fn too_many_clients(proxy: &Inner) -> Refusal {
    let text = format!("{} clients are connected, as many as this server takes; try another", proxy.sessions.count());
    Refusal::new(Code::TooManyRequests, text)
}

pub(crate) fn too_many_receives() -> Refusal {
    let text = format!("this client has {RECEIVES_MAX} receives under way, as many as it may; wait for some of them");
    Refusal::new(Code::TooManyRequests, text)
}

pub(crate) fn unavailable(proxy: &Inner, topic: &str, error: Error) -> Refusal {
    let refusal = Refusal::from(error);
    if refusal.code == Code::TopicNotFound {
        proxy.routes.forget_topic(topic);
    }
    refusal
}

/// Where messages were taken from, and so where they go back.
#[derive(Clone)]
struct Origin {
    stores: Stores,
    group: String,
    topic: String,
}

/// The frames of one answer: status, messages, time. Messages that nobody takes out of it are
/// made visible again.
pub(crate) struct Answer {
    status: Option<Status>,
    messages: vec::IntoIter<Leased>,
    origin: Option<Origin>,
    ended: bool,
    code: Code,
}

struct Leased {
    handle: String,
    message: Outgoing,
}

/// One frame of an answer.
pub(crate) enum Frame {
    Status(Status),
    /// The server's time, which ends the answer.
    Time(Timestamp),
    /// A message, ready to be written.
    Message(Outgoing),
}

impl Answer {
    pub(crate) fn without_messages(status: Status) -> Self {
        let code = status.code();
        Self { status: Some(status), messages: Vec::new().into_iter(), origin: None, ended: false, code }
    }

    fn with_messages(deliveries: Vec<Delivery>, origin: Origin, store_host: &str) -> Self {
        let bodies: Vec<Bytes> = deliveries.iter().map(|delivery| delivery.body.clone()).collect();
        let digests = md5_hex(&bodies);
        let lease = |(delivery, digest): (Delivery, &_)| {
            let handle = delivery.handle.clone();
            Leased { handle, message: Outgoing::new(delivery, digest, store_host) }
        };
        let messages: Vec<Leased> = deliveries.into_iter().zip(&digests).map(lease).collect();
        Self {
            status: Some(refusal::ok()),
            messages: messages.into_iter(),
            origin: Some(origin),
            ended: false,
            code: Code::Ok,
        }
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

impl Stream for Answer {
    type Item = Result<Frame, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = if let Some(status) = self.status.take() {
            Frame::Status(status)
        } else if let Some(leased) = self.messages.next() {
            Frame::Message(leased.message)
        } else if !self.ended {
            self.ended = true;
            Frame::Time(convert::timestamp(wall_ms()))
        } else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let handles: Vec<String> = self.messages.by_ref().map(|leased| leased.handle).collect();
        let Some(origin) = self.origin.take().filter(|_| !handles.is_empty()) else { return };
        // Without a runtime the whole process is ending, and the leases run out by themselves.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release(origin, handles));
        }
    }
}

/// Makes messages visible again that were leased but never written.
async fn release(origin: Origin, handles: Vec<String>) {
    // All at once, so that they share a block of the log: one answer has few messages.
    join_all(handles.into_iter().map(|handle| release_one(&origin, handle))).await;
}

async fn release_one(origin: &Origin, handle: String) {
    let request = ChangeVisibilityRequest {
        group: origin.group.clone(),
        topic: origin.topic.clone(),
        handle,
        invisible_ms: RELEASE_MS,
        uncounted: true,
    };
    let call = |mut client: Client| {
        let request = request.clone();
        async move { client.change_visibility(request).await }
    };
    if let Err(error) = origin.stores.call(call).await {
        tracing::debug!(group = origin.group, topic = origin.topic, error = error.message, "lease left to run out");
    }
}

/// Reads receive requests and writes their frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReceiveCodec;

impl Codec for ReceiveCodec {
    type Encode = Frame;
    type Decode = ReceiveMessageRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for ReceiveCodec {
    type Item = Frame;
    type Error = tonic::Status;

    fn encode(&mut self, frame: Frame, out: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        let content = match frame {
            Frame::Message(message) => {
                out.reserve(message.encoded_len());
                message.encode(out);
                return Ok(());
            }
            Frame::Status(status) => Content::Status(status),
            Frame::Time(at) => Content::DeliveryTimestamp(at),
        };
        let response = ReceiveMessageResponse { content: Some(content) };
        response.encode(out).map_err(|error| tonic::Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        // Enough for an answer without messages; each message makes the room it needs.
        BufferSettings::new(EMPTY_ANSWER_BYTES, YIELD_BYTES)
    }
}

impl Decoder for ReceiveCodec {
    type Item = ReceiveMessageRequest;
    type Error = tonic::Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<ReceiveMessageRequest>, tonic::Status> {
        let request = ReceiveMessageRequest::decode(bytes);
        request.map(Some).map_err(|error| tonic::Status::internal(error.to_string()))
    }
}
