//! RecallMessage: takes a scheduled message back before it is due.

use centaur_apis::{
    log::TopicType,
    store::{Error, Reason, RecallRequest},
    v2::{Code, RecallMessageRequest, RecallMessageResponse},
};

use crate::{
    Inner,
    caller::Caller,
    refusal::{self, Refusal},
    sessions::Sign,
    stores::Client,
    validate,
};

/// Recalls a message by the handle that came with the answer to its send.
pub(crate) async fn recall(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: RecallMessageRequest,
) -> Result<RecallMessageResponse, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Seen);
    let topic = validate::topic(request.topic.as_ref())?.to_owned();
    takes_delays(proxy, &topic).await?;
    if request.recall_handle.trim().is_empty() {
        let text = "recall_handle is blank; give the one that came with the answer to the send";
        return Err(Refusal::new(Code::BadRequest, text));
    }
    let recall = RecallRequest { topic, ticket: request.recall_handle };
    let call = |mut client: Client| {
        let recall = recall.clone();
        async move { client.recall(recall).await }
    };
    let recalled = proxy.stores.call(call).await.map_err(refused)?;
    Ok(RecallMessageResponse { status: Some(refusal::ok()), message_id: recalled.message_id })
}

/// Only topics of two types have messages that can be recalled.
async fn takes_delays(proxy: &Inner, topic: &str) -> Result<(), Refusal> {
    let is_fit = |kind| matches!(kind, TopicType::Delay | TopicType::Mixed);
    if is_fit(proxy.routes.topic(topic).await?.kind) {
        return Ok(());
    }
    // The topic may have been changed a moment ago.
    let kind = proxy.routes.renew_topic(topic).await?.kind;
    if is_fit(kind) {
        return Ok(());
    }
    let text = format!("topic {topic:?} takes {} messages; only delayed ones are recalled", kind.as_str_name());
    Err(Refusal::new(Code::MessagePropertyConflictWithType, text))
}

fn refused(error: Error) -> Refusal {
    match error.reason() {
        // Not MESSAGE_NOT_FOUND: some clients take that for success in every answer.
        Reason::MessageNotFound => Refusal::new(Code::NotFound, error.message),
        Reason::InvalidHandle => Refusal::new(Code::BadRequest, error.message),
        _ => error.into(),
    }
}
