//! What ends or changes a lease: ack, another invisible duration, dead letter.

use centaur_apis::{
    receipt_handle::ReceiptHandle,
    store::{AckEntry, ChangeVisibilityRequest, DeadLetterRequest, Error, Reason},
    v2::{
        AckMessageRequest, AckMessageResponse, AckMessageResultEntry, ChangeInvisibleDurationRequest,
        ChangeInvisibleDurationResponse, Code, ForwardMessageToDeadLetterQueueRequest,
        ForwardMessageToDeadLetterQueueResponse,
    },
};

use crate::{
    Inner,
    caller::Caller,
    metrics::Rpc,
    refusal::{self, Refusal},
    sessions::Sign,
    stores::Client,
    validate,
};

/// Settles messages for good, each on its own.
pub(crate) async fn ack(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: AckMessageRequest,
) -> Result<AckMessageResponse, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Seen);
    let topic = validate::topic(request.topic.as_ref())?;
    let group = validate::group(request.group.as_ref())?;
    if request.entries.is_empty() {
        return Err(Refusal::new(Code::BadRequest, "entries is empty; give at least 1 message to acknowledge"));
    }
    let is_ours = |handle: &str| ReceiptHandle::peek(handle).is_some();
    let entries: Vec<AckEntry> = request
        .entries
        .iter()
        .filter(|entry| is_ours(&entry.receipt_handle))
        .map(|entry| AckEntry {
            group: group.to_owned(),
            topic: topic.to_owned(),
            handle: entry.receipt_handle.clone(),
        })
        .collect();
    let mut results = match entries.is_empty() {
        true => Vec::new(),
        false => proxy.stores.ack(entries).await?,
    }
    .into_iter();
    let entries: Vec<AckMessageResultEntry> = request
        .entries
        .into_iter()
        .map(|entry| {
            let error = match is_ours(&entry.receipt_handle) {
                true => results.next().and_then(|result| result.error),
                false => Some(unreadable()),
            };
            let status = error.map_or_else(refusal::ok, |error| Refusal::from(error).into());
            AckMessageResultEntry {
                message_id: entry.message_id,
                receipt_handle: entry.receipt_handle,
                status: Some(status),
            }
        })
        .collect();
    let status = refusal::common(entries.iter().map(|entry| entry.status.as_ref()));
    Ok(AckMessageResponse { status: Some(status), entries })
}

/// Gives one leased message a new invisible duration, and with it a new receipt handle.
///
/// The answer always has a handle, also when it is a refusal: clients take it over unseen.
pub(crate) async fn change_invisible(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: ChangeInvisibleDurationRequest,
) -> ChangeInvisibleDurationResponse {
    let old = request.receipt_handle.clone();
    match change(proxy, caller, request).await {
        Ok(handle) => ChangeInvisibleDurationResponse { status: Some(refusal::ok()), receipt_handle: handle },
        Err(refusal) => unchanged(refusal, old),
    }
}

/// The answer about a lease that stays as it is.
pub(crate) fn unchanged(refusal: Refusal, handle: String) -> ChangeInvisibleDurationResponse {
    tracing::debug!(rpc = ?Rpc::ChangeInvisibleDuration, %refusal, "refused");
    ChangeInvisibleDurationResponse { status: Some(refusal.into()), receipt_handle: handle }
}

async fn change(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: ChangeInvisibleDurationRequest,
) -> Result<String, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Seen);
    let topic = validate::topic(request.topic.as_ref())?.to_owned();
    let group = validate::group(request.group.as_ref())?.to_owned();
    let invisible_ms = validate::changed_invisible(request.invisible_duration.as_ref())?;
    readable(&request.receipt_handle)?;
    let uncounted = request.suspend.unwrap_or(false);
    let change = ChangeVisibilityRequest { group, topic, handle: request.receipt_handle, invisible_ms, uncounted };
    let call = |mut client: Client| {
        let change = change.clone();
        async move { client.change_visibility(change).await }
    };
    Ok(proxy.stores.call(call).await?.handle)
}

/// Moves one message to the dead-letter topic of its group.
pub(crate) async fn dead_letter(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: ForwardMessageToDeadLetterQueueRequest,
) -> Result<ForwardMessageToDeadLetterQueueResponse, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Seen);
    let topic = validate::topic(request.topic.as_ref())?.to_owned();
    let group = validate::group(request.group.as_ref())?.to_owned();
    // Some clients send no handle: their message is found by its id.
    let by_id = request.receipt_handle.is_empty() && !request.message_id.trim().is_empty();
    if !by_id {
        readable(&request.receipt_handle)?;
    }
    let letter = DeadLetterRequest {
        group,
        topic,
        handle: request.receipt_handle,
        client: caller.client.to_owned(),
        message_id: request.message_id,
    };
    let call = |mut client: Client| {
        let letter = letter.clone();
        async move { client.dead_letter(letter).await }
    };
    match proxy.stores.call(call).await {
        Ok(_) => {}
        // No longer in flight: there is nothing left to move, and the client may stop asking.
        Err(error) if by_id && error.reason() == Reason::MessageNotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(ForwardMessageToDeadLetterQueueResponse { status: Some(refusal::ok()) })
}

fn readable(handle: &str) -> Result<(), Refusal> {
    if ReceiptHandle::peek(handle).is_none() {
        return Err(unreadable().into());
    }
    Ok(())
}

fn unreadable() -> Error {
    Error::new(
        Reason::InvalidHandle,
        "receipt_handle is not one this server gave out; use the one that came with the message",
    )
}
