//! PullMessage: reads one queue from an offset on, without leases.

use std::vec;

use centaur_apis::{
    store::ReadRequest,
    v2::{Code, PullMessageRequest, PullMessageResponse, pull_message_response::Content},
};
use tokio_stream::Iter;

use super::receive::{no_new_message, pause, too_many_clients, too_many_receives, unavailable};
use crate::{
    Inner,
    caller::Caller,
    convert,
    refusal::{self, Refusal},
    sessions::Sign,
    validate,
};

/// What is written to the client.
pub(crate) type Frames = Iter<vec::IntoIter<Result<PullMessageResponse, tonic::Status>>>;

/// Status, messages, next offset; of a refusal the status alone.
pub(crate) struct Answer {
    pub(crate) code: Code,
    pub(crate) stream: Frames,
}

/// Reads messages; waits for some if there are none.
///
/// Cancel: safe; nothing is changed.
pub(crate) async fn pull(proxy: &Inner, caller: &Caller<'_>, request: PullMessageRequest) -> Answer {
    match read(proxy, caller, &request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            pause(caller).await;
            refuse(refusal)
        }
    }
}

/// An answer without messages or place.
pub(crate) fn refuse(refusal: Refusal) -> Answer {
    answer(refusal.code, vec![Content::Status(refusal.into())])
}

async fn read(proxy: &Inner, caller: &Caller<'_>, request: &PullMessageRequest) -> Result<Answer, Refusal> {
    let Some(session) = proxy.sessions.enter(caller, Sign::Active) else { return Err(too_many_clients(proxy)) };
    let wanted = request.long_polling_timeout.as_ref();
    let polling = validate::polling(wanted, caller.remaining, session.request_timeout(), caller.version)?;
    let (topic, queue) = validate::queue(request.message_queue.as_ref())?;
    let group = match &request.group {
        Some(group) if !group.name.is_empty() => validate::group(request.group.as_ref())?,
        _ => "",
    };
    let offset = validate::offset(request.offset)?;
    let _waiting = session.wait().ok_or_else(too_many_receives)?;
    let is_draining = proxy.draining.is_cancelled();
    let read = ReadRequest {
        topic: topic.to_owned(),
        queue,
        offset,
        messages_max: validate::batch_size(request.batch_size),
        bytes_max: proxy.config.receive_bytes_max,
        filter: Some(validate::filter(request.filter_expression.as_ref())?),
        wait_ms: if is_draining { 0 } else { u64::try_from(polling.as_millis()).unwrap_or(u64::MAX) },
        group: group.to_owned(),
    };
    let page = tokio::select! {
        // A message that is there is given out also while draining.
        biased;
        page = proxy.stores.read(read) => page.map_err(|error| unavailable(proxy, topic, error))?,
        () = proxy.draining.cancelled(), if !is_draining => return Ok(nothing(offset)),
    };
    if page.messages.is_empty() {
        return Ok(nothing(page.next_offset));
    }
    let messages = convert::to_public(page.messages, proxy.config.store_group.as_str()).map_err(|error| {
        Refusal::new(Code::InternalServerError, format!("a stored message cannot be read: {error}"))
    })?;
    let mut contents = vec![Content::Status(refusal::ok())];
    contents.extend(messages.into_iter().map(Content::Message));
    contents.push(next(page.next_offset));
    Ok(answer(Code::Ok, contents))
}

fn nothing(next_offset: u64) -> Answer {
    let refusal = no_new_message();
    answer(refusal.code, vec![Content::Status(refusal.into()), next(next_offset)])
}

fn next(offset: u64) -> Content {
    Content::NextOffset(i64::try_from(offset).unwrap_or(i64::MAX))
}

fn answer(code: Code, contents: Vec<Content>) -> Answer {
    let frames: Vec<_> =
        contents.into_iter().map(|content| Ok(PullMessageResponse { content: Some(content) })).collect();
    Answer { code, stream: tokio_stream::iter(frames) }
}
